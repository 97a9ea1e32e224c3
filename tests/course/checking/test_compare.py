"""Values that are not tensors: what is said about them."""

from collections import Counter

import numpy as np
import pytest
import torch

from pocketgpt.course.checking.compare import difference


def sentence(got, expected) -> str:
    found = difference(got, expected, tolerance=1e-4)
    return found.sentence if found else ""


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        ([1, 2], [1, 2]),
        ((1, 2), [1, 2]),
        (Counter("aab"), {"a": 2, "b": 1}),
        (1.0 + 1e-6, 1.0),
        (torch.tensor(0.5), 0.5),
        (np.float32(0.5), 0.5),
        (0.5, torch.tensor(0.5)),
        (torch.tensor(3), 3),
        ("text", "text"),
        ([float("nan")], [float("nan")]),
        ({(1, 2): [0.5]}, {(1, 2): [0.5]}),
        (torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.5])),
    ],
)
def test_equal_values_are_equal(got, expected):
    assert difference(got, expected, tolerance=1e-4) is None


@pytest.mark.parametrize(
    ("got", "expected", "said"),
    [
        ([1, 5, 3], [1, 2, 3], "Your result[1] is 5, expected 2."),
        ([1, 2], [1, 2, 3], "The length of your result is 2, expected 3."),
        (None, [1], "`result` should be a list; yours is None."),
        ("ab", ["a", "b"], "`result` should be a list; yours is a str."),
        (b"ab", "ab", "`result` should be a str; yours is a bytes."),
        ("ab", "ba", "`result` should be 'ba'; yours is 'ab'."),
        ({}, {"a": 1}, "The key 'a' is missing in your result."),
        ({"a": 1, "b": 1}, {"a": 1}, "There should be no key 'b' in your result."),
        ({"a": 2}, {"a": 1}, "Your result['a'] is 2, expected 1."),
        (1.5, 2, "`result` should be an int; yours is a float."),
        (True, 1, "`result` should be an int; yours is a bool."),
        (3.0, 2.5, "Your result is 3, expected 2.5."),
        (float("nan"), 2.5, "Your result is nan, expected 2.5."),
        (
            torch.tensor([1.0, torch.inf]),
            torch.tensor([1.0, 2.0]),
            "An infinity in your result at [1]: yours is inf, expected 2.",
        ),
        (
            torch.tensor([1j]),
            torch.tensor([1.0]),
            "The dtype of your result is torch.complex64, expected torch.float32.",
        ),
        (torch.tensor(3.0), torch.tensor(2.0), "Your result is 3, expected 2."),
    ],
)
def test_a_difference_is_said_in_words(got, expected, said):
    assert sentence(got, expected) == said
