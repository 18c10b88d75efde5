"""Quiet, for what opens schedulers of diffusers."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def quiet() -> Iterator[None]:
    """Schedulers log what they change in their own configuration."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)
