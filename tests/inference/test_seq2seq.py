import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.inference.generate import generate
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.seq2seq import generate_output, stream_output
from pocketgpt.models.stack import ContextError
from pocketgpt.models.t5 import T5

INPUTS = [[1, 2, 3, 4, 5, 6, 7], [8], [9, 10, 11]]


@pytest.fixture(scope="module")
def model(small, lively) -> T5:
    return lively(small("pocket-t5"))


@torch.no_grad()
def without_cache(model: T5, tokens: list[int], n: int) -> list[int]:
    """The most probable output, by a full pass for each token."""
    written = [model.config.start_token]
    for _ in range(n):
        written.append(model(torch.tensor([tokens]), torch.tensor([written]))[0, -1].argmax().item())
    return written[1:]


def test_greedy_outputs_are_those_of_full_passes(model):
    expected = [without_cache(model, tokens, 12) for tokens in INPUTS]
    assert generate_output(model, INPUTS, max_new_tokens=12) == expected
    for tokens, output in zip(INPUTS, expected, strict=True):
        assert list(stream_output(model, tokens, max_new_tokens=12)) == output


def test_a_stop_token_ends_its_row_only(model):
    whole = generate_output(model, INPUTS, max_new_tokens=12)
    stop = whole[1][4]
    expected = [row[: row.index(stop)] if stop in row else row for row in whole]
    assert generate_output(model, INPUTS, max_new_tokens=12, stop_tokens=(stop,)) == expected
    assert list(stream_output(model, INPUTS[1], max_new_tokens=12, stop_tokens=(stop,))) == expected[1]


def test_an_output_ends_where_the_positions_do(model):
    assert len(generate_output(model, [[1, 2]], max_new_tokens=100)[0]) == model.config.max_seq_len


def test_the_same_seed_draws_the_same_output(model):
    draw = Sampler(temperature=1.0, top_k=None)
    outputs = [generate_output(model, INPUTS, max_new_tokens=8, sampler=draw, seed=seed) for seed in (1, 1, 2)]
    assert outputs[0] == outputs[1] != outputs[2]


def test_generation_leaves_a_model_in_training_as_it_was(small, lively):
    model = lively(small("pocket-t5", dropout=0.5)).train()
    assert generate_output(model, INPUTS, max_new_tokens=5) == generate_output(model, INPUTS, max_new_tokens=5)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_a_model_prepared_for_decoding_writes(model, weights):
    prepared = prepare_for_decoding(model, weights)
    [output] = generate_output(prepared, [INPUTS[0]], max_new_tokens=6)
    with torch.no_grad():
        before = torch.tensor([[model.config.start_token, *output[:-1]]])
        logits = model(torch.tensor([INPUTS[0]]), before)[0]
    # What it writes is at least among the most probable tokens of the original model.
    assert all(token in logits[i].topk(8).indices for i, token in enumerate(output))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([], "There is no prompt"), ([[]], "Prompt 0 is empty"), ([[1], [61]], "Prompt 1 contains token 61")],
)
def test_an_input_that_cannot_be_read_is_named(model, inputs, message):
    with pytest.raises(PocketError, match=message):
        generate_output(model, inputs, max_new_tokens=1)


def test_an_input_longer_than_the_positions_is_named(model):
    with pytest.raises(ContextError, match="25 tokens are more than the 24"):
        generate_output(model, [[0] * 25], max_new_tokens=1)


def test_logits_that_are_not_finite_are_named(small):
    model = T5(small("pocket-t5"))
    torch.nn.init.constant_(model.embedding.weight, torch.nan)
    with pytest.raises(PocketError, match="NaN or infinite"):
        generate_output(model, [[1]], max_new_tokens=1)


def test_to_continue_a_text_is_refused_with_what_to_use(model):
    with pytest.raises(
        PocketError, match=r"has an encoder.*generate_output or stream_output of pocketgpt\.inference\.seq"
    ):
        generate(model, [[1]], max_new_tokens=1)
