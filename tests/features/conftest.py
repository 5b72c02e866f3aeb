from ml_platform.features.feast_import import load_feast
from tests.built import platform, shared

__all__ = ["platform", "shared"]

load_feast()  # modules here import it when they are collected
