"""Checkpoints on disk: folders, weights, key maps, schedulers, tokenizers."""
