"""Figures that several chapters use. Every function takes plain tensors, so that it draws the reader's own."""
