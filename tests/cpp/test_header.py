"""The examples at the top of ldm_runtime.h are programs that compile in C99 without a warning, and draw."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ldm_runtime
from tests.cpp.cpp_build import SOURCE, built, run

pytestmark = pytest.mark.slow
KIT = Path(__file__).parents[1] / "golden" / "package"
HEADER = SOURCE / "include" / "ldm_runtime.h"

# What a host has around the example of a run step by step: an "engine" whose outputs are numbers of no meaning.
HOST = """
static void run_graph(const ldm_task *task, ldm_tensor *outputs) {
    static float numbers[LDM_MOST_OUTPUTS][1 << 16];
    size_t index, place;
    for (index = 0; index < task->output_count; ++index) {
        outputs[index] = task->outputs[index];
        for (place = 0; place < outputs[index].bytes / sizeof(float); ++place) {
            numbers[index][place] = 0.01f * (float)(place % 7);
        }
        outputs[index].data = numbers[index];
    }
}

static ldm_status draw(ldm_context *context, ldm_run *run) {
EXAMPLE
    return status;
}

int main(void) {
    ldm_context *context = NULL;
    ldm_package *package = NULL;
    ldm_run *run = NULL;
    ldm_run_options options;
    ldm_run_options_init(&options, sizeof options);
    options.prompt = "red apple, 3d style";
    if (ldm_context_create(NULL, &context) != LDM_OK) return 1;
    if (ldm_package_open(context, "./package", NULL, &package) != LDM_OK) return 2;
    if (ldm_run_create(context, package, &options, &run) != LDM_OK) return 3;
    if (draw(context, run) != LDM_OK) return 4;
    ldm_run_free(run);
    ldm_package_free(package);
    ldm_context_free(context);
    return 0;
}
"""


def examples() -> list[str]:
    """Return the indented blocks of the comment that the header begins with."""
    comment = HEADER.read_text(encoding="utf-8").split("*/", 1)[0]
    blocks = re.findall(r"(?:^ {7}.*\n|^\n(?= {7}))+", comment, re.MULTILINE)
    return [block.strip("\n") for block in blocks]


def compiled(source: str, folder: Path) -> str:
    """Compile a program with the header and the library, and return its path."""
    release = built("cpp")
    (folder / "program.c").write_text("#include <ldm_runtime.h>\n#include <stdio.h>\n" + source, encoding="utf-8")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    library = [f"-L{release}", "-lldm_runtime", f"-Wl,-rpath,{release}"]
    run("cc", *strict, f"-I{HEADER.parent}", folder / "program.c", "-o", folder / "program", *library)
    return str(folder / "program")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the package that the examples open."""
    shutil.copytree(KIT, tmp_path / "package")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_opening_example_draws_python_s_image(folder: Path) -> None:
    run(compiled("int main(void) {\n" + examples()[0] + "\n    return 0;\n}\n", folder))
    with ldm_runtime.load(KIT) as pipe, Image.open(folder / "apple.png") as image:
        expected = pipe("red apple, 3d style", seed=1)[0]
        assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 1


def test_the_example_of_a_host_with_an_engine_of_its_own(folder: Path) -> None:
    first, second = examples()
    assert "ldm_engine" in first and "ldm_engine" not in second
    assert "step 4 of 4\n" in run(compiled(HOST.replace("EXAMPLE", second), folder))
