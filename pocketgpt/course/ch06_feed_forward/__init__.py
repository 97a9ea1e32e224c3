"""Chapter 06: feed-forward."""
