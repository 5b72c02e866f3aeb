"""The declared entities, views and services as Feast objects, for `feast apply`, `feast plan` and `feast serve`.

Feast takes what stands in this module under a name of its own, and nothing that is inside a list; it deletes from
the registry what it does not find.
"""

from ml_platform import declarations
from ml_platform.features.feast_objects import feast_objects
from ml_platform.kernel.settings import settings
from ml_platform.lake.tables import Lake

globals().update(
    {
        f"{type(found).__name__}_{found.name}": found
        for found in feast_objects(declarations.load(), Lake(settings().prepare().lake_uri))
    }
)
