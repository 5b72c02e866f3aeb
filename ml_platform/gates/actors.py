"""Who acts in a run: the one place that says what the tags of a run mean for the ledgers."""

from collections.abc import Mapping

from ml_platform.kernel.settings import Settings

USER = "user"
"""Dagster's own tag: its UI shows it as who launched a run or a backfill."""

_LAUNCHED_BY = {"sensor": "dagster/sensor_name", "schedule": "dagster/schedule_name"}


def actor_of(tags: Mapping[str, str], settings: Settings) -> str:
    """Who had a run launched: the person who signed in, else the sensor or schedule, else who runs this process.

    A person is believed only where a proxy names those who sign in, because there the webserver writes that tag over
    whatever a client has sent. Anywhere else everybody can give a run any tag.
    """
    if settings.user_header is not None and tags.get(USER):
        return tags[USER]
    for kind, tag in _LAUNCHED_BY.items():
        if tags.get(tag):
            return f"{kind} {tags[tag]}"
    return settings.who
