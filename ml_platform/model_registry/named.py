"""Registered versions as people name them: `NAME@ALIAS` or `NAME@NUMBER`."""

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry


def named_version(settings: Settings, model: str) -> registry.Registered:
    """The version that a name means; InputError says which there are."""
    name, _, which = model.partition("@")
    models = registry.aliases(settings)
    if name not in models or not which:
        known = ", ".join(sorted(models)) or "none yet"
        raise InputError(
            f"a registered model and one of its versions are required, such as NAME@champion or NAME@3; got {model!r}; "
            f"registered are: {known}"
        )
    versions = {str(version.version): version for version in registry.versions(settings, name)}
    aliases = {alias: versions[str(number)] for alias, number in models[name].items()}
    found = {**versions, **aliases}.get(which)
    if found is None:
        raise InputError(
            f"a version of {name} is required (aliases: {', '.join(sorted(aliases)) or 'none'}; versions: "
            f"{', '.join(versions)}); got {which!r}"
        )
    return found
