"""Training a small latent diffusion model, stage by stage, resumable."""
