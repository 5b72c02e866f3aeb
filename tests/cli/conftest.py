from tests.built import platform, shared
from tests.lifecycle.conftest import shared_instance, toys

__all__ = ["platform", "shared", "shared_instance", "toys"]
