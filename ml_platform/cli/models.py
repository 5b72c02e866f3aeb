"""`ml-platform models …`: what is known of a registered version."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from ml_platform.cli.completing import names_of
from ml_platform.cli.output import say, telling_errors
from ml_platform.kernel.markdown import table
from ml_platform.kernel.settings import settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.named import named_version

models_app = typer.Typer(help="What is known of registered models.", no_args_is_help=True)


@models_app.callback()
def _group() -> None:
    """What is known of registered models."""


@models_app.command()
def card(
    model: Annotated[
        str,
        typer.Argument(
            help="A model, or one version of it: `NAME`, `NAME@champion` or `NAME@3`.",
            autocompletion=names_of("Model"),
        ),
    ],
) -> None:
    """Print the model card of a version as Markdown; of a name alone, that of the champion.

    The card is of when it was registered; how it was released since is added
    from the promotions ledger. Which aliases the version has now goes to
    standard error.
    """
    from ml_platform.models.card import DOCUMENT
    from ml_platform.releases.store import moves_of

    console = Console(stderr=True)
    with telling_errors(console):
        here = settings().prepare()
        version = named_version(here, model if "@" in model else f"{model}@{registry.CHAMPION}")
        text = registry.load_text(here, version, DOCUMENT)
        known = registry.aliases(here)[version.name]
        moves = moves_of(here, version.name, version.version)
    aliases = sorted(alias for alias, number in known.items() if number == version.version)
    say(console, f"{version.name} version {version.version}, {', '.join(aliases) or 'without an alias'}")
    print(f"{text}\n## Releases\n\n{_released(moves)}")


def _released(moves: Sequence[Mapping[str, Any]]) -> str:
    """What was done to a version since it was registered, as Markdown."""
    rows = []
    for move in moves:
        evidence = json.loads(move["evidence"] or "{}")
        checks = evidence.get("checks") or {}
        seen = "; ".join(f"{check}: {observed}" for check, observed in checks.items())
        change = f"{move['action']}, version {move['previous'] or 'none'} to {move['version']}"
        rows.append(
            (
                f"{move['recorded_at']:%Y-%m-%d %H:%M} UTC",
                change,
                move["actor"],
                move["reason"],
                seen or "by hand",
            )
        )
    return table(("when", "what", "by", "why", "what its checks saw"), rows)
