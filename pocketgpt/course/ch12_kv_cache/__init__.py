"""Chapter 12: the KV cache."""
