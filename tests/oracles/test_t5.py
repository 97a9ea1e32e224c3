"""T5 against transformers' T5ForConditionalGeneration, with the same random weights."""

import pytest
import torch
from transformers import T5Config as TheirConfig
from transformers import T5ForConditionalGeneration

from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.inference.seq2seq import generate_output
from pocketgpt.models.t5 import T5, shift_right
from pocketgpt.pretrained.huggingface import from_huggingface
from pocketgpt.pretrained.t5_names import rename_t5

GENERATOR = torch.Generator().manual_seed(0)
INPUT = torch.randint(61, (3, 19), generator=GENERATOR)
OUTPUT = torch.randint(61, (3, 13), generator=GENERATOR)
MASK = torch.arange(19) < torch.tensor([19, 1, 8])[:, None]  # padding of the input, of a different length in each row
SHAPES = {
    "tied": {"tie": True, "activation": "relu", "d_head": 8, "n_layers": 2},
    "untied and gated": {"tie": False, "activation": "geglu", "d_head": 5, "n_layers": 3},
}
THEIR_ACTIVATIONS = {"relu": "relu", "geglu": "gated-gelu"}


@pytest.fixture(scope="module", params=SHAPES.values(), ids=SHAPES)
def pair(request) -> tuple[T5, T5ForConditionalGeneration]:
    torch.manual_seed(0)
    shape = request.param
    theirs = T5ForConditionalGeneration(
        TheirConfig(
            vocab_size=61,
            d_model=32,
            d_kv=shape["d_head"],
            d_ff=40,
            num_layers=shape["n_layers"],
            num_heads=4,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=12,
            feed_forward_proj=THEIR_ACTIVATIONS[shape["activation"]],
            tie_word_embeddings=shape["tie"],
        )
    ).eval()
    if not shape["tie"]:  # this release of transformers ties the head whatever its config says
        theirs.lm_head.weight = torch.nn.Parameter(torch.randn(61, 32))
    for name, parameter in theirs.named_parameters():  # weights at which nothing can be left out unnoticed
        std = 1.0 if "bias" in name or "shared" in name else 0.2
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=std)
    config = theirs.config.to_dict() | {"tie_word_embeddings": shape["tie"], "n_positions": 24}
    ours = from_huggingface(config, theirs.state_dict())
    assert ours.config.tie_embeddings == ours.config.scale_logits == shape["tie"]
    return ours, theirs


@torch.no_grad()
@pytest.mark.parametrize(("n_input", "n_output"), [(1, 1), (19, 1), (1, 13), (19, 13), (7, 9)])
def test_logits_are_theirs(pair, n_input, n_output, assert_equal):
    ours, theirs = pair
    tokens, decoder_tokens = INPUT[:, :n_input], OUTPUT[:, :n_output]
    expected = theirs(input_ids=tokens, decoder_input_ids=decoder_tokens).logits
    assert_equal(ours(tokens, decoder_tokens), expected)


@torch.no_grad()
def test_logits_of_a_padded_input_are_theirs(pair, assert_equal):
    ours, theirs = pair
    expected = theirs(input_ids=INPUT, attention_mask=MASK.long(), decoder_input_ids=OUTPUT).logits
    assert_equal(ours(INPUT, OUTPUT, MASK), expected)


@torch.no_grad()
def test_decoding_with_a_cache_gives_their_logits(pair, assert_equal):
    ours, theirs = pair
    expected = theirs(input_ids=INPUT, attention_mask=MASK.long(), decoder_input_ids=OUTPUT).logits
    memory, cache = ours.encode(INPUT, MASK), new_cache(ours, 3)
    assert_equal(ours.decode(OUTPUT[:, :4], memory, cache), expected[:, :4])
    for position in range(4, 13):
        assert_equal(ours.decode(OUTPUT[:, position, None], memory, cache), expected[:, position, None])


@pytest.mark.parametrize("backend", ["step_by_step", "short", "decode"])
def test_every_backend_gives_their_logits(pair, backend, assert_equal):
    ours, theirs = pair
    with torch.no_grad():
        expected = theirs(input_ids=INPUT, attention_mask=MASK.long(), decoder_input_ids=OUTPUT).logits
        assert_equal(ours.use_attention(backend)(INPUT, OUTPUT, MASK), expected)
    ours.use_attention("fused")


def test_gradients_are_theirs(pair, assert_equal):
    ours, theirs = pair
    ours(INPUT, OUTPUT, MASK).logsumexp(-1).sum().backward()
    theirs(input_ids=INPUT, attention_mask=MASK.long(), decoder_input_ids=OUTPUT).logits.logsumexp(-1).sum().backward()
    mine = dict(ours.named_parameters())
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, gradient in rename_t5(gradients).items():
        assert_equal(mine[name].grad, gradient, tolerance=1e-4)


def test_decoder_inputs_are_theirs(pair):
    theirs = pair[1]
    theirs.config.decoder_start_token_id = theirs.config.pad_token_id = 7
    targets = OUTPUT.clone()
    targets[0, 5:] = -100
    assert torch.equal(shift_right(targets, 7), theirs._shift_right(targets))


@pytest.mark.parametrize("lengths", [[19, 19, 19], [19, 1, 8]], ids=str)
def test_greedy_outputs_are_theirs(pair, lengths):
    ours, theirs = pair
    end = ours(INPUT, torch.zeros(3, 1, dtype=torch.long))[0, -1].argmax().item()  # the first row ends at once
    mask = torch.arange(19) < torch.tensor(lengths)[:, None]
    expected = theirs.generate(
        INPUT,
        attention_mask=mask.long(),
        max_new_tokens=12,
        do_sample=False,
        num_beams=1,
        decoder_start_token_id=0,
        eos_token_id=end,
        pad_token_id=0,
    )[:, 1:].tolist()
    expected = [row[: row.index(end)] if end in row else row for row in expected]
    inputs = [row[:length] for row, length in zip(INPUT.tolist(), lengths, strict=True)]
    assert generate_output(ours, inputs, max_new_tokens=12, stop_tokens=(end,)) == expected
    assert len({len(row) for row in expected}) > 1  # some end earlier than others
