"""Files: atomic outputs, safe links, strict JSON, cached hashes."""
