"""From ONNX file to ONNX file: a visible list of passes, each `model -> (model, modified count)`."""
