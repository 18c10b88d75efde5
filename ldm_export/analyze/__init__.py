"""Measures on a model what the theory of latent diffusion claims: `ldm-export analyze`."""
