"""Chapter 11: generation."""
