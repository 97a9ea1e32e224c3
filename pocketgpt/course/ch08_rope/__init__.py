"""Chapter 08: RoPE."""
