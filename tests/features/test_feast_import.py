"""Feast is loaded without what takes most of its import, and nobody else's typeguard is touched."""

import inspect

import feast
import pytest
import typeguard

CHECKED = "typeguard"


@typeguard.typechecked
def of_somebody_else(number: int) -> int:
    return number


def test_the_methods_of_feast_are_those_that_it_wrote() -> None:
    for kind in (feast.FeatureView, feast.OnDemandFeatureView, feast.FileSource, feast.FeatureService):
        methods = [method for _, method in inspect.getmembers(kind, inspect.isfunction)]
        assert len(methods) > 5
        assert [method for method in methods if CHECKED in method.__code__.co_names] == []


def test_typeguard_checks_for_others_as_it_did() -> None:
    assert CHECKED in of_somebody_else.__code__.co_names
    with pytest.raises(typeguard.TypeCheckError):
        of_somebody_else("one")  # pyright: ignore[reportArgumentType]
