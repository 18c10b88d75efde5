"""Marks every test that is not `slow` as `quick`, so that `pytest -m quick` is the fast half of the suite."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") is None:
            item.add_marker("quick")
