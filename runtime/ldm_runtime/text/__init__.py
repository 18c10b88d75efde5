"""Text: prompt syntax, tokenization, and the embeddings that condition the denoiser."""
