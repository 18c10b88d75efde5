"""ldm-export: take a latent diffusion model to the edge (load or train, export, prove, package)."""
