"""The examples run, as their first lines say. `.ci/run` runs the one that trains a model."""

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "runtime"))),
}


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], env=ENVIRONMENT, check=True, stdout=subprocess.DEVNULL, timeout=900)


def opened(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def distance(first: Image.Image, second: Image.Image) -> float:
    """Mean absolute difference of two images of one size, in levels."""
    return float(np.abs(np.asarray(first, np.float32) - np.asarray(second, np.float32)).mean())


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")))
def test_an_example_is_short_and_is_run_here(name):
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 40
    run_by = (Path(__file__), ROOT / ".ci" / "run", EXAMPLES / "train_build_run.sh")
    assert any(re.search(rf'\b{name}[" ]', path.read_text(encoding="utf-8")) for path in run_by)


@pytest.mark.slow
def test_previews_come_nearer_to_the_image(tmp_path):
    run(sys.executable, EXAMPLES / "preview.py", "red apple, 3d style", tmp_path)
    image = opened(tmp_path / "image.png")
    first, later = (distance(opened(tmp_path / f"step-0{step}.png"), image) for step in (1, 7))
    assert later < first / 2


@pytest.mark.slow
def test_an_image_follows_the_prompt(tmp_path):
    run(sys.executable, EXAMPLES / "image_to_image.py", tmp_path)
    red, green = (opened(tmp_path / name).getpixel((64, 64)) for name in ("before.png", "after-0.png"))
    assert red[0] > red[1] and green[1] > green[0]


@pytest.mark.slow
def test_only_the_masked_half_is_drawn_anew(tmp_path):
    run(sys.executable, EXAMPLES / "inpaint.py", tmp_path)
    before, after = opened(tmp_path / "before.png"), opened(tmp_path / "after.png")
    upper, lower = (0, 0, 128, 48), (0, 64, 128, 128)
    assert distance(before.crop(upper), after.crop(upper)) < distance(before.crop(lower), after.crop(lower)) / 2


@pytest.mark.slow
def test_the_server_draws_and_refuses(tmp_path):
    command = [sys.executable, "-u", str(EXAMPLES / "server.py"), "0"]
    with subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().strip()
            with urllib.request.urlopen(f"{address}&seed=1", timeout=120) as answer:
                (tmp_path / "apple.png").write_bytes(answer.read())
            assert opened(tmp_path / "apple.png").size == (128, 128)
            no_prompt = address.partition("?")[0]
            for bad, said in ((f"{address}&seed=x", "int"), (f"{address}&seed=-1", "seed"), (no_prompt, "no prompt")):
                with pytest.raises(urllib.error.HTTPError, match="400") as refused:
                    urllib.request.urlopen(bad, timeout=120)
                assert said in refused.value.read().decode()
        finally:
            server.terminate()
