"""Weights in fewer bytes: what is stored, what it costs, and what it does to the predictions."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pocketgpt.errors import PocketError
from pocketgpt.inference.fidelity import fidelity
from pocketgpt.inference.generate import generate
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.quantization import quantize, quantize_rows
from pocketgpt.inference.sampling import Sampler
from pocketgpt.inference.speed import Stopwatch, bytes_per_step
from pocketgpt.layers.attention_backends import decode_attention
from pocketgpt.models.gpt import GPT

GREEDY = Sampler(temperature=0.0)
TEXT = np.random.default_rng(0).integers(61, size=100)
TOKENS = torch.from_numpy(TEXT[:20])[None]


@pytest.fixture(scope="module", params=["llama", "gpt2", "pocket"])
def model(request, small, lively) -> GPT:
    return lively(small(request.param, max_seq_len=32))


def test_a_row_is_stored_in_steps_of_its_largest_weight_over_127():
    values, scale = quantize_rows(torch.tensor([[1.27, -0.5, 0.004], [0.0, 0.0, 0.0], [-254.0, 1.0, 3.0]]))
    assert values.tolist() == [[127, -50, 0], [0, 0, 0], [-127, 0, 2]]  # 0.5 and 1.5 steps round to even
    torch.testing.assert_close(scale, torch.tensor([0.01, 0.0, 2.0]))


def test_no_weight_is_off_by_more_than_half_a_step():
    weight = torch.randn(50, 40) * torch.logspace(-6, 6, 50)[:, None]
    values, scale = quantize_rows(weight)
    assert ((values * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all()


def test_int8_agrees_with_the_quantized_weights_of_pytorch():
    weight = torch.randn(20, 30)
    values, scale = quantize_rows(weight)
    theirs = torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros(20, dtype=torch.int32), 0, -127, 127)
    torch.testing.assert_close(values * scale[:, None], theirs)


def test_float32_changes_nothing(model):
    tokens = torch.randint(61, (2, 9))
    torch.testing.assert_close(quantize(model, "float32")(tokens), model(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("weights", "most"), [("bf16", 2e-3), ("int8", 2e-2)])
def test_fewer_bits_change_the_predictions_a_little(model, weights, most):
    found = fidelity(quantize(model, weights), model, TEXT, seq_len=32)
    assert 0 < found.kl < most
    assert found.perplexity == pytest.approx(found.reference_perplexity, rel=0.1)


def test_kl_and_perplexity_are_those_of_their_definitions(small, lively):
    model, other = (lively(small("llama", max_seq_len=32), seed) for seed in (0, 1))
    tokens = torch.from_numpy(TEXT[:33])[None]
    p, q = (m(tokens[:, :-1])[0].detach().double().softmax(-1) for m in (model, other))
    found = fidelity(other, model, TEXT[:33], seq_len=32)
    assert found.kl == pytest.approx((p * (p / q).log()).sum(-1).mean().item(), rel=1e-6)
    loss = F.cross_entropy(other(tokens[:, :-1])[0].double(), tokens[0, 1:])
    assert found.perplexity == pytest.approx(loss.exp().item(), rel=1e-6)


def test_a_model_has_its_perplexity_beside_itself_too(model):
    found = fidelity(model, model, TEXT[:33], seq_len=32)
    loss = F.cross_entropy(model(torch.from_numpy(TEXT[:32])[None])[0].double(), torch.from_numpy(TEXT[1:33]))
    assert (found.kl, found.perplexity) == (0.0, found.reference_perplexity)
    assert found.perplexity == pytest.approx(loss.exp().item(), rel=1e-6)


def test_the_original_is_left_alone(model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepare_for_decoding(model, "int8")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.blocks[0].mixer.attend is not decode_attention


@pytest.mark.parametrize(("weights", "each"), [("float32", 4), ("bf16", 2), ("int8", 1)])
def test_a_step_reads_every_weight_once_in_its_format(small, lively, weights, each):
    model = lively(small("llama", max_seq_len=32))
    prepared = prepare_for_decoding(model, weights)
    matrices = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    scales = sum(4 * matrix.out_features for matrix in matrices) if each == 1 else 0
    norms = 4 * 48 * (2 * 2 + 1)
    cache = model.cache_bytes(1, 7, torch.float32 if each == 4 else torch.bfloat16)
    expected = each * sum(matrix.weight.numel() for matrix in matrices) + scales + norms + cache
    assert bytes_per_step(prepared, 7) == expected


def test_text_of_a_prepared_model_is_that_of_the_model(model):
    prompts = [[5, 17, 3], [9], list(range(10))]
    ours = generate(prepare_for_decoding(model), prompts, max_new_tokens=40, sampler=GREEDY)
    assert ours == generate(model, prompts, max_new_tokens=40, sampler=GREEDY)


@pytest.mark.parametrize("name", ["gpt2", "latent", "pocket-mamba", "pocket-delta"])
def test_a_model_in_half_precision_is_prepared_too(small, lively, name):
    model = lively(small(name)).to(torch.bfloat16)
    prepared = prepare_for_decoding(model, "bf16")
    with torch.no_grad():
        assert torch.equal(prepared(TOKENS), quantize(model.float(), "bf16")(TOKENS))
    generate(prepared, [[5, 17, 3], [9]], max_new_tokens=5)


def test_an_unknown_format_is_answered_with_those_there_are(model):
    with pytest.raises(PocketError, match=r"weights = 'int4' cannot work: use one of float32, bf16, int8"):
        quantize(model, "int4")


def test_one_query_attends_as_the_fused_operator_does(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)  # the sums that are made for the compiler
    q, k, v = torch.randn(2, 6, 1, 8), torch.randn(2, 3, 9, 8), torch.randn(2, 3, 9, 8)
    mask = (torch.arange(9) <= torch.tensor([[8], [4]]))[:, None, None]
    theirs = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    torch.testing.assert_close(decode_attention(q, k, v, mask), theirs, rtol=1e-5, atol=1e-5)


def test_speed_is_that_of_the_median_step_after_the_first_token():
    watch = Stopwatch()
    assert list(watch.watch([7, 8, 9])) == [7, 8, 9]
    watch.arrivals = [2.0, 9.0, 9.5, 10.0]  # the second token waited for a compiler
    assert watch.tokens_per_second == 2.0
