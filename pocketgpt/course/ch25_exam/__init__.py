"""Chapter 25: the exam."""
