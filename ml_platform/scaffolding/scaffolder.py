"""What `dg scaffold defs` runs for the platform's components."""

from pathlib import Path
from typing import Any, ClassVar

import click
import dagster as dg
from pydantic import BaseModel, Field, ValidationError, create_model

from ml_platform import declarations
from ml_platform.kernel.errors import PlatformError
from ml_platform.kernel.spec import REFERS_TO, NamedSpec, marks_of
from ml_platform.scaffolding.declaration import declaration_text
from ml_platform.scaffolding.fitting import Fitting, is_several


class SpecScaffolder(dg.Scaffolder[Any]):
    """Writes a valid declaration in which every field is told, from the spec and from what is declared already."""

    spec_type: ClassVar[type[NamedSpec]]

    @classmethod
    def get_scaffold_params(cls) -> type[BaseModel]:
        """One option for each field that is one text and has to be said, or names another declaration."""
        fields: dict[str, Any] = {
            name: (str, Field(default="", description=info.description))
            for name, info in cls.spec_type.model_fields.items()
            if name != "name" and not is_several(info)
            if REFERS_TO in marks_of(info) or (info.is_required() and not _is_mapping(info.examples))
        }
        return create_model(f"{cls.spec_type.__name__}Options", **fields)

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write `defs.yaml`; click's error, with nothing left behind, for a value that the spec refuses."""
        folder = request.target_path.parent if request.append else request.target_path
        try:
            text = self._text(request, folder)
        except (PlatformError, click.ClickException) as err:
            if not request.append and not any(folder.iterdir()):
                folder.rmdir()  # dg has made it, and would refuse to make it again
            raise err if isinstance(err, click.ClickException) else click.ClickException(str(err)) from err
        if request.append:
            with request.target_path.open("a", encoding="utf-8") as file:
                file.write(f"---\n{text}")
        else:
            (folder / "defs.yaml").write_text(text, encoding="utf-8")

    def _text(self, request: dg.ScaffoldRequest[Any], folder: Path) -> str:
        if request.scaffold_format != "yaml":
            raise click.ClickException(
                f"--format yaml is required: declarations are read without running Python; got "
                f"{request.scaffold_format}. Nothing was written; leave it out"
            )
        given = {name: value for name, value in request.params.model_dump().items() if value}
        fitting = Fitting(self.spec_type, declarations.load(), _use_case(folder), given)
        values = fitting.values(folder.name)
        try:
            self.spec_type.model_validate({key: found.value for key, found in values.items()})
        except ValidationError as err:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors())
            raise click.ClickException(f"{self.spec_type.__name__}: {problems}. Nothing was written") from err
        return declaration_text(request.type_name, self.spec_type, values)


def scaffolder_of(spec_type: type[NamedSpec]) -> type[SpecScaffolder]:
    """The scaffolder of a component that is declared by a spec."""
    return type(f"{spec_type.__name__}Scaffolder", (SpecScaffolder,), {"spec_type": spec_type})


def _use_case(folder: Path) -> str:
    """The folder below `defs` that a declaration is put into."""
    defs = declarations.defs_folder()
    return folder.resolve().relative_to(defs).parts[0] if folder.resolve().is_relative_to(defs) else ""


def _is_mapping(examples: list[Any] | None) -> bool:
    return bool(examples) and isinstance(examples[0], dict)
