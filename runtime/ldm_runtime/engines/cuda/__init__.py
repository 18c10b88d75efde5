"""CUDA by its driver alone: device buffers and copies, without torch."""
