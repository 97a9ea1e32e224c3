"""The notebooks and the hand-out, built from solutions/."""
