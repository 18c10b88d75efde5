"""Measures how fast this processor multiplies in each precision, and what bound that sets for Stable Diffusion."""
