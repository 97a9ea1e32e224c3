"""What a learner reads: messages, hints, and that a check leaves no trace."""

import random
import re
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
    check._examples.clear()


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
    queries, keys = check.example("causal_mask")
    assert message.startswith(
        "✗ 2.3 causal_mask\n"
        "Off by one: each query sees the position after its own, which is what it has to predict.\n\n"
        f"with `query_positions` = {queries.tolist()}, `key_positions` = {keys.tolist()}\n"
        "your mask    expected\n"
    )
    assert message.endswith('\n\nHint 3 · pseudocode helps here.\ncheck.example("causal_mask") returns these inputs.')


def test_hints_do_not_count_the_failures():
    wrong = [said("causal_mask", lambda q, k: k <= q[:, None] + 1) for _ in range(5)]
    assert all("Hint 3" in message and "All hints" not in message for message in wrong)


def test_a_mistake_without_a_name_names_no_hint():
    assert "Hint" not in said("causal_mask", lambda q, k: (k == q[:, None]) | (k == 2))


def test_an_exercise_of_the_exam_names_the_mistake_and_no_hint():
    mistake = exercises()["model_size"].mistakes[0]
    message = said("model_size", mistake.function)
    assert mistake.sentence in message and "Hint" not in message


def test_a_mistake_cannot_name_a_hint_that_the_exercise_does_not_have():
    @exercise(points=1, hints=())
    def own(x: int) -> int:
        return x

    with pytest.raises(TypeError, match="names hint 1, and there is none"):

        @own.mistake(hint=1)
        def wrong(x):
            """Wrong."""


def test_the_inputs_that_fail_are_handed_out():
    message = said("softmax", lambda x, dim: x * dim)
    x, dim = check.example("softmax")
    assert f"`x` of shape {tuple(x.shape)}, `dim` = {dim}" in message
    x.zero_()
    assert check.example("softmax")[0].any()


def test_there_is_no_example_before_a_failure_and_after_success(capsys):
    with pytest.raises(LookupError, match="No check of 'causal_mask' has failed"):
        check.example("causal_mask")
    said("causal_mask", lambda q, k: k == q[:, None])
    check.causal_mask(right_mask)
    with pytest.raises(LookupError):
        check.example("causal_mask")


def test_an_empty_stub_needs_no_hint():
    def stub(q, k):
        raise NotImplementedError()

    assert "int" not in said("attention_scores", stub).replace("attention", "")


def test_an_answer_above_the_raise_line_is_not_empty():
    def answer(q, k):
        scores = q @ k.mT / q.shape[-1] ** 0.5
        raise NotImplementedError()
        return scores

    message = said("attention_scores", answer)
    assert "still empty" not in message
    assert "Your answer still ends in `raise NotImplementedError()`" in message and "delete the raise line" in message


def leaves():
    raise SystemExit(3)


def test_an_answer_that_ends_the_program_gets_a_sentence():
    assert "raised SystemExit in line" in said("attention_scores", lambda q, k: leaves())
    assert "raised GeneratorExit in line" in said("softmax", lambda x, dim: (_ for _ in ()).throw(GeneratorExit))


def test_an_interruption_is_said_in_one_line():
    def stopped(q, k):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interruption:
        check.attention_scores(stopped)
    assert interruption.value._render_traceback_() == ["The check of attention_scores was interrupted."]


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


def test_a_mistake_that_fits_only_some_cases_is_not_named():
    def scores_lack_the_scale_in_small_cases(q, k):
        return q @ k.mT / (1 if q.ndim == 2 else q.shape[-1] ** 0.5)

    diagnosis = diagnose(EXERCISES["attention_scores"], scores_lack_the_scale_in_small_cases, seed=0)
    assert diagnosis.mistake is None


def test_a_whole_number_is_not_taken_for_the_mistake_of_a_float():
    """A mistake that is right but for its type is compared within a tolerance."""
    right = EXERCISES["cache_bytes"].finished_answer
    assert diagnose(EXERCISES["cache_bytes"], lambda *sizes: float(right(*sizes))).mistake.name == "a_float"
    assert diagnose(EXERCISES["cache_bytes"], lambda *sizes: right(*sizes) - 1).mistake is None


def test_of_two_mistakes_that_fit_none_is_named():
    def double(x):
        return 2 * x

    own = exercise("99.1", points=1)(double)
    own.inputs(lambda rng: iter([(1.5,), (2.5,)]))
    own.mistake(_documented(lambda x: x, "Not doubled."))
    assert diagnose(own, lambda x: 1 * x).mistake is own.mistakes[0]
    own.mistake(_documented(lambda x: x + 0, "Nothing is added."))
    assert diagnose(own, lambda x: 1 * x).mistake is None


def _documented(function, text):
    function.__doc__ = text
    return function


def test_an_unknown_mistake_says_where_the_largest_difference_is():
    def reference(x):
        return x.clone()

    def answer(x):
        y = x.clone()
        if x.shape == (2, 4):
            y[1, 2] += 7
        return y

    shapes = exercise("99.1", points=1, returns=("scores",))(reference)
    shapes.inputs(lambda rng: iter([(torch.randn(shape, generator=rng),) for shape in ((2, 4), (3, 5), (4, 2))]))
    shown = diagnose(shapes, answer).shown(shapes)
    assert "1 of the 8 values of your `scores` is wrong: at [1, 2] it should be" in shown


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
    assert "a row belongs to a query, so q comes first.\n\nwith `q` of shape " in message
    swapped = "`scores` should have the shape (" in message and re.search(r": axes \d and \d are swapped\.", message)
    assert swapped or "your scores" in message  # with as many keys as queries the shape is right


def test_swapped_axes_are_named():
    def reference(x):
        return x

    swapped = exercise("99.1", points=1)(reference)
    swapped.inputs(lambda rng: iter([(torch.randn(2, 3, 4, generator=rng),)]))
    assert (
        "should have the shape (2, 3, 4); yours has (2, 4, 3): axes 1 and 2 are swapped."
        in diagnose(swapped, lambda x: x.mT).sentence
    )
    assert "the axes are in another order" in diagnose(swapped, lambda x: x.permute(2, 0, 1)).sentence


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
def test_a_mask_of_another_dtype_is_rejected_by_dtype(dtype):
    message = said("causal_mask", lambda q, k: right_mask(q, k).to(dtype))
    assert f"`mask` should have the dtype torch.bool; yours has {dtype}." in message


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda mask: mask.tolist(), "should be a torch.Tensor; yours is a list"),
        (lambda mask: mask.numpy(), "should be a torch.Tensor; yours is an ndarray"),
        (lambda mask: 1.0, "should be a torch.Tensor; yours is a float"),
        (lambda mask: (mask, mask), "should be a torch.Tensor; yours is a tuple"),
        (lambda mask: mask.sum(), "yours has ()."),
    ],
)
def test_a_wrong_type_is_named(wrong, words):
    assert words in said("causal_mask", lambda q, k: wrong(right_mask(q, k)))


def test_a_missing_part_is_named():
    message = said("attention", lambda q, k, v, mask: right_weights(q @ k.mT / q.shape[-1] ** 0.5, mask) @ v)
    assert "should return (output, weights); yours returns a Tensor" in message or "(output, weights)" in message
    assert "should return (output, weights); yours returns a tuple of 3" in said(
        "attention", lambda q, k, v, mask: (q, k, v)
    )


def test_an_error_in_the_answer_shows_the_learners_line():
    def helper(q, k):
        return torch.stack([q, k[..., :0]])  # sizes differ

    def answer(q, k):
        return helper(q, k)

    message = said("attention_scores", answer)
    assert "raised RuntimeError in line" in message
    assert (
        "`return torch.stack([q, k[..., :0]])  # sizes differ`: stack expects each tensor to be equal size" in message
    )


def test_an_error_in_what_the_answer_calls_shows_the_answers_line():
    cell = {}
    exec(compile("def norm(q):\n    return q['weight']\n", "/tmp/another_cell.py", "exec"), cell)

    def answer(q, k):
        return cell["norm"]({})

    assert "`return cell[\"norm\"]({})`, inside of norm: 'weight'" in said("attention_scores", answer)


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
    def careless(q, k):
        print("debugging")
        warnings.warn("careless", stacklevel=1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        return right_mask(q, k)

    with warnings.catch_warnings(action="error"):
        check.causal_mask(careless)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert capsys.readouterr() == ("✓ 2.3 causal_mask · 2 points\n", "")


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
    assert "1.5 times what it should be" in said(
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


def first_rows(table, count):
    if count > len(table):
        raise IndexError("too few rows")
    return table[:count]


def test_a_demanded_error_counts_with_any_text_and_any_demanded_type():
    own = exercise("99.1", points=1, raises=(IndexError, ValueError), views=True)(first_rows)
    own.inputs(lambda rng: ((torch.randn(4, 2, generator=rng), count) for count in (3, 5)))

    def raising(error):
        def answer(table, count):
            if count > len(table):
                raise error
            return table[:count]

        return answer

    assert diagnose(own, raising(IndexError("no row 5"))) is None
    assert diagnose(own, raising(ValueError)) is None
    assert "raised TypeError" in diagnose(own, raising(TypeError)).shown(own)
    assert "did not raise IndexError" in diagnose(own, lambda table, count: table[:count]).shown(own)
    no_error_demanded = exercise("99.1", points=1, views=True)(first_rows)
    no_error_demanded.inputs(own.special)
    assert diagnose(no_error_demanded, raising(ValueError)) is not None


def test_a_function_among_the_inputs_is_shown_by_its_name():
    def applied(function, x):
        return function(x)

    own = exercise("99.1", points=1)(applied)
    own.inputs(lambda rng: iter([(torch.sigmoid, torch.randn(3, generator=rng))]))
    assert "with `function` = sigmoid, `x` of shape (3,)" in diagnose(own, lambda function, x: x).shown(own)


def test_the_case_shown_has_no_axis_of_size_one_if_another_is_wrong():
    for _ in range(5):
        said("merge_heads", lambda x: x.flatten(2))
        (x,) = check.example("merge_heads")
        assert 1 not in x.shape


def test_a_dictionary_of_tensors_is_shown_by_its_shapes():
    message = said("multi_head_attention", lambda x, weights, n_heads: x + 1)
    assert "`weights` with 4 tensors of shape (" in message and "tensor([" not in message


def test_right_values_of_another_dtype_are_not_a_factor():
    def draw(probabilities, u):
        sums = probabilities.cumsum(dim=-1)
        return (sums <= u[:, None] * sums[:, -1:]).sum(dim=-1).float()

    message = said("draw", draw)
    assert "times what it should be" not in message
    assert "dtype" in message
