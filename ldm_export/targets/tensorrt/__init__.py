"""The TensorRT target: plans, and the optimisation profiles they are built for."""
