"""PocketGPT: a modern GPT, small enough to read."""

__version__ = "0.1.0"
