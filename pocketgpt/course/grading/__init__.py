"""Grading a folder of notebooks: each is rebuilt from our own chapter, run apart from everything else, and marked."""

QUESTIONS = "POCKETGPT_QUESTIONS"  # an environment variable of the kernel: the folder of secret questions and replies
