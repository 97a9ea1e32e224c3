import math
from collections import Counter

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.checked import ConfigError
from pocketgpt.errors import PocketError
from pocketgpt.inference.spans import SPAN_TOKENS
from pocketgpt.models.presets import preset
from pocketgpt.models.t5 import T5, T5Config
from pocketgpt.training.loss import IGNORE
from pocketgpt.training.objectives import OBJECTIVES, find_objective
from pocketgpt.training.recipes import TrainConfig, recipe
from pocketgpt.training.span_corruption import (
    SpanCorruptionLoss,
    corrupt,
    count_spans,
    draw_spans,
    flops_per_corrupted_token,
    random_parts,
)

CPU = torch.device("cpu")
LENGTHS = [1, 2, 3, 7, 20, 64, 256, 512]


def test_fifteen_percent_are_cut_out_in_spans_of_three():
    assert count_spans(512) == (77, 26)
    assert count_spans(256) == (38, 13)
    assert count_spans(1) == count_spans(2) == (1, 1)


@pytest.mark.parametrize("length", LENGTHS)
def test_every_row_has_exactly_as_many_tokens_and_spans_as_are_counted(length):
    n_cut, n_spans = count_spans(length)
    cut = draw_spans(40, length, n_cut, n_spans, CPU)
    begins = cut & ~F.pad(cut, (1, 0))[:, :-1]
    assert set(cut.sum(1).tolist()) == {n_cut} and set(begins.sum(1).tolist()) == {n_spans}
    assert cut[:, -1].all() and (length == 1 or not cut[:, 0].any())


def test_spans_are_different_in_every_row():
    assert len({tuple(row) for row in draw_spans(40, 64, *count_spans(64), CPU).tolist()}) == 40


def test_all_ways_of_cutting_a_row_into_parts_are_equally_likely():
    counts = Counter(map(tuple, random_parts(30_000, 6, 3, CPU).tolist()))
    assert len(counts) == math.comb(5, 2)
    assert all(sum(parts) == 6 and min(parts) >= 1 for parts in counts)
    assert all(count == pytest.approx(3000, abs=5 * 3000**0.5) for count in counts.values())


def test_corruption_by_hand():
    text = torch.tensor([[10, 11, 12, 13, 14, 15, 16], [20, 21, 22, 23, 24, 25, 26]])
    cut = torch.tensor([[0, 1, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1, 1]], dtype=torch.bool)
    inputs, outputs = corrupt(text, cut, n_cut=3, n_spans=2, sentinel=90)
    assert inputs.tolist() == [[10, 90, 13, 14, 91, 16], [90, 21, 22, 23, 24, 91]]
    assert outputs.tolist() == [[90, 11, 12, 91, 15, 92], [90, 20, 91, 25, 26, 92]]


@pytest.mark.parametrize("length", LENGTHS)
def test_input_and_output_together_are_the_text(length):
    counts = count_spans(length)
    text = torch.randint(1000, (5, length))
    inputs, outputs = corrupt(text, draw_spans(5, length, *counts, CPU), *counts, sentinel=1000)
    for row in range(5):
        spans: dict[int, list[int]] = {}
        for token in outputs[row].tolist():
            if token >= 1000:
                spans[token] = []
            else:
                spans[max(spans)].append(token)
        assert spans.pop(1000 + counts[1]) == [] and len(spans) == counts[1]
        rebuilt = [piece for token in inputs[row].tolist() for piece in spans.get(token, [token])]
        assert rebuilt == text[row].tolist()


def test_a_window_with_more_spans_than_sentinels_is_named_with_one_that_fits():
    with pytest.raises(PocketError, match=r"4096 tokens has 205 spans .* a seq_len of at most 1980"):
        count_spans(4096)
    assert count_spans(1980)[1] == 99


@pytest.fixture
def t5(small) -> T5:
    torch.manual_seed(0)
    return T5(small("pocket-t5", vocab_size=20 + len(SPAN_TOKENS), max_seq_len=40)).eval()


def test_the_loss_is_that_of_pytorch_on_the_decoders_outputs(t5):
    text = torch.randint(20, (3, 40))
    torch.manual_seed(1)
    ours = SpanCorruptionLoss(t5)(text, text)
    torch.manual_seed(1)
    inputs, outputs = corrupt(text, draw_spans(3, 40, 6, 2, CPU), 6, 2, sentinel=20)
    assert outputs[:, 0].tolist() == [20, 20, 20] and outputs[:, -1].tolist() == [22, 22, 22]
    before = torch.cat((torch.full((3, 1), 120), outputs[:, :-1]), dim=1)
    expected = F.cross_entropy(t5(inputs, before).transpose(1, 2), outputs)
    torch.testing.assert_close(ours, expected)


def test_a_batch_in_parts_has_the_loss_of_the_whole(t5):
    text = torch.randint(20, (4, 40))
    torch.manual_seed(1)
    parts = [SpanCorruptionLoss(t5)(text[rows], text[rows], n_targets=160) for rows in (slice(0, 1), slice(1, 4))]
    torch.manual_seed(1)
    means = [SpanCorruptionLoss(t5)(text[rows], text[rows]) for rows in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(parts), (means[0] + 3 * means[1]) / 4)


def test_targets_are_only_counted(t5):
    text = torch.randint(20, (2, 40))
    losses = []
    for targets in (text, torch.full_like(text, IGNORE)):
        torch.manual_seed(1)
        losses.append(SpanCorruptionLoss(t5)(text, targets))
    assert torch.equal(*losses)


def test_spans_come_from_the_global_random_numbers(t5):
    text, loss = torch.randint(20, (2, 40)), SpanCorruptionLoss(t5)
    torch.manual_seed(1)
    first, second = loss(text, text), loss(text, text)
    torch.manual_seed(1)
    assert torch.equal(loss(text, text), first) and not torch.equal(first, second)


def test_flops_are_those_of_the_tokens_that_are_read_and_written(t5):
    assert flops_per_corrupted_token(t5, 20) * 20 == t5.flops(20 - 3 + 1, 3 + 1 + 1)
    assert OBJECTIVES["span-corruption"].flops_per_token(t5, 20) < t5.flops_per_token(20)


def test_a_model_without_an_encoder_cannot_learn_it(config, tokenizer):
    with pytest.raises(ConfigError, match=r"'span-corruption' cannot work without an encoder: use a T5"):
        find_objective(TrainConfig(objective="span-corruption"), config, tokenizer)


@pytest.mark.parametrize("objective", sorted(set(OBJECTIVES) - {"span-corruption"}))
def test_a_t5_can_learn_nothing_else(objective, tokenizer):
    with pytest.raises(ConfigError, match=r"cannot work with a T5.*use 'span-corruption'"):
        find_objective(TrainConfig(objective=objective), preset("pocket-t5"), tokenizer)


def test_a_vocabulary_without_sentinels_is_named(tokenizer):
    with pytest.raises(ConfigError, match=r"adds 101 \(<0> to <start>\); the vocabulary of the model has 4096"):
        find_objective(recipe("pocket-t5"), preset("pocket-t5"), tokenizer)
    config = preset("pocket-t5", vocab_size=257 + 101)
    assert isinstance(config, T5Config) and find_objective(recipe("pocket-t5"), config, tokenizer).encoder


@pytest.mark.parametrize(
    ("prompt", "message"), [("To be" * 4, "prompt has 21 tokens.* at most 16"), ("___" * 100, "100 gaps")]
)
def test_a_prompt_that_no_sample_can_be_written_for_is_refused_before_training(tokenizer, prompt, message):
    config = preset("pocket-t5", d_model=48, vocab_size=257 + len(SPAN_TOKENS), max_seq_len=16)
    with pytest.raises(PocketError, match=message):
        find_objective(TrainConfig(objective="span-corruption", prompt=prompt), config, tokenizer)
    find_objective(TrainConfig(objective="span-corruption", prompt="To be ___"), config, tokenizer)
