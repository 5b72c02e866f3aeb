"""The product's main job on embedded defaults: from raw events to a served prediction, and two bad days.

Everything goes through Dagster's own run machinery on the instance of this home, so that the UI shows it.
"""

import datetime as dt
import json
import resource
import time
from typing import Any

from rich.console import Console

from ml_platform.cli.demo_run import Demo, Options
from ml_platform.cli.instance import RunReport
from ml_platform.cli.story import corrupted, scaled
from ml_platform.cli.summary import gate_results, keep_summary
from ml_platform.gates.acceptances import Acceptance, accept, accepted
from ml_platform.kernel.errors import InputError, PlatformError
from ml_platform.kernel.partitions import ONE_DAY, key_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.online.spec import OnlineStoreSpec
from ml_platform.sources.landing import ingest
from ml_platform.sources.store import landed_days


def run(settings: Settings, options: Options, console: Console) -> dict[str, Any]:
    """The whole demo; returns the summary, which is also kept beside the lake."""
    started = time.perf_counter()
    demo = Demo(settings, options, console)
    newest = build_history(demo)
    demo.shown["model"] = train(demo, newest)
    demo.shown["prediction"] = predict(demo)
    corrupt_day = newest + ONE_DAY
    demo.shown["corrupted"] = corrupted_day(demo, corrupt_day)
    demo.shown["drifted"] = drifted_day(demo, corrupt_day + ONE_DAY)
    summary = {
        "total_s": round(time.perf_counter() - started, 1),
        "stages": {name: round(seconds, 1) for name, seconds in demo.stages.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        **demo.shown,
        "gates": gate_results(demo.runner.instance, demo.catalog.beside(demo.release)),
        "home": str(settings.root),
    }
    keep_summary(settings, summary)
    return summary


def build_history(demo: Demo) -> dt.date:
    """Land and materialize the past, in range runs; the newest day."""
    console, events = demo.console, demo.events
    console.rule("[bold]the past: sources, features, online, drift", align="left")
    days = demo.options.days or demo.script["days"]
    with demo.stage("sources", "deliveries of the past"):
        files = demo.deliveries.history(demo.settings, events.start, days)
    for source in (events, demo.labels):
        with demo.stage("sources", f"ingest {source.name}"):
            for path in files:
                ingest(demo.settings, source, path)
    first, newest = _landed_range(demo)
    rows = sum(
        _row_counts(demo.make("sources", [source.key], first, newest), source.key)
        for source in (events, demo.labels)
    )
    for view in demo.views:
        demo.make("features", [view.key], first, newest)
    publish_online(demo, first, newest)
    for profile in demo.profiles:
        demo.make("drift_profiles", [profile.key], key_of(profile.first_day(demo.catalog)), newest)
    partitions = (dt.date.fromisoformat(newest) - dt.date.fromisoformat(first)).days + 1
    demo.shown |= {"rows": rows // 2, "partitions": partitions, "newest": newest}
    return dt.date.fromisoformat(newest)


def publish_online(demo: Demo, first: str, last: str) -> None:
    """Apply the registry and publish the newest snapshot of each view that the release reads."""
    for store in demo.catalog.all(OnlineStoreSpec):
        demo.make("online", [store.registry_key])
        for view in store.view_specs(demo.catalog):
            if view in demo.views:
                demo.make("online", [f"online/{view.name}"], first, last)


def train(demo: Demo, day: dt.date) -> dict[str, Any]:
    """Training set, model and release of one day."""
    demo.console.rule(f"[bold]{key_of(day)}: training set, model, release", align="left")
    rows = demo.model.training_set_spec(demo.catalog)
    demo.make("training_sets", [rows.key], key_of(day))
    made = demo.make("models", [demo.model.key], key_of(day)).metadata(demo.model.key)
    released = demo.make("releases", [demo.release.key]).metadata(demo.release.key)
    names = ("version", "auc_roc", "average_precision", "precision", "recall")
    return {
        "partition": key_of(day),
        **{name: made.get(name) for name in names},
        "champion": released["champion"],
    }


def predict(demo: Demo) -> dict[str, Any]:
    """Ask the online features and the champion for one prediction, as serving would."""
    from ml_platform.cli.predict import predict_event

    demo.console.rule("[bold]one prediction, from online features and the champion", align="left")
    with demo.stage("serving", "online features, on-demand features, ONNX"):
        answer = predict_event(demo.settings, demo.catalog, demo.model)
    demo.console.print_json(json.dumps(answer))
    return answer


def corrupted_day(demo: Demo, day: dt.date) -> dict[str, Any]:
    """Land a corrupted day, see the model refused, deliver the day again, see the model updated."""
    key = key_of(day)
    good = demo.deliveries.good(demo.settings, day)

    def refused() -> dict[str, Any]:
        demo.console.rule(f"[bold]{key} is delivered corrupted", align="left")
        bad_rows = corrupted(good, demo.events.file_columns()[demo.script["corrupt"]])
        bad = ingest(demo.settings, demo.events, demo.deliveries.write(bad_rows, f"{key}-corrupted"))
        audit = demo.attempt("refusals", [demo.events.key], key)
        return {"digest": bad.digest, "audit": audit.error, **_refused_model(demo, key)}

    def delivered_again() -> dict[str, Any]:
        demo.console.rule(f"[bold]{key} is delivered again, good", align="left")
        path = demo.deliveries.write(good, f"{key}-good")
        ingest(demo.settings, demo.events, path, replaces=refusal["digest"])
        _materialize_day(demo, day)
        return train(demo, day)

    refusal = demo.once("corrupted", refused)
    return {"partition": key, **refusal, "afterwards": demo.once("delivered again", delivered_again)}


def drifted_day(demo: Demo, day: dt.date) -> dict[str, Any]:
    """Land a drifted day, see the model refused, accept the drift, see the model trained."""
    key, change = key_of(day), demo.script["drift"]
    reason = "demo: the change is real, and it stays"

    def refused() -> dict[str, Any]:
        demo.console.rule(f"[bold]{key}: {change['column']} × {change['factor']}", align="left")
        rows = scaled(demo.deliveries.good(demo.settings, day), change["column"], by=change["factor"])
        ingest(demo.settings, demo.events, demo.deliveries.write(rows, f"{key}-drifted"))
        _materialize_day(demo, day, may_drift=True)
        demo.make("training_sets", [demo.model.training_set_spec(demo.catalog).key], key)
        return _refused_model(demo, key)

    def let_through() -> dict[str, Any]:
        lake = Lake(demo.settings.lake_uri)
        for profile in demo.profiles:
            if key not in accepted(lake, profile.key, "drift"):
                acceptance = Acceptance(profile.key, "drift", key, reason, demo.settings.who)
                accept(demo.runner.instance, lake, acceptance)
            said = f"ml-platform drift accept {profile.key} {key} --reason '{reason}'"
            demo.console.print(f"  [green]✓[/] {said}")
        return train(demo, day)

    refusal = demo.once("drifted", refused)
    return {
        "partition": key,
        **refusal,
        "accepted": reason,
        "afterwards": demo.once("accepted", let_through),
    }


def _materialize_day(demo: Demo, day: dt.date, *, may_drift: bool = False) -> None:
    key = key_of(day)
    demo.make("sources", [demo.events.key], key)
    for view in demo.views:
        demo.make("features", [view.key], key)
    publish_online(demo, key, key)
    for profile in demo.profiles:
        (demo.attempt if may_drift else demo.make)("drift_profiles", [profile.key], key)


def _refused_model(demo: Demo, key: str) -> dict[str, Any]:
    """Try to train the day's model, as the daily retraining would, and show why it is refused."""
    from ml_platform.model_registry import registry

    before = registry.champion(demo.settings, demo.model.name)
    report = demo.attempt("refusals", [demo.model.key], key)
    after = registry.champion(demo.settings, demo.model.name)
    if report.success:
        raise PlatformError(
            f"{demo.model.key} [{key}] had to be refused, and was trained in run {report.run_id}"
        )
    demo.console.print(report.error, style="yellow", markup=False, highlight=False, soft_wrap=True)
    same = before is not None and after is not None and before.version == after.version
    demo.console.print(
        f"  champion: version {after.version if after else '-'}, {'unchanged' if same else 'CHANGED'}"
    )
    return {"refusal": report.error, "champion_unchanged": same}


def _landed_range(demo: Demo) -> tuple[str, str]:
    lake = Lake(demo.settings.lake_uri)
    days = landed_days(lake, demo.events.name) & landed_days(lake, demo.labels.name)
    if not days:
        raise InputError("deliveries with events and labels are required; none has landed")
    return min(days), max(days)


def _row_counts(report: RunReport, asset: str) -> int:
    counts = [
        m.metadata["dagster/partition_row_count"].value
        for m in report.materializations
        if m.asset_key.to_user_string() == asset
    ]
    return sum(int(str(count)) for count in counts if count is not None)
