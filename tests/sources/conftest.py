"""A source of one home, and its asset on a Dagster instance that lives as long as the test."""

from collections.abc import Iterator

import dagster as dg
import pytest

from ml_platform.kernel.settings import Settings
from tests.sources.deliveries import Deliveries, Materialized


@pytest.fixture
def source(home: Settings) -> Deliveries:
    return Deliveries(home)


@pytest.fixture
def asset(source: Deliveries) -> Iterator[Materialized]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Materialized(source, instance)
