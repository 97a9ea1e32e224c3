"""What a learner reads: messages, hints, and that a check leaves no trace."""

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pocketgpt.course.checking.check import CheckFailed, diagnose
from pocketgpt.course.checking.exercise import exercise
from pocketgpt.course.checking.run import undisturbed
from pocketgpt.course.lab import check
from pocketgpt.course.syllabus import all_exercises as exercises

EXERCISES = exercises()


@pytest.fixture(autouse=True)
def no_failures_before():
    check._failures.clear()


def said(name, answer) -> str:
    with pytest.raises(CheckFailed) as failure:
        getattr(check, name)(answer)
    return str(failure.value)


def right_mask(query_positions, key_positions):
    return key_positions <= query_positions[:, None]


def right_weights(scores, mask):
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1).nan_to_num()


def test_a_known_mistake_is_shown_with_picture_and_hint():
    message = said("causal_mask", lambda q, k: k <= q[:, None] + 1)
    assert message == (
        "✗ 2.3 causal_mask\n"
        "Off by one: each query sees the position after its own, which is what it has to predict.\n\n"
        "with `query_positions` = [0, 1, 2, 3], `key_positions` = [0, 1, 2, 3]\n"
        "your mask    expected\n"
        "■ ■ · ·      ■ · · ·\n"
        "■ ■ ■ ·      ■ ■ · ·\n"
        "■ ■ ■ ■      ■ ■ ■ ·\n"
        "■ ■ ■ ■      ■ ■ ■ ■\n\n"
        f"Next: open hint 1 · {EXERCISES['causal_mask'].hints[0]}."
    )


def test_failing_again_opens_the_next_hint_and_success_begins_anew(capsys):
    wrong = [said("causal_mask", lambda q, k: k == q[:, None]) for _ in range(4)]
    assert [f"open hint {i}" in text for i, text in enumerate(wrong, 1)] == [True, True, True, False]
    assert "All hints are open" in wrong[3]
    check.causal_mask(right_mask)
    assert "open hint 1" in said("causal_mask", lambda q, k: k == q[:, None])


def test_an_empty_stub_uses_up_no_hint():
    def stub(q, k):
        raise NotImplementedError()

    assert "hint" not in said("attention_scores", stub)
    assert "open hint 1" in said("attention_scores", lambda q, k: q @ k.mT + 1)


def test_an_error_that_cannot_say_its_text_is_named():
    class Mute(Exception):
        def __str__(self):
            raise ValueError

    def answer(q, k):
        raise Mute

    assert "Mute in line" in said("attention_scores", answer)


def test_what_a_library_has_not_implemented_is_not_an_empty_stub():
    def asks(q, k):
        raise NotImplementedError("not implemented for 'Half'")

    message = said("attention_scores", asks)
    assert "still empty" not in message
    assert "not implemented for 'Half'" in message


def test_an_empty_stub_of_an_earlier_exercise_is_named():
    def masked_softmax(scores, mask):
        raise NotImplementedError()

    message = said("attention", lambda q, k, v, mask: masked_softmax(q @ k.mT, mask))
    assert "masked_softmax is still empty" in message


def test_of_two_mistakes_the_one_that_shows_first_is_named():
    def scores_lack_the_scale_and_rows_are_nan(q, k, v, mask):
        weights = torch.softmax((q @ k.mT).masked_fill(~mask, -torch.inf), dim=-1)
        return weights @ v, weights

    assert "lack the 1/√d_head scale" in said("attention", scores_lack_the_scale_and_rows_are_nan)


def test_an_unknown_mistake_says_where_the_largest_difference_is():
    def answer(q, k):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        scores[..., 1, 2] += 7
        return scores

    message = said("attention_scores", answer)
    assert "1 of 6 values of your scores are wrong, most of all the one at [1, 2]: yours is" in message


def test_the_wrong_value_is_in_the_part_of_a_large_matrix_that_is_shown():
    def reference(x):
        return x.clone()

    def answer(x):
        y = x.clone()
        y[1, 20, 15] = 777.0
        return y

    large = exercise("99.1", points=1)(reference)
    large.inputs(lambda rng: iter([(torch.randn(2, 30, 20, generator=rng),)]))
    shown = diagnose(large, answer, seed=0).shown(large)
    assert "your result[1, 13:, 8:]" in shown and "777" in shown


def test_a_known_mistake_says_what_came_out_where_there_is_nothing_to_draw():
    message = said("attention_scores", lambda q, k: k @ q.mT / q.shape[-1] ** 0.5)
    assert "a row belongs to a query, so q comes first.\n\nwith `q` of shape (2, 5), `k` of shape (3, 5)\n" in message
    assert "The shape of your scores is (3, 2), expected (2, 3): axes 0 and 1 are swapped." in message


def test_swapped_axes_are_named():
    def reference(x):
        return x

    swapped = exercise("99.1", points=1)(reference)
    swapped.inputs(lambda rng: iter([(torch.randn(2, 3, 4, generator=rng),)]))
    assert "is (2, 4, 3), expected (2, 3, 4): axes 1 and 2 are swapped." in diagnose(swapped, lambda x: x.mT).sentence
    assert "the axes are in another order" in diagnose(swapped, lambda x: x.permute(2, 0, 1)).sentence


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_a_mask_of_another_dtype_is_rejected_by_dtype(dtype):
    message = said("causal_mask", lambda q, k: right_mask(q, k).to(dtype))
    assert f"The dtype of your mask is {dtype}, expected torch.bool." in message


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda mask: mask.tolist(), "should be a torch.Tensor; yours is a list"),
        (lambda mask: mask.numpy(), "should be a torch.Tensor; yours is a ndarray"),
        (lambda mask: 1.0, "should be a torch.Tensor; yours is a float"),
        (lambda mask: (mask, mask), "should be a torch.Tensor; yours is a tuple"),
        (lambda mask: mask.sum(), "The shape of your mask is ()"),
    ],
)
def test_a_wrong_type_is_named(wrong, words):
    assert words in said("causal_mask", lambda q, k: wrong(right_mask(q, k)))


def test_a_missing_part_is_named():
    message = said("attention", lambda q, k, v, mask: right_weights(q @ k.mT / q.shape[-1] ** 0.5, mask) @ v)
    assert "returns a Tensor, expected (output, weights)" in message
    assert "returns a tuple of 3, expected (output, weights)" in said("attention", lambda q, k, v, mask: (q, k, v))


def test_an_error_in_the_answer_shows_the_learners_line():
    def helper(q, k):
        return torch.stack([q, k])  # sizes differ

    def answer(q, k):
        return helper(q, k)

    message = said("attention_scores", answer)
    assert "raised RuntimeError in line" in message
    assert "`return torch.stack([q, k])  # sizes differ`: stack expects each tensor to be equal size" in message


@pytest.mark.parametrize(
    "shortcut",
    [
        lambda q, k, v, mask: (F.scaled_dot_product_attention(q, k, v, attn_mask=mask), None),
        lambda q, k, v, mask: (torch.nn.functional.scaled_dot_product_attention(q, k, v, mask), None),
        lambda q, k, v, mask: EXERCISES["attention"].reference(q, k, v, mask),
    ],
)
def test_a_forbidden_call_is_seen_wherever_it_is(shortcut):
    assert "calls scaled_dot_product_attention, which does the whole exercise" in said("attention", shortcut)


@pytest.mark.parametrize(
    "spelling",
    [
        lambda x: torch.softmax(x, -1),
        lambda x: F.softmax(x, dim=-1),
        lambda x: x.softmax(-1),
        lambda x: torch.nn.Softmax(-1)(x),
        lambda x: torch.special.softmax(x, -1),
        lambda x: torch.ops.aten.softmax(x, -1),
    ],
)
def test_every_spelling_of_a_forbidden_function_is_seen(spelling):
    def own_softmax(x):
        return x.exp() / x.exp().sum(-1, keepdim=True)

    own = exercise("99.1", points=1, forbidden=("softmax",))(own_softmax)
    own.inputs(lambda rng: iter([(torch.randn(2, 3, generator=rng),)]))
    assert diagnose(own, own_softmax) is None
    assert "calls softmax" in diagnose(own, spelling).sentence


def test_a_mistake_that_raises_is_recognized_by_its_error():
    def decode_all(pieces):
        return b"".join(pieces).decode()

    own = exercise("99.1", points=1)(decode_all)
    own.inputs(lambda rng: iter([(["é".encode()[:1], "é".encode()[1:]],)]))

    @own.mistake
    def piece_by_piece(pieces):
        """A piece may end in the middle of a character: join the bytes first."""
        return "".join(piece.decode() for piece in pieces)

    assert diagnose(own, lambda pieces: "".join(str(piece, "utf-8") for piece in pieces)).mistake is own.mistakes[0]
    assert diagnose(own, lambda pieces: b"".join(pieces).decode("latin-1")).mistake is None
    assert "raised ZeroDivisionError" in diagnose(own, lambda pieces: 1 // 0).sentence


def test_the_finished_version_of_this_package_is_no_answer():
    from pocketgpt.layers.attention_backends import attention

    assert "the library's own function" in said("attention", attention)
    assert "calls attention" in said("attention", lambda q, k, v, mask: attention(q, k, v, mask))


def test_a_check_leaves_no_trace(capsys):
    def careless(scores, mask):
        print("debugging")
        warnings.warn("careless", stacklevel=1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return right_weights(scores, mask)

    with warnings.catch_warnings(action="error"):
        check.masked_softmax(careless)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert capsys.readouterr() == ("✓ 2.2 masked_softmax · 2 points\n", "")


def test_random_states_and_the_default_dtype_are_put_back():
    def state():
        torch_state, numpy_state = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()
        return torch_state, numpy_state, random.getstate(), torch.get_default_dtype()

    torch.set_default_dtype(torch.float64)
    try:
        before = state()
        with undisturbed():
            torch.manual_seed(0), np.random.seed(0), random.seed(0)
            assert torch.get_default_dtype() == torch.float32
        assert state() == before
    finally:
        torch.set_default_dtype(torch.float32)


def test_gradients_in_the_answer_do_no_harm():
    scale = torch.nn.Parameter(torch.tensor(1.0))
    check.attention_scores(lambda q, k: q @ k.mT / q.shape[-1] ** 0.5 * scale)
    assert "values of your scores are wrong" in said(
        "attention_scores", lambda q, k: q @ k.mT / q.shape[-1] ** 0.5 * scale * 1.5
    )


def test_calling_the_function_in_the_check_cell_is_explained():
    mask = right_mask(torch.arange(3), torch.arange(3))
    assert "write check.causal_mask(causal_mask)" in said("causal_mask", mask)


def test_an_unknown_check_lists_the_exercises():
    with pytest.raises(AttributeError, match=r"no exercise 'casual_mask'.*causal_mask"):
        _ = check.casual_mask


def test_notebooks_show_the_message_and_nothing_else():
    failure = CheckFailed("first\nsecond")
    assert failure._render_traceback_() == ["first", "second"]
