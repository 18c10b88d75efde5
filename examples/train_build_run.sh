#!/usr/bin/env bash
# Train a tiny model, build a package from it and draw: bash examples/train_build_run.sh FOLDER. About two minutes on two
# cores; it needs the extras: pip install '.[cpu,export,train]'
# It learns nothing worth seeing; export_configs/emoji-128.toml is the recipe of the built-in model.
set -euo pipefail
clone=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
cd "$1"

python "$clone/examples/shapes.py" data-cache/smoke              # captioned images
grep -v perceptual "$clone/export_configs/smoke.toml" > smoke.toml # the recipe, without a loss that needs a download
ldm-export train smoke.toml                                      # a checkpoint in the diffusers layout
ldm-export build runs/smoke/checkpoint --out package --force     # ONNX, proved to equal the model in torch
ldm-export inspect package
ldm-export verify package --out proof --force                    # report.html shows the numbers
ldm-export run package --prompt "red disc" --seed 1 --out red-disc.png --force
