"""`ml-platform models …`: what is known of a registered version."""

from typing import Annotated

import typer
from rich.console import Console

from ml_platform.cli.output import telling_errors
from ml_platform.cli.training_sets import named_version
from ml_platform.kernel.settings import settings
from ml_platform.model_registry import registry

models_app = typer.Typer(help="What is known of registered models.", no_args_is_help=True)


@models_app.callback()
def _group() -> None:
    """What is known of registered models."""


@models_app.command()
def card(
    model: Annotated[
        str, typer.Argument(help="A model, or one version of it: `fraud`, `fraud@champion` or `fraud@3`.")
    ],
) -> None:
    """Print the model card of a version as Markdown; of a name alone, that of the champion."""
    from ml_platform.models.card import DOCUMENT

    console = Console(stderr=True)
    with telling_errors(console):
        here = settings().prepare()
        version = named_version(here, model if "@" in model else f"{model}@{registry.CHAMPION}")
        text = registry.load_text(here, version, DOCUMENT)
    print(text, end="")
