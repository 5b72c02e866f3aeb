"""The OpenAPI document of the service, with the models that are served now."""

from collections.abc import Sequence

from ml_platform.serving.service import Ready


def document(ready: Sequence[Ready], release: str) -> bytes:
    """The document as JSON."""
    raise NotImplementedError(ready, release)
