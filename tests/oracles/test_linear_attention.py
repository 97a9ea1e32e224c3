"""Linear attention against the masked product in float64 and MiniMax's lightning attention without decay, the delta
rule against Qwen3-Next's gated one without decay; with the same random weights."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import MiniMaxConfig
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention
from transformers.models.qwen3_next.modeling_qwen3_next import (
    torch_chunk_gated_delta_rule,
    torch_recurrent_gated_delta_rule,
)

from pocketgpt.layers.context import Context
from pocketgpt.layers.delta_rule import build_linear_attention, delta_reads
from pocketgpt.layers.linear_attention import LinearAttention, LinearAttentionConfig, causal_sums, features
from pocketgpt.models.config import ModelConfig

LENGTHS = [1, 2, 19, 32, 33, 100]


def layer(seq: int, positions: str = "none", **changes) -> tuple[LinearAttention, Tensor, Context]:
    config = ModelConfig(
        vocab_size=9,
        d_model=24,
        n_layers=1,
        max_seq_len=200,
        positions=positions,
        mixer=LinearAttentionConfig(n_heads=3, **changes),
    ).resolved()
    module = build_linear_attention(config.mixer, config)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    angles = torch.arange(seq)[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001])
    rotation = (angles.cos()[None, None], angles.sin()[None, None])
    return module, torch.randn(2, seq, 24), Context(torch.arange(seq)[None], {8: rotation})


def heads(x: Tensor, projection: torch.nn.Linear) -> Tensor:
    return (x.double() @ projection.weight.double().T).unflatten(-1, (3, -1)).transpose(1, 2)


def turned(x: Tensor, context: Context) -> Tensor:
    cos, sin = (part.double() for part in context.rotations[8])
    one, two = x[..., :4], x[..., 4:]
    return torch.cat((one * cos - two * sin, one * sin + two * cos), dim=-1)


@pytest.mark.parametrize("seq", LENGTHS)
@pytest.mark.parametrize("positions", ["none", "rope"])
def test_linear_attention_is_the_masked_product_in_float64(seq, positions, assert_equal):
    module, x, context = layer(seq, positions)
    q, k, v = (heads(x, projection) for projection in (module.q_proj, module.k_proj, module.v_proj))
    q, k = F.elu(q) + 1, F.elu(k) + 1
    total = (q @ k.mT).tril().sum(dim=-1, keepdim=True)
    if positions == "rope":
        q, k = turned(q, context), turned(k, context)
    y = (q @ k.mT).tril() @ v / total
    expected = y.transpose(1, 2).flatten(2) @ module.o_proj.weight.double().T
    assert_equal(module(x, context), expected.float())


def test_features_of_one_and_sums_by_hand():
    # Keys 1 and 2 with values 10 and 20, query 1: (1 · 10 + 2 · 20) / (1 + 2); φ(0) = 1 and φ(1) = 2 make these keys.
    k, v = features(torch.tensor([0.0, 1.0]))[None, None, :, None], torch.tensor([10.0, 20.0])[None, None, :, None]
    sums, state = causal_sums(torch.ones_like(k), k, v, torch.zeros(1, 1, 1, 1))
    assert sums.flatten().tolist() == [10, 50] and state.item() == 50
    torch.testing.assert_close(sums / k.cumsum(dim=2), torch.tensor([10.0, 50 / 3])[None, None, :, None])


def test_features_are_elu_plus_one_and_positive_where_that_is_zero(assert_equal):
    x = torch.linspace(-30, 5, 1001)
    assert_equal(features(x), (F.elu(x.double()) + 1).float())
    torch.testing.assert_close(features(x).log()[x < 0], x[x < 0])


@pytest.mark.parametrize("seq", LENGTHS)
def test_sums_are_those_of_lightning_attention_without_decay(seq, assert_equal):
    theirs = MiniMaxLightningAttention(
        MiniMaxConfig(hidden_size=24, num_attention_heads=3, head_dim=8, block_size=16, num_hidden_layers=2), 0
    )
    theirs.slope_rate = torch.full_like(theirs.slope_rate, 1e-12)  # its sign makes their causal mask
    theirs.query_decay, theirs.key_decay, theirs.diagonal_decay = theirs.decay_factors(theirs.slope_rate)
    theirs.norm, theirs.out_proj = torch.nn.Identity(), torch.nn.Identity()
    torch.nn.init.zeros_(theirs.output_gate.weight)  # a gate of sigmoid(0) = 1/2
    torch.nn.init.normal_(theirs.qkv_proj.weight, std=0.4)
    x = torch.randn(2, seq, 24)
    expected = 2 * theirs(x, (None, None), torch.ones(2, seq))[0].unflatten(-1, (3, 8)).transpose(1, 2)
    q, k, v = F.silu(theirs.qkv_proj(x)).unflatten(-1, (3, 24)).transpose(1, 2).split(8, dim=-1)
    assert_equal(causal_sums(q, k, v, torch.zeros(2, 3, 8, 8))[0], expected)


@pytest.mark.parametrize("theirs", [torch_chunk_gated_delta_rule, torch_recurrent_gated_delta_rule])
@pytest.mark.parametrize("seq", LENGTHS)
def test_delta_rule_is_qwen3_next_s_without_decay(seq, theirs, assert_equal):
    q, k, v = torch.randn(3, 2, 3, seq, 8)
    q, k, beta, before = F.normalize(q, dim=-1), F.normalize(k, dim=-1), torch.rand(2, 3, seq), torch.randn(2, 3, 8, 8)
    ours, after = delta_reads(q, k, v, beta, before)
    q, k, v, beta = (x.transpose(1, 2) for x in (q, k, v, beta))
    expected, state = theirs(
        q, k, v, g=torch.zeros(2, seq, 3), beta=beta, initial_state=before, output_final_state=True
    )
    assert_equal(ours.transpose(1, 2), expected * 8**0.5)  # which divide queries by √d_head
    assert_equal(after, state)


@pytest.mark.parametrize("positions", ["none", "rope"])
def test_delta_layer_is_qwen3_next_s_recurrence_between_projections(positions, assert_equal):
    module, x, context = layer(70, positions, delta_rule=True)
    q, k, v = (heads(x, projection) for projection in (module.q_proj, module.k_proj, module.v_proj))
    if positions == "rope":
        q, k = turned(q, context), turned(k, context)
    beta = (x.double() @ module.beta_proj.weight.double().T).sigmoid()
    q, k, v = (each.transpose(1, 2) for each in (q, k, v))
    y, _ = torch_recurrent_gated_delta_rule(q, k, v, torch.zeros_like(beta), beta, use_qk_l2norm_in_kernel=True)
    y = F.rms_norm(y * 8**0.5, (8,), module.o_norm.weight.double(), 1e-5)
    assert_equal(module(x, context), (y.flatten(2) @ module.o_proj.weight.double().T).float())


def test_reading_a_key_gives_the_value_just_written_under_it_when_beta_is_one(assert_equal):
    k, v = F.normalize(torch.randn(2, 3, 90, 8), dim=-1), torch.randn(2, 3, 90, 8)
    reads, state = delta_reads(k, k, v, torch.ones(2, 3, 90), torch.randn(2, 3, 8, 8))
    assert_equal(reads, v, tolerance=1e-4)  # 90 keys in 8 dimensions: rounding errors are carried along
    unchanged = delta_reads(k, k, v, torch.zeros(2, 3, 90), state)[1]
    assert torch.equal(unchanged, state)


@pytest.mark.parametrize("delta_rule", [False, True])
def test_gradients_are_those_of_the_recurrence_in_float64(delta_rule, assert_equal):
    module, x, context = layer(67, delta_rule=delta_rule)
    weight = torch.randn(2, 67, 24)
    (module(x, context) * weight).sum().backward()
    ours = {name: parameter.grad for name, parameter in module.named_parameters()}
    exact = {name: p.detach().double().requires_grad_() for name, p in module.named_parameters()}
    q, k, v = (
        (x.double() @ exact[f"{name}_proj.weight"].T).unflatten(-1, (3, 8)).transpose(1, 2) for name in ("q", "k", "v")
    )
    state, normalizer, reads = torch.zeros(2, 3, 8, 8).double(), torch.zeros(2, 3, 8).double(), []
    if delta_rule:
        q, k, beta = (
            F.normalize(q, dim=-1),
            F.normalize(k, dim=-1),
            (x.double() @ exact["beta_proj.weight"].T).sigmoid(),
        )
    else:
        q, k = F.elu(q) + 1, F.elu(k) + 1
    for t in range(67):
        new = v[:, :, t]
        if delta_rule:
            new = beta[:, t, :, None] * (new - torch.einsum("bhi,bhij->bhj", k[:, :, t], state))
        state = state + torch.einsum("bhi,bhj->bhij", k[:, :, t], new)
        normalizer = normalizer + k[:, :, t]
        read = torch.einsum("bhi,bhij->bhj", q[:, :, t], state)
        reads.append(read if delta_rule else read / (q[:, :, t] * normalizer).sum(-1, keepdim=True))
    y = torch.stack(reads, dim=2).transpose(1, 2)  # (B, T, H, d_head)
    if delta_rule:
        y = F.rms_norm(y, (8,), exact["o_norm.weight"], 1e-5)
    (y.flatten(2) @ exact["o_proj.weight"].T * weight).sum().backward()
    assert ours.keys() == exact.keys()
    for name, gradient in ours.items():
        assert_equal(gradient, exact[name].grad.float(), tolerance=1e-4)
