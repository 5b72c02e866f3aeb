"""What steps are given at run time; the environment enters through `kernel.settings` alone."""

import dagster as dg

from ml_platform.kernel.settings import settings


@dg.definitions
def resources() -> dg.Definitions:
    """The settings of this environment and the connection to MLflow."""
    return dg.Definitions(
        resources={
            "environment": dg.ResourceDefinition(
                resource_fn=lambda _: settings().prepare(),
                description="Where the lake, the registries and the online store are.",
            ),
        }
    )
