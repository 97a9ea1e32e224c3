"""Chapter 04: multi-head attention."""
