"""Pages of the reference that the site makes when it is built: nobody writes them, so none of them can be out of date.

mkdocs runs this as a hook. Every declaration with its fields comes from the specs, every command from the command line
itself, every setting and every method of the SDK from its class.
"""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_platform
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.settings import PROJECT_ROOT, Settings

JsonSchema = Mapping[str, Any]
_BOUNDS = MappingProxyType(
    {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "pattern": "matching `{}`",
    }
)


def on_config(config: Any) -> Any:
    """Put what is generated, and every decision, into the navigation."""
    (reference,) = [section["Reference"] for section in config.nav if "Reference" in section]
    reference += [{"Declarations": [{name: _declaration_path(name)} for name in sorted(declarations())]}]
    decisions = sorted(Path(config.docs_dir, "decisions").glob("*.md"))
    config.nav.append({"Decisions": [f"decisions/{path.name}" for path in decisions]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages to those that are written."""
    from mkdocs.structure.files import File

    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    return files


def pages() -> dict[str, str]:
    """Markdown of every generated page by its path in the site."""
    found = {
        "reference/commands.md": commands(),
        "reference/settings.md": settings_page(),
        "reference/sdk.md": sdk(),
        "notebook.md": notebook(Path(__file__).with_name("notebook.ipynb")),
    }
    return found | {_declaration_path(name): declaration(name, spec) for name, spec in declarations().items()}


def declarations() -> dict[str, Any]:
    """The spec of every component that a `defs.yaml` can name, by the component's import path."""
    from ml_platform.compiler import SpecComponent

    found: dict[str, Any] = {}
    for package in pkgutil.iter_modules(ml_platform.__path__):
        if not package.ispkg or not Path(ml_platform.__path__[0], package.name, "component.py").exists():
            continue
        module = importlib.import_module(f"ml_platform.{package.name}.component")
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if issubclass(kind, SpecComponent) and kind.__module__ == module.__name__:
                found[f"{module.__name__}.{name}"] = kind
    return {name: kind.spec_type for name, kind in found.items() if hasattr(kind, "spec_type")}


def declaration(name: str, spec: Any) -> str:
    """One kind of declaration: its fields, and those of what is nested in it."""
    schema = spec.model_json_schema()
    parts = schema.get("$defs", {})
    text = f"# {name.rpartition('.')[2]}\n\n{_prose(schema)}\n\n```yaml\ntype: {name}\nattributes:\n"
    text += "".join(f"  {field}: …\n" for field in schema.get("required", ())) + "```\n\n"
    text += "Fields without a default are required.\n\n"
    for part in (schema, *(parts[key] for key in sorted(parts))):
        if "properties" in part:
            heading = "Fields" if part is schema else part["title"]
            described = "" if part is schema else f"{_prose(part)}\n\n"
            text += f"## {heading}\n\n{described}{_fields(part)}\n"
    return text


def settings_page() -> str:
    """Every setting as the variable that sets it."""
    schema = Settings.model_json_schema(by_alias=False)
    serving = schema["$defs"]["ServingSettings"]
    rows = [
        (_variable(name), field)
        for name, field in schema["properties"].items()
        if name not in ("serving", "region")
    ]
    rows += [("AWS_REGION", schema["properties"]["region"])]
    rows += [(f"ML_PLATFORM_SERVING__{name.upper()}", field) for name, field in serving["properties"].items()]
    head = "# Settings\n\nVariables of the environment. Every one has a default, so that a laptop needs none.\n\n"
    return head + _table("variable", [(name, _described(field)) for name, field in rows])


def commands() -> str:
    """Every command with its arguments and options, as typer itself documents them."""
    import typer
    from typer.cli import get_docs_for_click

    from ml_platform.cli.main import app

    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="ml-platform", title="Commands")
    return re.sub(r"`\{(\w+)\}`", r"`\1`", text)


def sdk() -> str:
    """What a notebook reads with: the classes of the SDK and what each method says of itself."""
    from ml_platform.sdk.features import Features
    from ml_platform.sdk.models import Model
    from ml_platform.sdk.platform import Platform
    from ml_platform.sdk.rows import Rows

    text = "# Notebooks and scripts\n\n`from ml_platform import Platform` reads everything by name.\n"
    for kind in (Platform, Features, Model, Rows):
        text += f"\n## {kind.__name__}\n\n{inspect.getdoc(kind)}\n"
        for name, member in vars(kind).items():
            told = inspect.getdoc(member) if not name.startswith("_") else None
            if told and (callable(member) or isinstance(member, property)):
                signature = _signature(name, member)
                text += f"\n### `{signature}`\n\n{told}\n"
    return text


def notebook(path: Path) -> str:
    """An executed notebook as a page: its text, its code, and what came of it."""
    text = ""
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        text += f"{source}\n\n" if cell["cell_type"] == "markdown" else f"```python\n{source}\n```\n\n"
        for output in cell.get("outputs", ()):
            shown = "".join(output["data"]["text/plain"])
            text += f"```text\n{shown}\n```\n\n"
    return text


def _signature(name: str, member: Any) -> str:
    if isinstance(member, property):
        return name
    return name + re.sub(r"\bself, |\bself\b|'", "", str(inspect.signature(member)))


def _declaration_path(name: str) -> str:
    return f"reference/declarations/{name.removeprefix('ml_platform.').replace('.component.', '.')}.md"


def _variable(name: str) -> str:
    return f"ML_PLATFORM_{name.upper()}" + ("__NAME" if name == "webhooks" else "")


def _prose(schema: JsonSchema) -> str:
    return str(schema.get("description", "")).strip()


def _fields(part: JsonSchema) -> str:
    required = part.get("required", ())
    rows = [
        (name, _described(field, required=name in required)) for name, field in part["properties"].items()
    ]
    return _table("field", rows)


def _described(field: JsonSchema, *, required: bool = False) -> tuple[str, str, str]:
    """Type, default and description of a field."""
    default = "required" if required else _default(field.get("default"))
    return _type(field), default, " ".join(str(field.get("description", "")).split())


def _table(first: str, rows: Sequence[tuple[str, tuple[str, str, str]]]) -> str:
    lines = [f"| {first} | type | default | what |", "| --- | --- | --- | --- |"]
    lines += ["| " + " | ".join(map(_cell, (f"`{name}`", *told))) + " |" for name, told in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """Text of a table's cell: no column ends in it, and outside of code no `<` begins a tag."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if i % 2 else part.replace("<", "&lt;") for i, part in enumerate(parts))


def _default(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, str) and value.startswith(str(PROJECT_ROOT)):
        return f"`{Path(value).relative_to(PROJECT_ROOT)}` in the project's folder"
    if isinstance(value, dict) and set(value) == {"seconds"}:
        return f"`{Duration(value['seconds'])}`"
    return (
        "see below"
        if isinstance(value, dict)
        else f"`{str(value).lower() if value in (True, False) else value}`"
    )


def _type(field: JsonSchema) -> str:
    """A JSON schema's type in words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field or "oneOf" in field:
        kinds = [kind for kind in field.get("anyOf", field.get("oneOf", ())) if kind.get("type") != "null"]
        return " or ".join(dict.fromkeys(map(_type, kinds)))
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return ", ".join(f"`{str(v).lower() if isinstance(v, bool) else v}`" for v in values)
    if "allOf" in field:
        return _type(field["allOf"][0])
    bounds = ", ".join(_bounds(field))
    return f"{_plain(field)}, {bounds}" if bounds else _plain(field)


def _plain(field: JsonSchema) -> str:
    kind = field.get("type", "anything")
    if kind == "array":
        items = field.get("items", {})
        several = field.get("prefixItems")
        inside = ", ".join(dict.fromkeys(map(_type, several))) if several else _type(items)
        return f"list of {inside}"
    if kind == "object":
        values = field.get("additionalProperties")
        return f"mapping to {_type(values)}" if isinstance(values, dict) else "mapping"
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)


def _bounds(field: JsonSchema) -> Iterator[str]:
    for key, words in _BOUNDS.items():
        if key in field:
            yield words.format(field[key])
