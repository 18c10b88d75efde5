"""The TensorRT engine: plans, their fit to this machine, and the library's bindings."""
