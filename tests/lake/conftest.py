"""An object store for the tests of the lake that need one."""

from tests.object_store import object_store

__all__ = ["object_store"]
