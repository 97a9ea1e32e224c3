"""Chapter 02: attention."""
