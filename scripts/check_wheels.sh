#!/usr/bin/env bash
# Install the wheels of a folder as users do, and use them: scripts/check_wheels.sh [FOLDER, default dist].
set -euo pipefail
dist=$(cd "$(dirname "$0")/.." && cd "${1:-dist}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"  # away from the clone, whose packages would be found first

echo "ldm-runtime alone draws an image, without torch, onnx, click or the exporter"
python3 -m venv app
runtime=("$dist"/ldm_runtime-*.whl)
app/bin/pip install -q "${runtime[0]}[cpu]"
app/bin/python - <<'PYTHON'
import importlib.util
import sys
from importlib import metadata

import ldm_runtime

for name in ("torch", "onnx", "tokenizers", "ldm_export"):
    assert importlib.util.find_spec(name) is None, f"ldm-runtime brought {name}"
needed = [line for line in metadata.requires("ldm-runtime") if "extra ==" not in line]
assert sorted(line.partition(">")[0] for line in needed) == ["numpy", "pillow"], needed
for name in ("py.typed", "builtin/manifest.json", "builtin/LICENSE"):
    assert any(str(file) == f"ldm_runtime/{name}" for file in metadata.files("ldm-runtime")), f"{name} is missing"
assert metadata.version("ldm-runtime") == ldm_runtime.__version__
(image,) = ldm_runtime.load()("red apple, 3d style", seed=1, steps=2)
assert image.size == (128, 128) and len(set(image.tobytes())) > 100, "this is no image"
assert "click" not in sys.modules
PYTHON

echo "ldm-export depends on ldm-runtime of its version, and shares no file with it"
export=("$dist"/ldm_export-*.whl)
app/bin/pip install -q "${export[0]}"
app/bin/pip check
app/bin/python - <<'PYTHON'
from importlib import metadata

export, runtime = (metadata.distribution(name) for name in ("ldm-export", "ldm-runtime"))
assert f"ldm-runtime=={runtime.version}" in export.requires, export.requires
assert export.version == runtime.version
shared = {str(file) for file in export.files} & {str(file) for file in runtime.files}
assert not shared, f"both wheels install {shared}"
PYTHON
app/bin/ldm-export --version
app/bin/ldm-export run --prompt "red apple, 3d style" --steps 2 --out apple.png
app/bin/pip uninstall -q -y ldm-export
app/bin/python -c 'import ldm_runtime; ldm_runtime.load().close()'
echo "the wheels are good"
