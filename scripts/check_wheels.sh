#!/usr/bin/env bash
# Install the wheels of a folder as users do, and use them: scripts/check_wheels.sh [FOLDER, default dist].
set -euo pipefail
clone=$(cd "$(dirname "$0")/.." && pwd)
dist=$(cd "$clone" && cd "${1:-dist}" && pwd)
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

echo "ldm-runtime-native draws that image too, bit for bit where weights are not mapped, with the ONNX Runtime of its environment"
python3 -m venv native
library=("$dist"/ldm_runtime_native-*.whl)
native/bin/pip install -q "${library[0]}[cpu]"
builtin=$(app/bin/python -c 'from ldm_runtime.pipeline import builtin_package; print(builtin_package())')
native/bin/ldm run "$builtin" --prompt "red apple, 3d style" --seed 1 --steps 2 --no-map-weights --out native.png
app/bin/python - <<'PYTHON'
import ldm_runtime
from PIL import Image

(expected,) = ldm_runtime.load()("red apple, 3d style", seed=1, steps=2)
assert Image.open("native.png").tobytes() == expected.tobytes(), "the library draws another image"
PYTHON

echo "programs link its library, which needs glibc 2.17 and no C++ library"
prefix=$(native/bin/python -m ldm_runtime_native)
cc "$clone/tests/cpp/consumer/consumer.c" -I"$prefix/include" -L"$prefix/lib" -lldm_runtime -Wl,-rpath,"$prefix/lib" -o consumer
./consumer
files=("$prefix/lib/libldm_runtime.so" "$prefix/bin/ldm")
newest=$(readelf --version-info --wide "${files[@]}" | grep -o 'GLIBC_2\.[0-9.]*' | sort -V | tail -1)
test "$(printf '%s\n' "$newest" GLIBC_2.17 | sort -V | tail -1)" = GLIBC_2.17
if readelf --dynamic --wide "${files[@]}" | grep -E 'NEEDED.*(stdc|c)[+][+]'; then exit 1; fi
echo "the wheels are good"
