"""Chapter 24: find the bug. Each exercise names the mistakes planted into five models or trainings."""
