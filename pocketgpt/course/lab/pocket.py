"""The trained model that ships with the course, and its tokenizer."""

from functools import cache

from pocketgpt.assets import asset
from pocketgpt.models.gpt import GPT
from pocketgpt.text.tokenizer import Tokenizer, load_tokenizer


@cache
def pocket_model() -> GPT:
    """Load the trained model that ships with the course."""
    return GPT.load(asset("pocket-shakespeare"))


@cache
def pocket_tokenizer() -> Tokenizer:
    """Load the tokenizer of the shipped model."""
    return load_tokenizer("shakespeare")
