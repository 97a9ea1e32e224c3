"""Wrong answers that once passed or got a wrong name: each test is the property of the inputs or words that sees it."""

import functools
import math
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch.masked import masked_tensor

from pocketgpt.course.checking.check import CheckFailed, diagnose
from pocketgpt.course.lab import check
from pocketgpt.course.syllabus import all_exercises

EXERCISES = all_exercises()
SEEDS = range(2)


def sentences(name, answer) -> set[str]:
    diagnoses = [diagnose(EXERCISES[name], answer, seed) for seed in SEEDS]
    assert None not in diagnoses, "this wrong answer passes"
    return {each.sentence for each in diagnoses}


def finished(name):
    return EXERCISES[name].finished_answer


def scores_of(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


def test_every_dim_comes_in_both_signs():
    (said,) = sentences("softmax", lambda x, dim: finished("softmax")(x, x.ndim - 1 if dim < 0 else dim))
    assert "Every negative `dim` is taken for the last axis" in said


def test_tokens_hold_spaces():
    def answer(words):
        return Counter(pair for word in words for pair in pairwise(b" ".join(word).split()))

    assert sentences("count_pairs", answer)


def test_tokens_contain_others():
    def answer(words):
        return Counter((a[:1], b) for word in words for a, b in pairwise(word))

    assert sentences("count_pairs", answer)


def test_dictionaries_come_in_any_order():
    def answer(word, ranks):
        tokens = [bytes([byte]) for byte in word.encode()]
        for pair in ranks:
            tokens = finished("merge_pair")(tokens, pair)
        return tokens

    assert "in the order of the dictionary" in sentences("encode_word", answer).pop()


def test_ranks_go_beyond_a_thousand():
    def answer(word, ranks):
        tokens = [bytes([byte]) for byte in word.encode()]
        while len(tokens) > 1:
            pair = min(pairwise(tokens), key=lambda pair: ranks.get(pair, 1000))
            if pair not in ranks:
                break
            tokens = finished("merge_pair")(tokens, pair)
        return tokens

    assert sentences("encode_word", answer)


def test_tokens_repeat():
    def answer(tokens, vocabulary):
        data = b""
        for token in tokens:
            data += vocabulary[token]
            if token == tokens[-1]:
                break
        return data.decode(errors="replace")

    assert sentences("decode", answer)


def test_lists_have_length_0():
    def answer(tokens, pair):
        return finished("merge_pair")(tokens, pair) if tokens[0] else tokens

    assert sentences("merge_pair", answer)


@pytest.mark.parametrize("exercise", ["count_pairs", "merge_pair", "decode"])
def test_tokens_hold_capitals_and_half_characters(exercise):
    cases = EXERCISES[exercise].cases(0)
    assert any("b'A'" in repr(case) or "b'Z'" in repr(case) for case in cases)
    assert any("\\xc3" in repr(case) or "\\xa9" in repr(case) for case in cases)


def test_a_batch_of_one_is_kept():
    (said,) = sentences("attention_scores", lambda q, k: scores_of(q, k).squeeze())
    assert "Axes of size 1 are gone" in said


def test_inputs_are_not_contiguous():
    def answer(q, k):
        return scores_of(q.view(-1, q.shape[-1]).view(q.shape), k)

    for said in sentences("attention_scores", answer):
        assert "is not contiguous in memory" in said or "raised RuntimeError" in said


def test_masks_have_the_axes_of_the_scores_too():
    def answer(scores, mask):
        if mask.ndim != 2:
            raise ValueError("two axes")
        return finished("masked_softmax")(scores, mask)

    assert sentences("masked_softmax", answer) == {"This is right only where `mask` has 2 axes."}


def test_the_same_sizes_come_with_other_positions():
    @functools.cache
    def remembered(queries, keys):
        return masks.pop()

    masks = []

    def answer(query_positions, key_positions):
        masks.append(finished("causal_mask")(query_positions, key_positions))
        return remembered(len(query_positions), len(key_positions))

    assert sentences("causal_mask", answer)


def test_a_default_is_left_out():
    def answer(q, k, v, mask, scale=1.0):
        return finished("scaled_attention")(q, k, v, mask, scale)

    assert "by its default, 1.0" in sentences("scaled_attention", answer).pop()


@pytest.mark.parametrize("wrong", [abs, lambda scale: float(scale) if scale > 0 else None])
def test_scales_are_negative_too(wrong):
    def answer(q, k, v, mask, scale=None):
        return finished("scaled_attention")(q, k, v, mask, None if scale is None else wrong(scale))

    assert sentences("scaled_attention", answer)


def test_the_largest_token_is_not_always_there():
    for seed in range(30):
        assert diagnose(EXERCISES["embed"], lambda tokens, table: F.one_hot(tokens).float() @ table, seed) is not None
    (said,) = sentences("embed", lambda tokens, table: F.one_hot(tokens).to(table.dtype) @ table)
    assert "as wide as the largest token" in said


# Relations that hold for every exercise


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("attention_scores", lambda q, k: 3 * scores_of(q, k), "Your `scores` is 3 times what it should be"),
        ("attention_scores", lambda q, k: -scores_of(q, k), "Every sign of your `scores` is turned."),
        ("attention_scores", lambda q, k: scores_of(q, k) * 0, "Every value of your `scores` is 0."),
        ("attention_scores", lambda q, k: scores_of(q, k) * math.nan, "Every value of your `scores` is NaN."),
        ("attention_scores", lambda q, k: scores_of(q, k) + 2, "Every value of your `scores` is 2 too large."),
        ("attention_scores", lambda q, k: scores_of(q, k).flip(-1), "in reverse order along axis -1"),
        ("attention_scores", lambda q, k: scores_of(q, k) * k.shape[-2], "is keys times what it should be"),
        ("entropy", lambda w: 2 * torch.special.entr(w).sum(-1), "is 2 times what it should be"),
        ("score_variance", lambda q, k: 2 * (q @ k.mT).var(correction=0), "is 2 times what it should be"),
        ("softmax_jacobian", lambda w: finished("softmax_jacobian")(w) + 1, "is 1 too large"),
        ("merge_pair", lambda tokens, pair: finished("merge_pair")(tokens, pair)[::-1], "in reverse order"),
        ("merge_pair", lambda tokens, pair: [*finished("merge_pair")(tokens, pair), b"!"], "one element too many"),
        ("decode", lambda tokens, vocabulary: finished("decode")(tokens, vocabulary) + "\n", "one element too many"),
        ("count_pairs", lambda words: {p: 2 * n for p, n in finished("count_pairs")(words).items()}, "is 2 times"),
        ("attention", lambda *x: (finished("attention")(*x)[0] * 2, finished("attention")(*x)[1]), "`output` is 2"),
        ("causal_mask", lambda q, k: torch.ones(len(q), len(k)).bool() ^ finished("causal_mask")(q, k), "exchanged"),
    ],
)  # fmt: skip
def test_a_relation_to_the_right_answer_is_said(name, answer, said):
    for sentence in sentences(name, answer):
        assert said in sentence


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("attention_scores", lambda q, k: scores_of(q, k).abs(), "is the absolute value of what it should be"),
        ("attention_scores", lambda q, k: scores_of(q, k).sum(-1), "is the sum over axis -1 of"),
        ("attention_scores", lambda q, k: scores_of(k, k), "This would be right if `q` were `k`."),
        ("work", lambda p, n, c: (p, -n) if c else finished("work")(p, n, c), "right, except where `cached` is True"),
        ("ring_positions", lambda n, w: torch.arange(n - w, n).roll(n % w) - (n < w), "where it should be negative"),
        ("attention_scores", lambda q, k: q @ k.mT / (q.shape[-1] + 1) ** 0.5, "right up to a factor that changes"),
        ("softmax", lambda x, dim: finished("softmax")(-x, dim), "if `x` had every sign turned"),
        ("softmax", lambda x, dim: F.normalize(finished("softmax")(x, dim), dim=dim), "should sum to 1 along"),
        ("softmax", lambda x, dim: finished("softmax")(x / 1.5, dim), "is too even"),
        ("decode", lambda t, v: finished("decode")(t, v).lower(), "is right, but in small letters"),
        ("decode", lambda t, v: finished("decode")(sorted(t), v), "if `tokens` were sorted"),
        ("merge_pair", lambda t, p: [b"".join(finished("merge_pair")(t, p))], "joined to one, in a list"),
        ("merge_pair", lambda t, p: [*t[:1], *finished("merge_pair")(t[1:], p)], "has the right bytes"),
        ("count_pairs", lambda w: Counter((x[0], x[1]) for x in w if len(x) > 1), "counts too little"),
        ("count_pairs", lambda w: sorted(finished("count_pairs")(w).items()), "as a sorted list of pairs"),
        ("causal_mask", lambda q, k: torch.eye(len(q), len(k)).bool(), "from the sizes of the inputs alone"),
        ("causal_mask", lambda q, k: (k[None] <= q[:, None]) & (k[None] > 0), "True at too few places"),
        ("softmax_jacobian", lambda w: finished("softmax_jacobian")(w) + torch.diag_embed(w), "except on its diagonal"),
        ("embed", lambda tokens, table: table[tokens % 200], "except where `tokens` has values above 20"),
        ("entropy", lambda w: finished("entropy")(w) * 1.005, "is 1.005 times what it should be"),
        ("keep_top_k", lambda z, k: finished("keep_top_k")(z, k).clamp(min=-7e4), "except where it should be −∞"),
    ],
)  # fmt: skip
def test_a_change_of_the_right_answer_is_said(name, answer, said):
    for sentence in sentences(name, answer):
        assert said in sentence


def test_what_is_right_only_where_nothing_is_asked_for_is_no_property_of_the_inputs():
    def answer(model, prompt, n, choose, context, stop):
        return [choose(model(torch.tensor(prompt))).item() for _ in range(n)]  # without the axis of the texts

    for said in sentences("write", answer):
        assert "`n`" not in said


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("masked_softmax", lambda s, m: finished("masked_softmax")(s, m).half(), "its dtype is torch.float16"),
        ("attention", lambda *x: [y * 1.7 for y in finished("attention")(*x)], "is 1.7 times what it should be"),
        ("score_variance", lambda q, k: (q @ k.mT).var(correction=0) * len(q) / len(k), "is queries/keys times"),
        ("score_variance", lambda q, k: (q @ k.mT).var(correction=0) + len(q), "too large for most inputs"),
        ("count_pairs", lambda w: Counter(tuple(map(str, p)) for x in w for p in pairwise(x)), "Each key of your"),
        ("count_pairs", lambda w: {p: 3 - n for p, n in finished("count_pairs")(w).items()}, "has the right keys"),
        ("masked_softmax", lambda s, m: finished("masked_softmax")(s * 1.5, m) * 0.9, "does not everywhere"),
        ("attention_scores", lambda q, k: torch.bmm(q, k.mT) / q.shape[-1] ** 0.5, "right only where `q` has 3 axes"),
    ],
)
def test_a_relation_explains_something(name, answer, said):
    for sentence in sentences(name, answer):
        assert said in sentence


def test_an_error_of_the_answer_is_no_change_of_an_input():
    def answer(scores, mask):
        return scores.masked_fill((1 - mask).bool() & mask, -torch.inf).softmax(-1)

    for said in sentences("masked_softmax", answer):
        assert "were 1 smaller" not in said and "RuntimeError" in said


def test_zeros_are_not_a_factor_nor_zeros_of_an_input():
    assert sentences("entropy", lambda weights: 0 * weights.sum(-1)) == {
        "Every entropy is 0, because the logarithm is that of 1: of the sum, or of a `where` with its condition turned "
        "around. Take it of each weight that is not 0."
    }
    assert sentences("attention_scores", lambda q, k: 0 * scores_of(q, k)) == {"Every value of your `scores` is 0."}
    (said,) = sentences("masked_softmax", lambda s, m: finished("masked_softmax")(s, m) * m.any(-1).all())
    assert "One row with nothing allowed" in said


def test_an_infinity_is_no_constant_factor():
    for said in sentences("score_variance", lambda q, k: (q @ k.mT).var(correction=2)):
        assert "times what it should be" not in said


def test_nan_in_a_row_is_not_a_division_by_its_sum():
    def answer(q, k, v, mask):
        weights = scores_of(q, k).masked_fill(~mask, -torch.inf).softmax(-1)
        return (weights @ v).nan_to_num(), weights

    for said in sentences("attention", answer):
        assert "divided by its sum" not in said


def test_the_sizes_alone_are_not_said_of_values_that_a_mask_decides():
    def answer(q, k, v, mask, scale=None):
        weights = scores_of(q, k).masked_fill(mask, -torch.inf).softmax(-1)
        return weights @ v, weights

    for said in sentences("scaled_attention", answer):
        assert "from the sizes of the inputs alone" not in said


def test_the_form_of_special_inputs_is_no_reason():
    for said in sentences("entropy", lambda weights: torch.special.entr(weights.clamp_min(1e-3)).sum(-1)):
        assert "Wherever this is wrong" not in said


@pytest.mark.parametrize("kind", ["masked", "own"])
def test_a_tensor_that_cannot_be_compared_gets_a_sentence(kind):
    class Odd(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            if function.__name__ in ("isclose", "eq", "equal", "cpu", "__eq__"):
                raise ValueError
            return super().__torch_function__(function, types, args, kwargs or {})

    Odd.__module__ = "torch.odd"

    def answer(q, k):
        scores = scores_of(q, k)
        return masked_tensor(scores, scores > 0) if kind == "masked" else scores.as_subclass(Odd)

    for said in sentences("attention_scores", answer):
        assert said.startswith("`scores` should be a torch.Tensor; yours is a")


@pytest.mark.parametrize("wrong", ["is false", "hides its traceback"])
def test_an_error_of_an_odd_class_gets_a_sentence(wrong):
    class Odd(Exception):
        def __bool__(self):
            return False

        def __getattribute__(self, name):
            raise ValueError(name)

    if wrong == "is false":
        del Odd.__getattribute__

    def answer(q, k):
        raise Odd

    for said in sentences("attention_scores", answer):
        assert "raised Odd in line" in said


def kept(words, counts={}):  # noqa: B006
    for word in words:
        for pair in pairwise(word):
            counts[pair] = counts.get(pair, 0) + 1
    return counts


def test_a_dictionary_kept_from_call_to_call_is_said():
    for said in sentences("count_pairs", kept):
        assert "stays from call to call" in said


def without_else(tokens, pair):
    result, i = [], 0
    while i < len(tokens):
        if i + 1 < len(tokens) and (tokens[i], tokens[i + 1]) == pair:
            result.append(tokens[i] + tokens[i + 1])
            i += 2
        if i < len(tokens):
            result.append(tokens[i])
        i += 1
    return result


def counted_before_it_is_known(words):
    found = {}
    for word in words:
        for pair in pairwise(word):
            found[pair] += 1
    return found


def made_anew(words):
    for word in words:
        found = Counter(pairwise(word))  # the name of a variable in an error is the learner's own
    return found


@pytest.mark.parametrize(
    ("name", "answer", "said"),
    [
        ("masked_softmax", lambda s, m: s.masked_fill(~m, -100.0).softmax(-1), "a number like −100"),
        ("masked_softmax", lambda s, m: s.masked_fill(~m, -1000.0).softmax(-1), "a number like −100 or −1000"),
        ("masked_softmax", lambda s, m: s.masked_fill(~m, -1e4).softmax(-1), "a number like −10,000"),
        ("merge_pair", lambda tokens, pair: [*tokens], "Nothing is joined"),
        ("merge_pair", without_else, "the next token is appended without a look at it"),
        ("count_pairs", counted_before_it_is_known, "counts[pair] raises KeyError"),
        ("count_pairs", made_anew, "made anew for each word"),
        ("attention_scores", lambda q, k: q @ k.mT / 2, "divided by 2, as in the table above"),
        ("masked_softmax", lambda s, m: s.masked_fill(1 - m, -torch.inf).softmax(-1), "subtracted from 1"),
        ("score_variance", lambda q, k: (q @ k.mT - (q @ k.mT).mean()).mean(), "are not squared"),
        (
            "softmax",
            lambda x, dim: (
                (x - x.max(dim, keepdim=True)[1]).exp() / (x - x.max(dim, keepdim=True)[1]).exp().sum(dim, keepdim=True)
            ),
            "The place of the largest score is subtracted",
        ),
    ],
)
def test_a_name_says_what_the_answer_does(name, answer, said):
    for sentence in sentences(name, answer):
        assert said in sentence


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("embed", lambda tokens, table: table[tokens].double()),
        ("embed", lambda tokens, table: table[tokens % 50]),
        ("softmax", lambda x, dim: finished("softmax")(x.float(), dim)),
        ("entropy", lambda weights: finished("entropy")(weights.float())),
        ("softmax_jacobian", lambda weights: finished("softmax_jacobian")(weights.float())),
        ("encode_word", lambda word, ranks: finished("encode_word")(unicodedata.normalize("NFC", word), ranks)),
        ("decode", lambda t, v: b"".join(v[i] for i in t).decode("utf-8-sig", errors="replace")),
        ("decode", lambda t, v: unicodedata.normalize("NFC", finished("decode")(t, v))),
        ("decode", lambda t, v: finished("decode")(t, v).replace("Ġ", " ")),
        ("decode", lambda t, v: finished("decode")(t, v).replace("\r\n", "\n")),
    ],
)
def test_these_answers_once_passed(name, answer):
    assert sentences(name, answer)


def test_results_that_are_swapped_are_said_to_be():
    def answer(*inputs):
        return finished("scaled_attention")(*inputs)[::-1]

    assert sentences("scaled_attention", answer) == {"The two results are swapped: return (output, weights)."}


def test_right_for_another_number_of_axes_is_said():
    def answer(q, k):
        return torch.einsum("td,sd->ts", q, k) / q.shape[-1] ** 0.5

    assert sentences("attention_scores", answer) == {"This is right only where `q` has 2 axes."}


def test_right_except_at_the_borders_is_said():
    def answer(q, k):
        scores = scores_of(q, k)
        return torch.cat([scores[..., :-1], scores[..., -1:].square() + 1], dim=-1)

    assert sentences("attention_scores", answer) == {"Your `scores` is right, except at the last place along axis -1."}


def wrong_in(cases):
    """An answer that is 3 too large in the cases of these numbers, and right elsewhere."""
    chosen = [case for i, case in enumerate(EXERCISES["attention_scores"].cases(0)) if i in cases]
    return lambda q, k: scores_of(q, k) + 3 * any(q.equal(a) and k.equal(b) for a, b in chosen)


def test_the_right_numbers_as_tensors_are_in_no_other_order():
    said = sentences("part_weights", lambda counts: list(torch.tensor(counts) / sum(counts)))
    assert said == {"`weights[0]` should be a float; yours is a Tensor."}


@pytest.mark.parametrize("cases", [{1}, {4}, {1, 4}, {2, 9}], ids=str)
def test_a_relation_that_holds_in_some_cases_only_is_not_said(cases):
    sentence = diagnose(EXERCISES["attention_scores"], wrong_in(cases), 0).sentence
    assert "values of your `scores` are wrong" in sentence


def test_a_border_that_is_wrong_in_some_cases_only_is_not_said():
    plus_3 = wrong_in({3, 7})

    def answer(q, k):
        return torch.cat([scores_of(q, k)[..., :-1], plus_3(q, k)[..., -1:]], dim=-1)

    assert "right, except at" not in diagnose(EXERCISES["attention_scores"], answer, 0).sentence


def test_that_only_zeros_are_right_is_not_said():
    def answer(q, k, v, output, log_sum_exp, grad, rows, columns):
        dq, dk, dv = finished("tiled_gradients")(q, k, v, output, log_sum_exp, grad, rows, columns)
        return dq * (1 + q.square()), dk, dv  # the first query sees one key, so its gradient is 0

    for said in sentences("tiled_gradients", answer):
        assert "should not be 0" not in said


def test_an_error_is_recognized_by_its_text_too():
    def answer(words):
        raise TypeError("something else")

    assert all("slice" not in said for said in sentences("count_pairs", answer))


# Mistakes of the parts, in what is composed of them


@pytest.mark.parametrize(
    ("hide", "said"),
    [
        (lambda s, mask: s.masked_fill(~mask, -1e9).softmax(-1), "the same large negative number"),
        (lambda s, mask: s.masked_fill(mask, -torch.inf).softmax(-1).nan_to_num(), "True where attention is allowed"),
        (lambda s, mask: s.masked_fill(~mask, -torch.inf).softmax(-2).nan_to_num(), "runs over the queries"),
    ],
)  # fmt: skip
def test_attention_knows_the_mistakes_of_its_parts(hide, said):
    def answer(q, k, v, mask):
        weights = hide(scores_of(q, k), mask)
        return weights @ v, weights

    assert said in sentences("attention", answer).pop()
    if "negative" not in said:

        def scaled(q, k, v, mask, scale=None):
            weights = hide((q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.mT, mask)
            return weights @ v, weights

        assert said in sentences("scaled_attention", scaled).pop()


def test_four_axes_turned_are_named_in_attention():
    def answer(q, k, v, mask):
        weights = finished("masked_softmax")(q @ k.T / q.shape[-1] ** 0.5, mask)
        return weights @ v, weights

    assert "Here `k.T` turns all axes around" in sentences("attention", answer).pop()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("attention_scores", lambda q, k: scores_of(q, k) * (2 if q.ndim == 4 else 1)),
        ("attention_scores", lambda q, k: scores_of(q, k) if q.shape[-2] != k.shape[-2] else scores_of(q, k).mT),
        ("causal_mask", lambda q, k: torch.ones(1024, 1024).tril().bool()[q % 1024][:, k % 1024]),
        (
            "causal_mask",
            lambda q, k: (k[None] <= q[:, None]) if len(q) != len(k) else torch.ones(len(q), len(k)).bool().tril(),
        ),
        ("entropy", lambda weights: finished("entropy")(weights.view(-1, weights.shape[-1])).view(weights.shape[:-1])),
    ],
    ids=["four axes", "as many keys as queries", "far positions", "a square mask", "heads cut out of a wider vector"],
)
def test_the_shapes_of_a_model_are_among_the_inputs(name, answer):
    with pytest.raises(CheckFailed):
        getattr(check, name)(answer)


def test_a_join_may_make_a_pair_that_comes_before_the_known_ones():
    def answer(word, ranks):
        tokens = [bytes([byte]) for byte in word.encode()]
        while known := sorted({pair for pair in pairwise(tokens) if pair in ranks}, key=ranks.get):
            for pair in known:
                tokens = finished("merge_pair")(tokens, pair)
        return tokens

    with pytest.raises(CheckFailed):
        check.encode_word(answer)


@pytest.mark.parametrize("scores", [lambda q, k: (q @ k.mT).clamp(-65504, 65504), lambda q, k: (q @ k.mT).nan_to_num()])
def test_products_that_overflow_in_float16_are_told_apart(scores):
    def answer(q, k, v, mask, scale=None):
        products = scores(q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
        weights = products.masked_fill(~mask, -torch.inf).softmax(-1)
        return weights @ v, weights

    with pytest.raises(CheckFailed):
        check.scaled_attention(answer)


def test_computing_in_float32_is_exact_enough():
    def answer(q, k, v, mask, scale=None):
        scores = (q.float() @ k.float().mT) * (q.shape[-1] ** -0.5 if scale is None else scale)
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        return (weights @ v.float()).to(q.dtype), weights.to(q.dtype)

    for _ in range(5):
        check.scaled_attention(answer)
