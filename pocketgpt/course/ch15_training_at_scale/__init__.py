"""Chapter 15: training at scale."""
