"""Helpers of several exercises of chapter 01."""

import torch

STEPS = ("a nudge", "the steps", "pseudocode")


def letters(rng, count: int) -> list[bytes]:
    """Different lower-case letters, in a random order."""
    return [bytes([ord("a") + i]) for i in torch.randperm(26, generator=rng)[:count].tolist()]


def single_bytes(word: str) -> list[bytes]:
    return [bytes([byte]) for byte in word.encode()]


def merged(tokens, pair, *, joined=None, matches=None, step=2):
    """Merge a pair correctly, unless told otherwise: its joined token, the test for it, and the step after it."""
    matches = matches or (lambda left, right: (left, right) == pair)
    result, i = [], 0
    while i < len(tokens):
        if i + 1 < len(tokens) and matches(tokens[i], tokens[i + 1]):
            result.append(joined or tokens[i] + tokens[i + 1])
            i += step
        else:
            result.append(tokens[i])
            i += 1
    return result


def merged_from_the_right(tokens, pair):
    """A wrong order that two exercises know by name: a a a becomes a aa."""
    left, right = pair
    joined = left + right
    matches = lambda one, other: (other, one) == pair  # noqa: E731
    return merged(tokens[::-1], pair, joined=joined, matches=matches)[::-1]
