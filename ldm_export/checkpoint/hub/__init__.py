"""Hugging Face's hub: names of repositories, which of their files are needed, and how they come into its cache."""
