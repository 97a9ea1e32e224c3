"""Chapter 03: the variance of scores, the entropy of weights, the softmax's Jacobian, scaled attention."""
