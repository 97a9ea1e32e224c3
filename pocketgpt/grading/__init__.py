"""Grading a folder of notebooks: each is rebuilt from our own chapter, run apart from everything else, and marked."""

REPLY = "application/vnd.pocketgpt.reply+json"  # the type of what a function answers to secret questions
