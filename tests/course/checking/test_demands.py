"""Right values are not enough: memory of its own, exact in float64, gradients; and odd objects that are handed in."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pocketgpt.course.checking.check import CheckFailed, diagnose
from pocketgpt.course.checking.exercise import exercise
from pocketgpt.course.lab import check
from pocketgpt.course.syllabus import all_exercises

EXERCISES = all_exercises()


def said(name, answer) -> str:
    with pytest.raises(CheckFailed) as failure:
        check.check(EXERCISES[name], answer)
    return str(failure.value)


def finished(name):
    return EXERCISES[name].finished_answer


def weights_of(scores, mask):
    return scores.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("softmax", lambda x, dim: finished("softmax")(x, dim).round(decimals=5)),
        ("softmax", lambda x, dim: finished("softmax")(x, dim).clamp(min=1e-6)),
        ("masked_softmax", lambda s, m: weights_of(s, m).round(decimals=5)),
        ("attention_scores", lambda q, k: finished("attention_scores")(q, k).round(decimals=5)),
        ("entropy", lambda w: -(w * w.clamp(min=1e-6).log()).sum(-1)),
        ("entropy", lambda w: finished("entropy")(w).round(decimals=5)),
        ("softmax_jacobian", lambda w: finished("softmax_jacobian")(w).round(decimals=5)),
        ("score_variance", lambda q, k: finished("score_variance")(q, k).round(decimals=5)),
    ],
)
def test_rounding_and_clipping_show_in_float64(name, answer):
    message = said(name, answer)
    assert "Nearly right, but not exact with float64 inputs" in message or "should be" in message


def test_an_answer_written_for_float32_is_right():
    check.embed(lambda tokens, table: F.one_hot(tokens, len(table)).float() @ table)


def test_a_small_constant_against_a_division_by_zero_is_right():
    assert diagnose(EXERCISES["entropy"], lambda w: -(w * (w + 1e-9).log()).sum(-1)) is None


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("embed", lambda tokens, table: table.detach()[tokens]),
        ("masked_softmax", lambda scores, mask: weights_of(scores, mask).detach()),
        ("masked_softmax", torch.no_grad()(weights_of)),
        ("attention_scores", lambda q, k: torch.tensor((q @ k.mT / q.shape[-1] ** 0.5).tolist())),
    ],
)
def test_a_gradient_that_does_not_arrive_is_seen(name, answer):
    assert "no gradient reaches" in said(name, answer)


def test_a_gradient_that_is_cut_on_one_way_is_seen():
    def answer(q, k, v, mask):
        weights = finished("attention")(q, k, v, mask)[1].detach()
        return weights @ v, weights

    assert "no gradient reaches `q`" in said("attention", answer)


def test_a_model_without_a_gradient_of_its_weights_is_seen():
    message = said("gpt", torch.no_grad()(finished("gpt")))
    assert 'no gradient reaches `weights["' in message


def test_logits_of_another_dtype_are_seen():
    assert "float64" in said("gpt", lambda *inputs: finished("gpt")(*inputs).double())


def test_scores_through_numpy_are_seen():
    def answer(q, k):
        return torch.from_numpy(q.numpy() @ k.numpy().swapaxes(-1, -2) / q.shape[-1] ** 0.5)

    message = said("attention_scores", answer)
    assert "gradients must flow" in message and "requires grad" in message


def test_a_wrong_gradient_of_right_values_is_seen():
    def answer(tokens, table):
        return (table + table.detach())[tokens] / 2

    assert "their gradient is not" in said("embed", answer)


def test_a_gradient_that_is_nan_where_a_score_is_infinite_is_seen():
    def answer(state, scores, values):
        new = torch.maximum(state[0], scores.amax(-1))
        factor, exps = (state[0] - new).exp().nan_to_num(), (scores - new[..., None]).exp().nan_to_num()
        return new, factor * state[1] + exps.sum(-1), factor[..., None] * state[2] + exps @ values

    assert "the gradient of `scores` is NaN" in said("merge_piece", answer)


def test_a_number_is_no_tensor():
    assert "should be a torch.Tensor; yours is a float" in said(
        "score_variance", lambda q, k: (q @ k.T).var(correction=0).item()
    )


def test_a_tuple_is_no_list():
    assert "`tokens` should be a list; yours is a tuple" in said(
        "merge_pair", lambda tokens, pair: tuple(finished("merge_pair")(tokens, pair))
    )


def test_a_result_that_is_its_input_is_seen():
    def answer(tokens, pair):
        joined = finished("merge_pair")(tokens, pair)
        return tokens if joined == tokens else joined

    assert "shares its memory with `tokens`" in said("merge_pair", answer)


def test_a_token_replaced_in_its_input_is_seen():
    def answer(tokens, pair):
        joined = finished("merge_pair")(tokens, pair)
        for i in range(len(tokens)):
            tokens[i] = b""
        return joined

    assert "changes its input `tokens` in place" in said("merge_pair", answer)


def test_float16_may_be_computed_in_float32_and_is_returned():
    def answer(q, k, v, mask, scale=None):
        q, k, v = (x.float() if x.dtype == torch.float16 else x for x in (q, k, v))
        output, weights = finished("scaled_attention")(q, k, v, mask, scale)
        return output, weights

    def converted(q, k, v, mask, scale=None):
        return tuple(x.to(q.dtype) for x in answer(q, k, v, mask, scale))

    message = said("scaled_attention", answer)
    assert "`output` should have the dtype of the inputs, torch.float16; yours has torch.float32." in message
    assert diagnose(EXERCISES["scaled_attention"], converted) is None


def test_a_dtype_that_is_asked_for_is_demanded():
    def answer(d_head, theta):
        return theta ** -(torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)

    assert "`frequencies` should have the dtype torch.float32; yours has torch.float64" in said(
        "rope_frequencies", answer
    )
    assert diagnose(EXERCISES["rope_frequencies"], lambda d_head, theta: answer(d_head, theta).float()) is None


@pytest.mark.parametrize("name", ["sinusoids", "shift_matrix"])
def test_a_dtype_that_no_input_says_is_demanded(name):
    message = said(name, lambda *inputs: finished(name)(*inputs).double())
    assert "should have the dtype torch.float32; yours has torch.float64." in message


class EqualsEverything:
    def __eq__(self, other):
        return True

    __hash__ = None


class RaisesWhenCompared:
    def __eq__(self, other):
        raise ValueError

    __hash__ = object.__hash__
    __repr__ = __str__ = __bool__ = __len__ = __iter__ = __eq__


class TensorThatEqualsEverything(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return torch.tensor(True)


class TextThatEqualsEverything(str):
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__


class ListThatCanBeReadOnce(list):
    def __iter__(self):
        items, self[:] = list(super().__iter__()), [b""]
        return iter(items)


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("attention_scores", lambda q, k: EqualsEverything(), "should be a torch.Tensor; yours is an EqualsEverything"),
        ("attention_scores", lambda q, k: RaisesWhenCompared(), "yours is a RaisesWhenCompared"),
        ("attention_scores", lambda q, k: q.as_subclass(TensorThatEqualsEverything), "TensorThatEqualsEverything"),
        ("attention", lambda *x: (x[0].as_subclass(TensorThatEqualsEverything),) * 2, "TensorThatEqualsEverything"),
        ("decode", lambda tokens, vocabulary: TextThatEqualsEverything(), "yours is a TextThatEqualsEverything"),
        ("merge_pair", lambda tokens, pair: [RaisesWhenCompared()] * 3, "RaisesWhenCompared"),
        ("merge_pair", lambda tokens, pair: ListThatCanBeReadOnce(finished("merge_pair")(tokens, pair)), "next call"),
        ("count_pairs", lambda words: {RaisesWhenCompared(): 1}, "counts"),
        ("encode_word", lambda word, ranks: EqualsEverything(), "yours is an EqualsEverything"),
    ],
)  # fmt: skip
def test_a_class_that_cannot_be_compared_gets_a_sentence(name, answer, words):
    assert words in said(name, answer)


def test_a_view_is_seen_unless_the_exercise_is_about_views():
    def turned(x):
        return x.mT.contiguous()

    for views in (False, True):
        own = exercise("99.1", points=1, views=views)(turned)
        own.inputs(lambda rng: iter([(torch.randn(2, 3, generator=rng),)]))
        diagnosis = diagnose(own, lambda x: x.mT)
        assert (diagnosis is None) == views


def test_a_dictionary_that_changes_at_the_next_call_is_seen():
    counts = {}

    def answer(words):
        counts.clear()
        counts.update(finished("count_pairs")(words))
        return counts

    assert "changes at its next call" in said("count_pairs", answer)


@pytest.mark.parametrize(
    ("name", "thing", "words"),
    [
        ("embed", nn.Embedding(4, 5), "torch.nn.modules.sparse.Embedding, the library's own function"),
        ("embed", nn.Embedding, "This is the class Embedding"),
        ("softmax", nn.Softmax(-1), "torch.nn.modules.activation.Softmax, the library's own"),
        ("softmax", torch.Tensor.softmax, "the library's own function"),
        ("softmax", functools.partial(torch.softmax), "torch.softmax, the library's own function"),
        ("softmax", np.exp, "numpy.exp, the library's own function"),
        ("attention_scores", lambda q, k: (q @ k.mT).to_sparse(), "dense tensor; yours is sparse"),
        ("attention_scores", lambda q, k: (q @ k.mT).to("meta"), "on the device meta"),
        ("attention_scores", lambda q, k: (q @ k.mT).to(torch.complex64), "yours has torch.complex64"),
        ("attention_scores", lambda q, k: torch.nested.nested_tensor([q, k]), "dense tensor; yours is nested"),
        (
            "attention_scores",
            lambda q, k: torch.quantize_per_tensor(q @ k.mT, 0.1, 0, torch.qint8),
            "dense tensor; yours is quantized",
        ),
    ],
)
def test_an_odd_object_gets_a_sentence(name, thing, words):
    assert words in said(name, thing)


def test_a_module_of_the_learners_own_is_an_answer():
    class Scores(nn.Module):
        def forward(self, q, k):
            return q @ k.mT / q.shape[-1] ** 0.5

    assert diagnose(EXERCISES["attention_scores"], Scores()) is None


def scripted(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    return q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_function_of_the_learners_own_is_not_the_librarys():
    assert diagnose(EXERCISES["attention_scores"], torch.jit.script(scripted)) is None
    assert "library" not in said("attention_scores", np.vectorize(scripted))


def test_another_default_device_does_no_harm():
    device = torch.get_default_device()
    torch.set_default_device("meta")
    try:
        assert diagnose(EXERCISES["attention_scores"], scripted) is None
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(device)


def test_the_entropy_of_a_distribution_is_an_answer():
    assert diagnose(EXERCISES["entropy"], lambda w: torch.distributions.Categorical(probs=w).entropy()) is None
