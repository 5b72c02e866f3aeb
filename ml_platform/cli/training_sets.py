"""`ml-platform training-sets …`: what a model was trained on, and the very same rows again."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ml_platform.cli.output import Json, say, telling_errors
from ml_platform.kernel.settings import settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.named import named_version

training_sets_app = typer.Typer(help="What models were trained on.", no_args_is_help=True)
Model = Annotated[
    str, typer.Option(help="A registered version by alias or number: `NAME@champion` or `NAME@3`.")
]


@training_sets_app.command()
def rebuild(
    model: Model,
    output: Annotated[Path | None, typer.Option(help="Parquet file to write the rows to.")] = None,
    as_json: Json = False,
) -> None:
    """Build a version's training set again from its manifest. Exit code 1 when its rows are not the recorded ones.

    Declarations, on-demand functions and data files are those of then; where a function has changed since, its
    source text in the manifest is run.
    """
    from ml_platform.training_sets.store import rebuild as built_again

    console = Console(stderr=as_json)
    with telling_errors(console):
        here = settings().prepare()
        version = named_version(here, model)
        manifest = registry.load_document(here, version, "manifest.json")
        found = built_again(here, manifest)
        if output is not None:
            import pyarrow.parquet as pq

            pq.write_table(found.rows, output)
    report = {
        "model": version.name,
        "version": version.version,
        "training_set": manifest["training_set"],
        "partition": manifest["partition"],
        "rows": found.rows.num_rows,
        "recorded": found.recorded,
        "rebuilt": found.content_hash,
        "identical": found.identical,
        "other_code": list(found.other_code),
    }
    say(console, _in_words(report))
    if as_json:
        print(json.dumps(report))
    raise typer.Exit(0 if found.identical else 1)


@training_sets_app.command()
def manifest(model: Model) -> None:
    """Print the manifest of a version's training set, as JSON: declarations, code, table versions, files, hashes."""
    console = Console(stderr=True)
    with telling_errors(console):
        here = settings().prepare()
        found = registry.load_document(here, named_version(here, model), "manifest.json")
    print(json.dumps(found, indent=2, sort_keys=True))


def _in_words(report: dict[str, Any]) -> str:
    made = f"training_sets/{report['training_set']} [{report['partition']}], {report['rows']:,} rows"
    lines = [
        f"{report['model']} version {report['version']}: {made}",
        f"  recorded {report['recorded']}",
        f"  rebuilt  {report['rebuilt']}  {'identical' if report['identical'] else 'NOT identical'}",
    ]
    if report["other_code"]:
        lines.append(f"  made by other code than now: {', '.join(report['other_code'])}")
    return "\n".join(lines)
