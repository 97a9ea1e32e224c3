"""Chapter 07, positions: its exercises, one a file, its figures, and its experiment."""
