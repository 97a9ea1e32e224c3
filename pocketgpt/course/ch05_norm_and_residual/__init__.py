"""Chapter 05: norm and residual."""
