"""Chapter 03: scaling."""
