"""The code location: everything declared below `defs/`."""

from pathlib import Path

import dagster as dg


@dg.definitions
def defs() -> dg.Definitions:
    """All definitions of the project."""
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)


def definitions_of(package: Path) -> dg.Definitions:
    """All definitions of another project: what its `defs` declare, with the platform's resources, sensors and jobs.

    `package` is the folder of the package that has `defs`.
    """
    from ml_platform.defs.automation import automation
    from ml_platform.defs.by_hand import jobs
    from ml_platform.defs.gates import gates
    from ml_platform.defs.resources import resources

    declared = dg.load_from_defs_folder(path_within_project=package)
    return dg.Definitions.merge(declared, *(part() for part in (automation, jobs, gates, resources)))
