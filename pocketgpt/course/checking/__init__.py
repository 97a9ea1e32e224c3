"""Checks of learners' answers."""
