"""Loads Feast in a third of the time that `import feast` takes.

Feast's classes are decorated for typeguard, which at import reads the source of every method again and compiles it
with checks of its arguments: six of Feast's eight seconds. Whoever imports Feast later finds it loaded.
"""

import sys
from typing import Any


def load_feast() -> None:
    """Import Feast without the checks of its methods' arguments, unless it is imported already."""
    if "feast" in sys.modules:
        return
    import typeguard

    checked = typeguard.typechecked
    setattr(typeguard, "typechecked", _unchecked)  # noqa: B010 - a type checker knows better what it is
    try:
        import feast  # noqa: F401
    finally:
        setattr(typeguard, "typechecked", checked)  # noqa: B010


def _unchecked(target: Any = None, **_options: Any) -> Any:
    """What typeguard's decorator is in an optimized Python: nothing."""
    return target if target is not None else _unchecked
