"""Everything the platform raises on purpose.

    PlatformError
    ├── DeclarationError    a defs.yaml (or a spec in Python) cannot be right
    ├── InputError          data from outside is refused: a file, a request, a key
    ├── GateClosedError     a blocking check upstream says no
    └── StoreError          a lake table, registry or online store is not as it must be

Each message says what was required, what came, what follows, and what to do.
"""


class PlatformError(Exception):
    """Base of every error that is raised on purpose."""


class DeclarationError(PlatformError):
    """A declaration contradicts itself, another declaration, or what is installed."""


class InputError(PlatformError):
    """Data or arguments from outside are refused, and nothing was changed."""


class GateClosedError(PlatformError):
    """A gated step may not run: a blocking check upstream has not passed."""


class StoreError(PlatformError):
    """A store is unreachable, or holds what it must not hold."""
