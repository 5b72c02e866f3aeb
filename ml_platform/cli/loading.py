"""Commands are imported when they are asked for: none waits for the libraries of another, and completion for none."""

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import typer
from click.shell_completion import CompletionItem
from typer.core import TyperGroup

_WHERE = {
    "features": "features:features_app",
    "drift": "drift:drift_app",
    "gate": "gates:gate_app",
    "refused": "refused:refused_app",
    "lake": "lake:lake_app",
    "models": "models:models_app",
    "notifications": "notifications:notifications_app",
    "releases": "releases:releases_app",
    "training-sets": "training_sets:training_sets_app",
    "sql": "sql:sql",
    "stale": "stale:stale",
    "plan": "plan:plan",
    "ci": "ci:ci",
    "serve": "serve:serve",
    "serving-key": "serve:serving_key",
    "metrics": "metrics:metrics",
    "webserver": "webserver:webserver",
    "doctor": "doctor:doctor",
    "up": "up:up",
    "init": "init:init",
}
"""By command, the function or group of commands that it is: `module:name` below `ml_platform.cli`."""


class CommandsOnDemand(TyperGroup):
    """A group that has its own commands and those that are named here."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands(self.commands)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Names, without importing what they name; or this command's own options."""
        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name) for name in self.commands if name.startswith(incomplete)]


class _Commands(MutableMapping[str, Any]):
    """Commands by name; one that is named above is imported when it is taken."""

    def __init__(self, own: Mapping[str, Any]) -> None:
        self._loaded = dict(own)
        self._names = dict.fromkeys([*own, *_WHERE])

    def __getitem__(self, name: str) -> Any:
        if name not in self._loaded:
            self._loaded[name] = _loaded(name, _WHERE[name])
        return self._loaded[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._names[name], self._loaded[name] = None, command

    def __delitem__(self, name: str) -> None:
        del self._names[name]
        self._loaded.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _loaded(name: str, where: str) -> Any:
    module, _, attribute = where.partition(":")
    found: Any = getattr(importlib.import_module(f"ml_platform.cli.{module}"), attribute)
    around = typer.Typer()
    if isinstance(found, typer.Typer):
        around.add_typer(found, name=name)
    else:
        around.command(name)(found)
    return typer.main.get_group(around).commands[name]
