from tests.built import platform, shared

__all__ = ["platform", "shared"]
