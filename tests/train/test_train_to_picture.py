"""The whole road, by the command line: pictures, a few steps of training, a proven package, a picture."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.train.conftest import RECIPES

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_few_steps_of_training_lead_to_a_picture(workplace):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime'}"}
    for arguments in (
        ["train", str(RECIPES / "smoke.toml")],
        ["build", "runs/smoke/checkpoint", "--out", "package"],
        ["run", "package", "--prompt", "red square", "--seed", "1", "--steps", "3", "--out", "picture.png"],
    ):
        code = "from ldm_export.cli import main\nmain()"
        done = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    with Image.open("picture.png") as picture:
        assert picture.size == (32, 32) and picture.info["prompt"] == "red square"
        assert len(set(picture.convert("RGB").tobytes())) > 10
