"""Builds the notebooks and the hand-out from solutions/."""
