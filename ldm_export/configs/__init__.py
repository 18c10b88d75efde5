"""Configs of the model parts, as diffusers and transformers write them."""
