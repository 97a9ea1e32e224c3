"""Latent attention: two forms with one result, a cache of latents, and what training and quantization make of it."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.quantization import QuantizedLinear, quantize
from pocketgpt.layers.attention_backends import BACKENDS, causal_mask
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.training.loss import NextTokenLoss
from pocketgpt.training.optimizer import split_parameters
from pocketgpt.training.prepare import prepare_for_training

OPTIONS = {
    "rope": ("rope", {}),
    "compressed queries": ("rope", {"q_rank": 20}),
    "other widths": ("rope", {"q_rank": 7, "kv_rank": 13, "d_head": 6, "d_rope": 10, "d_value": 5}),
    "rope switched off": ("rope", {"d_rope": 0}),
    "learned positions": ("learned", {}),
    "shared key without rope": ("learned", {"d_rope": 4}),
    "one head": ("rope", {"n_heads": 1, "d_head": 16}),
}


def config_of(option: str, **changes) -> ModelConfig:
    positions, widths = OPTIONS[option]
    sizes = {"vocab_size": 61, "d_model": 48, "n_layers": 2, "max_seq_len": 24}
    mixer = LatentAttentionConfig(**{"n_heads": 6, "kv_rank": 12} | widths)
    return ModelConfig(**sizes | changes, mixer=mixer, positions=positions).resolved()


@pytest.fixture(params=OPTIONS)
def model(request, lively) -> GPT:
    return lively(config_of(request.param))


def expanded(model: GPT, x: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The queries and the compressed tokens of the first layer."""
    mixer, context = model.blocks[0].mixer, model.context(tokens)
    return mixer.queries(x, context), mixer.compress(x, context)


@pytest.mark.parametrize("backend", BACKENDS)
@torch.no_grad()
def test_the_absorbed_form_equals_the_explicit_one(model, backend, assert_equal):
    mixer = model.use_attention(backend).blocks[0].mixer
    q, compressed = expanded(model, torch.randn(2, 9, 48), torch.zeros(2, 9, dtype=torch.long))
    mask = causal_mask(torch.arange(9), torch.arange(9))
    explicit = mixer.explicit(q, compressed)
    assert explicit.std() > 0.3
    assert_equal(mixer.absorbed(q, compressed, mask), explicit)


@torch.no_grad()
def test_a_prompt_is_explicit_and_what_follows_is_absorbed(lively, monkeypatch):
    model, widths = lively(config_of("rope", n_layers=1)), []

    def seen(q: Tensor, k: Tensor, v: Tensor, **options) -> Tensor:
        widths.append((q.shape[-1], k.shape[1], v.shape[-1]))
        return BACKENDS["fused"](q, k, v, **options)

    model.use_attention(seen)
    cache = new_cache(model, 1)
    for n_tokens in (5, 1, 3):
        model(torch.zeros(1, n_tokens, dtype=torch.long), cache)
    # 8 + 4 coordinates and six heads; then the latent of 12 and the rotary key of 4, one head for all
    assert widths == [(12, 6, 8), (16, 1, 12), (16, 1, 12)]


def test_the_cache_is_one_latent_and_one_rotary_key_per_token(model):
    config = model.config.mixer
    per_token = (config.kv_rank + config.d_rope) * 4
    assert model.cache_bytes(3, 7) == 2 * 3 * 7 * per_token
    shapes = [tuple(tensor.shape) for tensor in new_cache(model, 3, 7).layers[0].tensors]
    assert shapes == [(3, 1, 7, config.kv_rank + config.d_rope)]


@pytest.mark.parametrize("n_heads", [6, 12, 24])
def test_more_heads_need_no_larger_cache(n_heads):
    config = config_of("rope")
    with torch.device("meta"):
        model = GPT(replace(config, mixer=replace(config.mixer, n_heads=n_heads)))
    assert model.cache_bytes(1, 10) == 2 * 10 * (12 + 4) * 4


def test_n_params_is_the_count_by_hand(model):
    config = model.config.mixer
    heads, rank, d_query = config.n_heads, config.kv_rank, config.d_head + config.d_rope
    compressed_queries = (config.q_rank or 0) * (48 + 1 + heads * d_query)
    queries = compressed_queries or 48 * heads * d_query
    keys_and_values = 48 * (rank + config.d_rope) + rank + rank * heads * (config.d_head + config.d_value)
    mixer = queries + keys_and_values + heads * config.d_value * 48
    assert sum(parameter.numel() for parameter in model.blocks[0].mixer.parameters()) == mixer


def flops(model: GPT, tokens: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        model(tokens)
    return counter.get_total_flops()


@pytest.mark.parametrize("prepare", ["as it is", "for training", "int8", "bf16", "for decoding"])
@torch.no_grad()
def test_flops_per_token_is_what_pytorch_counts(model, prepare):
    prepared = {
        "as it is": lambda: model,
        "for training": lambda: prepare_for_training(model, torch.device("cpu"), "bf16"),
        "int8": lambda: quantize(model, "int8"),
        "bf16": lambda: quantize(model, "bf16"),
        "for decoding": lambda: prepare_for_decoding(model, "int8"),
    }[prepare]()
    assert prepared.flops_per_token(11) == model.flops_per_token(11)
    prepared.use_attention("step_by_step")  # PyTorch's counter sees plain products, and not all fused kernels
    assert flops(prepared, torch.zeros(2, 11, dtype=torch.long)) == prepared.flops_per_token(11) * 2 * 11


def test_the_rotary_key_makes_a_score_depend_on_distance_only(lively, assert_equal):
    model = lively(config_of("rope"))
    mixer = model.blocks[0].mixer
    tokens, x = torch.zeros(1, 20, dtype=torch.long), torch.randn(1, 1, 48).expand(1, 20, 48)
    q, compressed = (part.detach() for part in expanded(model, x, tokens))
    scores = q[..., mixer.config.d_head :] @ compressed[..., mixer.config.kv_rank :].mT  # (1, H, 20, 20)
    assert_equal(scores[..., 3:, 3:], scores[..., :-3, :-3])
    assert not torch.allclose(scores[..., 5, 5], scores[..., 5, 2])


@pytest.mark.parametrize("option", ["rope", "rope switched off", "learned positions", "shared key without rope"])
def test_order_is_seen_through_positions_only(option, lively):
    model = lively(config_of(option, causal=False))
    tokens, order = torch.randint(61, (1, 20)), torch.randperm(20)
    shuffled = torch.allclose(model(tokens[:, order]), model(tokens)[:, order], atol=1e-3)
    assert shuffled == (option == "rope switched off")
    if model.config.positions == "learned":
        assert model.rotary_widths == []
        torch.nn.init.zeros_(model.positions.embedding.weight)
        assert torch.allclose(model(tokens[:, order]), model(tokens)[:, order], atol=1e-3)


def test_every_weight_takes_a_gradient_and_recomputed_blocks_give_the_same(model):
    model = deepcopy(model).train()
    recomputing = deepcopy(model)
    recomputing.recompute_blocks = True
    tokens = torch.randint(61, (2, 11))
    for each in (model, recomputing):
        NextTokenLoss(each)(tokens[:, :-1], tokens[:, 1:]).backward()
    for (name, ours), theirs in zip(model.named_parameters(), recomputing.parameters(), strict=True):
        assert ours.grad.abs().max() > 0, name
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)


def test_dropout_acts_in_training_only(lively):
    model, tokens = lively(config_of("rope", dropout=0.5)), torch.randint(61, (1, 9))
    mixer = model.blocks[0].mixer
    x, context = torch.randn(1, 9, 48), model.context(tokens)
    assert torch.equal(mixer(x, context), mixer(x, context))
    mixer.train()
    assert not torch.equal(mixer(x, context), mixer(x, context))


def test_training_in_bf16_gives_gradients_as_close_as_bf16_is(model):
    tokens = torch.randint(61, (4, 20))
    gradients = []
    for enabled in (False, True):
        copy = deepcopy(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = NextTokenLoss(copy)(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in copy.blocks[0].mixer.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.98


def test_matrices_are_for_muon_and_norms_on_the_latents_do_not_decay():
    hidden, others, rest = split_parameters(model := GPT(config_of("compressed queries", tie_embeddings=False)))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    projections = ("q_latent", "q", "kv_latent", "k_up", "v_up", "o")
    assert {f"blocks.0.mixer.{name}_proj.weight" for name in projections} <= {names[id(p)] for p in hidden}
    assert [names[id(p)] for p in others] == ["head.weight"]
    assert {"blocks.0.mixer.q_norm.weight", "blocks.1.mixer.kv_norm.weight"} <= {names[id(p)] for p in rest}


@torch.no_grad()
def test_a_model_in_bf16_caches_and_decodes_in_bf16(model):
    half, tokens = deepcopy(model).to(torch.bfloat16), torch.randint(61, (2, 20))
    cache = new_cache(half, 2)
    logits = torch.cat([half(part, cache) for part in tokens.split([9, *[1] * 11], dim=1)], dim=1)
    assert logits.dtype == cache.layers[0].tensors[0].dtype == torch.bfloat16
    expected = half(tokens)
    assert (logits - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("weights", ["bf16", "int8"])
@torch.no_grad()
def test_matrices_that_are_absorbed_stay_in_float32(model, weights):
    mixer = quantize(model, weights).blocks[0].mixer
    kept = {name for name, child in mixer.named_children() if isinstance(child, torch.nn.Linear)}
    assert kept == {"k_up_proj", "v_up_proj"}
    assert isinstance(mixer.o_proj, QuantizedLinear)


@pytest.mark.parametrize(("weights", "tolerance"), [("float32", 1e-5), ("bf16", 0.02), ("int8", 0.02)])
@torch.no_grad()
def test_a_quantized_model_decodes_as_it_reads(model, weights, tolerance):
    prepared, tokens = prepare_for_decoding(model, weights), torch.randint(61, (2, 20))
    cache = new_cache(prepared, 2)
    logits = torch.cat([prepared(part, cache) for part in tokens.split([9, *[1] * 11], dim=1)], dim=1)
    expected = prepared(tokens)
    assert (logits - expected).norm() < tolerance * expected.norm()
