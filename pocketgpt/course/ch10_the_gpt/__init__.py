"""Chapter 10: the GPT."""
