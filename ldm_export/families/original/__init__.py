"""The original layouts of checkpoints (CompVis, Stability AI): configs from shapes, and where each parameter lies."""
