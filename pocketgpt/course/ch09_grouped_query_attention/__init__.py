"""Chapter 09: query heads that share keys and values, what that saves in memory, and what it costs in loss."""
