"""From torch modules to canonical ONNX: what a component's graph is (spec), how it is written (to_onnx)."""
