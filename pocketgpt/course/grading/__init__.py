"""Grading a folder of notebooks: each is rebuilt from our own chapter, run apart from everything else, and marked."""
