"""Chapter 13: FlashAttention."""
