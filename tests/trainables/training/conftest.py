"""Populations are evaluated in short episodes here: what they do is tested elsewhere."""

import pytest

from safesweep.trainables.tasks.registry import Task
from tests import fixture_store


@pytest.fixture(scope="session")
def boat_task() -> Task:
    return fixture_store.short_task("BoatNavigation-v0")
