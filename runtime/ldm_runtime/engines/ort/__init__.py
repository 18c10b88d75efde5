"""The ONNX Runtime engine: sessions, and the execution providers they run on."""
