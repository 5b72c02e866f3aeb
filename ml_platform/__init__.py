"""An ML data platform on Dagster and Feast: gated features, training sets, drift profiles and models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml_platform.sdk.platform import Platform as Platform


def __getattr__(name: str) -> Any:
    """`Platform`, for notebooks; loaded when it is asked for, as it needs Feast and MLflow."""
    if name == "Platform":
        from ml_platform.sdk.platform import Platform

        return Platform
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
