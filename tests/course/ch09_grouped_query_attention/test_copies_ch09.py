"""Copies of keys and values are seen however they are made, and nothing else is taken for them."""

import math

import pytest
import torch

from pocketgpt.course.checking.check import diagnose
from pocketgpt.course.syllabus import find_exercise


def wide(copy):
    def grouped_attention(q, k, v, mask):
        k, v = (copy(x, q.shape[1], q.shape[1] // x.shape[1]) for x in (k, v))
        return (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf).softmax(-1) @ v

    return grouped_attention


def filled(x, heads, group):
    copy = x.new_zeros(x.shape[0], heads, *x.shape[2:])
    for h in range(heads):
        copy[:, h] = x[:, h // group]
    return copy


@pytest.mark.parametrize(
    "copy",
    [
        lambda x, heads, group: x.repeat_interleave(group, dim=1),
        lambda x, heads, group: x[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2),
        lambda x, heads, group: x[:, torch.arange(heads) // group],
        lambda x, heads, group: torch.stack([x[:, h // group] for h in range(heads)], dim=1),
        lambda x, heads, group: torch.cat([x[:, h // group, None] for h in range(heads)], dim=1),
        lambda x, heads, group: torch.take_along_dim(x, (torch.arange(heads) // group).view(1, -1, 1, 1), 1),
        filled,
    ],
)
def test_copies_are_refused(copy):
    assert "`k` or `v` is copied" in diagnose(find_exercise("grouped_attention"), wide(copy)).sentence
