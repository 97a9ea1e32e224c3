"""Chapter 02: scores, masked softmax, causal mask, attention."""
