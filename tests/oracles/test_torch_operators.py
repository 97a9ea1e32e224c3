"""Our layers against PyTorch's operators, and PyTorch's where we use them against formulas in double precision."""

import math

import pytest
import torch
from torch.nn import functional as F

from pocketgpt.layers.attention_backends import BACKENDS, attention, causal_mask, expand_kv_heads, fused_attention
from pocketgpt.layers.feedforward import ACTIVATIONS, FeedForwardConfig, build_feedforward
from pocketgpt.layers.norm import RMSNorm, build_norm
from pocketgpt.models.presets import preset

HEADS = [(6, 6), (6, 2), (6, 1)]
X = torch.linspace(-6, 6, 1001)


def queries_keys_values(n_heads: int, n_kv_heads: int, seq: int, keys: int):
    shapes = [(2, n_heads, seq, 8), (2, n_kv_heads, keys, 8), (2, n_kv_heads, keys, 8)]
    return [2 * torch.randn(shape) for shape in shapes]


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), HEADS)
def test_attention_without_mask(n_heads, n_kv_heads, assert_equal):
    q, k, v = queries_keys_values(n_heads, n_kv_heads, 5, 9)
    assert_equal(attention(q, k, v)[0], F.scaled_dot_product_attention(q, k, v, enable_gqa=True))


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), HEADS)
def test_attention_with_causal_mask(n_heads, n_kv_heads, assert_equal):
    q, k, v = queries_keys_values(n_heads, n_kv_heads, 7, 7)
    positions = torch.arange(7)
    ours, _ = attention(q, k, v, causal_mask(positions, positions))
    assert_equal(ours, F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True))


@pytest.mark.parametrize("shape", [(5, 9), (1, 5, 9), (2, 1, 5, 9)])
def test_attention_with_any_mask(shape, assert_equal):
    q, k, v = queries_keys_values(6, 2, 5, 9)
    mask = torch.rand(shape) < 0.5
    mask[..., 0] = True  # every query may look somewhere
    expected = F.scaled_dot_product_attention(q, k, v, mask, enable_gqa=True)
    assert_equal(attention(q, k, v, mask)[0], expected)
    assert_equal(fused_attention(q, k, v, mask), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(5, 9), (1, 6, 5, 9), (2, 1, 5, 9)])
def test_a_mask_of_numbers_is_added_to_the_scores(shape, backend, assert_equal):
    q, k, v = queries_keys_values(6, 2, 5, 9)
    bias = 2 * torch.randn(shape)
    bias[..., 1:3] = -math.inf
    expected = F.scaled_dot_product_attention(q, k, v, bias, enable_gqa=True)
    assert_equal(attention(q, k, v, bias)[0], expected)
    assert_equal(BACKENDS[backend](q, k, v, bias), expected)
    assert (attention(q, k, v, bias)[1][..., 1:3] == 0).all()


@pytest.mark.parametrize(("n_heads", "n_kv_heads"), HEADS)
def test_fused_attention_is_the_readable_one(n_heads, n_kv_heads, assert_equal):
    q, k, v = queries_keys_values(n_heads, n_kv_heads, 7, 7)
    positions = torch.arange(7)
    expected, _ = attention(q, k, v, causal_mask(positions, positions))
    assert_equal(fused_attention(q, k, v, is_causal=True), expected)


def test_attention_weights_are_those_of_multi_head_attention(assert_equal):
    theirs = torch.nn.MultiheadAttention(24, 3, bias=False, batch_first=True)
    x = torch.randn(2, 5, 24)
    allowed = torch.ones(5, 5).tril().bool()
    _, expected = theirs(x, x, x, attn_mask=~allowed, average_attn_weights=False)
    q, k, v = (x @ w.T for w in theirs.in_proj_weight.chunk(3))
    q, k, v = (y.unflatten(-1, (3, 8)).transpose(1, 2) for y in (q, k, v))
    assert_equal(attention(q, k, v, allowed)[1], expected)


def test_kv_heads_are_shared_by_neighbors():
    x = torch.arange(2.0)[None, :, None, None]
    assert expand_kv_heads(x, 6).flatten().tolist() == [0, 0, 0, 1, 1, 1]


def test_rms_norm_is_the_formula(assert_equal):
    x, norm = 3 * torch.randn(4, 7, 16), RMSNorm(16, eps=0.5)
    torch.nn.init.normal_(norm.weight)
    exact = x.double() / (x.double().square().mean(-1, keepdim=True) + 0.5).sqrt() * norm.weight.double()
    assert_equal(norm(x), exact.float())
    assert_equal(RMSNorm(16, eps=0.5, weight=False)(x), (exact / norm.weight.double()).float())


@pytest.mark.parametrize(("weight", "bias"), [(True, True), (True, False), (False, False)])
def test_layer_norm_is_the_formula(weight, bias, assert_equal):
    changes = {"norm": "layernorm", "norm_weight": weight, "norm_bias": bias, "norm_eps": 0.5}
    config = preset("llama", d_model=16, mixer={"n_heads": 2}, **changes)
    x, norm = 3 * torch.randn(4, 7, 16) + 1, build_norm(config)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    centered = x.double() - x.double().mean(-1, keepdim=True)
    exact = centered / (centered.square().mean(-1, keepdim=True) + 0.5).sqrt()
    exact = exact * norm.weight.double() if weight else exact
    exact = exact + norm.bias.double() if bias else exact
    assert_equal(norm(x), exact.float())


def test_gelu_is_x_times_the_normal_distribution(assert_equal):
    exact = torch.tensor([x * 0.5 * (1 + math.erf(x / math.sqrt(2))) for x in X.tolist()])
    assert_equal(ACTIVATIONS["gelu"](X), exact)


def test_gelu_tanh_is_the_formula(assert_equal):
    inner = [math.sqrt(2 / math.pi) * (x + 0.044715 * x**3) for x in X.tolist()]
    exact = torch.tensor([0.5 * x * (1 + math.tanh(y)) for x, y in zip(X.tolist(), inner, strict=True)])
    assert_equal(ACTIVATIONS["gelu_tanh"](X), exact)


def test_relu_is_the_formula():
    assert ACTIVATIONS["relu"](torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])).tolist() == [0, 0, 0, 0.5, 3]


def test_relu2_squares_after_the_relu():
    assert ACTIVATIONS["relu2"](torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])).tolist() == [0, 0, 0, 0.25, 9]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["swiglu", "geglu", "gelu", "gelu_tanh", "relu", "relu2"])
def test_feedforward_is_the_formula(kind, bias, assert_equal):
    config = FeedForwardConfig(activation=kind, d_ff=24, bias=bias)
    layer = build_feedforward(config, preset("llama", d_model=16, mixer={"n_heads": 2})).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(3, 5, 16).double()

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        module = getattr(layer, name)
        return x @ module.weight.T + (module.bias if bias else 0)

    up = linear("up_proj", x)

    def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
        return x * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    hidden = {
        "swiglu": lambda: (gate := linear("gate_proj", x)) * gate.sigmoid() * up,
        "geglu": lambda: gelu_tanh(linear("gate_proj", x)) * up,
        "gelu": lambda: up * 0.5 * (1 + torch.erf(up / math.sqrt(2))),
        "gelu_tanh": lambda: gelu_tanh(up),
        "relu": lambda: up.clamp(min=0),
        "relu2": lambda: up.clamp(min=0) ** 2,
    }[kind]()
    assert_equal(layer(x), linear("down_proj", hidden))
