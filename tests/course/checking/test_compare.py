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
        (Counter("aab"), {"a": 2, "b": 1}),
        (1.0 + 1e-6, 1.0),
        (np.float32(0.5), 0.5),
        ("text", "text"),
        ([float("nan")], [float("nan")]),
        ({(1, 2): [0.5]}, {(1, 2): [0.5]}),
        (torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.5])),
        ([torch.ones(2), torch.zeros(1)], (torch.ones(2), torch.zeros(1))),
    ],
)
def test_equal_values_are_equal(got, expected):
    assert difference(got, expected, tolerance=1e-4) is None


@pytest.mark.parametrize(
    ("got", "expected", "said"),
    [
        ([1, 5, 3], [1, 2, 3], "`result[1]` should be 2; yours is 5."),
        ([1, 2], [1, 2, 3], "`result` should have the length 3; yours has 2."),
        ([b"t"], [b"th"], "`result[0]` should be b'th'; yours is b't'."),
        ((1, 2), [1, 2], "`result` should be a list; yours is a tuple."),
        ([1, 2], (1, 2), "`result` should be a tuple; yours is a list."),
        ((torch.ones(1),), [torch.ones(1)], "`result` should be a list; yours is a tuple."),
        (0.5, torch.tensor(0.5), "`result` should be a torch.Tensor; yours is a float."),
        (torch.tensor(0.5), 0.5, "`result` should be a float; yours is a Tensor."),
        (torch.tensor(3), 3, "`result` should be an int; yours is a Tensor."),
        (None, [1], "`result` should be a list; yours is None."),
        ("ab", ["a", "b"], "`result` should be a list; yours is a str."),
        (b"ab", "ab", "`result` should be a str; yours is bytes."),
        ("ab", "ba", "`result` should be 'ba'; yours is 'ab'."),
        ({}, {"a": 1}, "`result` should have the key 'a'; yours lacks it."),
        ({"a": 1, "b": 1}, {"a": 1}, "`result` should not have the key 'b'; yours has it."),
        ({"a": 2}, {"a": 1}, "`result['a']` should be 1; yours is 2."),
        (1.5, 2, "`result` should be an int; yours is a float."),
        (True, 1, "`result` should be an int; yours is a bool."),
        (3.0, 2.5, "`result` should be 2.5; yours is 3."),
        (float("nan"), 2.5, "`result` should be 2.5; yours is nan."),
        (
            torch.tensor([1.0, torch.inf]),
            torch.tensor([1.0, 2.0]),
            "`result` has an infinity: at [1] it should be 2; yours is inf.",
        ),
        (
            torch.tensor([1j]),
            torch.tensor([1.0]),
            "`result` should have the dtype torch.float32; yours has torch.complex64.",
        ),
        (torch.tensor(3.0), torch.tensor(2.0), "`result` should be 2; yours is 3."),
    ],
)
def test_a_difference_is_said_in_words(got, expected, said):
    assert sentence(got, expected) == said


@pytest.mark.filterwarnings("ignore")  # PyTorch says that these are prototypes, or deprecated
@pytest.mark.parametrize(
    ("odd", "said"),
    [
        (lambda x: x.to("meta"), "on the device meta"),
        (lambda x: x.to_sparse(), "sparse"),
        (lambda x: torch.nested.nested_tensor([x, x]), "nested"),
        (lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8), "quantized"),
    ],
)
def test_a_tensor_whose_values_cannot_be_looked_at_is_described(odd, said):
    x = torch.ones(2, 3)
    assert "should be an ordinary, dense tensor" in sentence(odd(x), x) and said in sentence(odd(x), x)


def test_a_conjugated_view_is_compared_by_its_values():
    assert sentence(torch.tensor([1 + 1j]).conj(), torch.tensor([1 - 1j])) == ""


def test_numbers_that_print_alike_get_more_digits():
    got, wanted = torch.tensor([1.13401]), torch.tensor([1.13421])
    assert "should be 1.134; " not in difference(got, wanted, tolerance=1e-5).sentence
    assert difference(1.13401, 1.13421, tolerance=1e-5).sentence == "`result` should be 1.1342; yours is 1.134."
