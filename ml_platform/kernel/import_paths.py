"""Does an import path name something that is installed? Read from files, so that nothing is imported for it.

Definitions must load without the seconds that scikit-learn takes, and a misspelt class must not wait for the
first training to be noticed.
"""

import ast
import difflib
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field


def require_importable(path: str) -> str:
    """The path itself; ValueError with near names when its package, module or name is not there.

    What cannot be told from source (compiled modules, names that a module makes up when asked) is let through.
    """
    module, _, name = path.rpartition(".")
    if not module or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"a path such as package.module.Name is required; got {path!r}")
    file = _file_of(module)
    if file is None or file.suffix != ".py":
        return path
    names = _names(ast.parse(file.read_text(encoding="utf-8")))
    if names is not None and name not in names:
        raise ValueError(f"{module} has no {name!r}; {_near(name, names)}")
    return path


ImportPath = Annotated[str, AfterValidator(require_importable), Field(min_length=1)]
"""A path `package.module.Name` of something installed, checked without importing it."""


def _file_of(module: str) -> Path | None:
    """The file of a module, found without importing its parents; None for what is built in or has no file."""
    top, *rest = module.split(".")
    found = importlib.util.find_spec(top)
    if found is None:
        raise ValueError(f"an installed package is required; there is no {top!r}")
    file = Path(found.origin) if found.has_location and found.origin else None
    folders = [Path(folder) for folder in found.submodule_search_locations or ()]
    known = top
    for part in rest:
        if not folders:
            return None
        children = {child: path for folder in folders for child, path in _children(folder)}
        if part not in children:
            raise ValueError(f"{known} has no module {part!r}; {_near(part, children)}")
        here, known = children[part], f"{known}.{part}"
        folders = [here] if here.is_dir() else []
        file = here / "__init__.py" if here.is_dir() else here
    return file if file is not None and file.exists() else None


def _children(folder: Path) -> Iterator[tuple[str, Path]]:
    """Modules and packages in a folder, by name; a package wins over a module of its name, as in Python."""
    for path in sorted(folder.iterdir(), key=lambda path: path.is_dir()):
        name = path.name.partition(".")[0]
        if path.suffix in (".py", ".so", ".pyd") or (path.is_dir() and name == path.name):
            yield name, path


def _names(module: ast.Module) -> set[str] | None:
    """Names that a module's source gives it; None when it makes up others (`import *`, `__getattr__`)."""
    names: set[str] = set()
    for node in _outside_functions(module):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return None if names & {"*", "__getattr__"} else names


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _outside_functions(child)


def _near(name: str, known: Iterable[str]) -> str:
    public = sorted(found for found in known if not found.startswith("_"))
    near = difflib.get_close_matches(name, public, n=3)
    return f"did you mean {' or '.join(near)}?" if near else f"it has: {', '.join(public) or 'no names'}"
