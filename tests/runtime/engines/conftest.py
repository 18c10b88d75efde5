"""Machines with a plan, one for each library of TensorRT."""

from pathlib import Path

import pytest

from ldm_runtime.engines.tensorrt.library import CLASSIC, RTX
from tests.runtime.engines.tensorrt_machine import Machine


@pytest.fixture(params=[RTX, CLASSIC])
def machine(request: pytest.FixtureRequest, package_copy: Path) -> Machine:
    return Machine(package_copy, request.param)


@pytest.fixture
def rtx(package_copy: Path) -> Machine:
    return Machine(package_copy, RTX)


@pytest.fixture
def classic(package_copy: Path) -> Machine:
    return Machine(package_copy, CLASSIC)
