import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.lora import LoRALinear, add_lora, load_lora_state, lora_layers, lora_state, merge_lora
from pocketgpt.models.presets import PRESETS
from pocketgpt.models.t5 import T5Config

DECODERS = [name for name, config in PRESETS.items() if not isinstance(config, T5Config)]  # it reads two texts
TOKENS = torch.randint(61, (2, 11), generator=torch.Generator().manual_seed(0))


def fill(model: nn.Module) -> nn.Module:
    """Pairs as after some training: neither matrix is zero."""
    generator = torch.Generator().manual_seed(1)
    for _, layer in lora_layers(model):
        layer.lora_A.data = torch.randn(layer.lora_A.shape, generator=generator) * layer.in_features**-0.5
        layer.lora_B.data = 0.3 * torch.randn(layer.lora_B.shape, generator=generator)
    return model


@pytest.mark.parametrize(("rank", "alpha"), [(1, 1.0), (3, 16.0), (8, 2.0)])
@pytest.mark.parametrize("bias", [False, True])
def test_a_pair_adds_the_closed_form_of_equation_3(rank, alpha, bias, assert_equal):
    linear = nn.Linear(12, 7, bias=bias)
    layer = fill(nn.Sequential(LoRALinear(linear, rank, alpha)))[0]
    x = torch.randn(2, 5, 12)
    weight = linear.weight.double() + alpha / rank * layer.lora_B.double() @ layer.lora_A.double()
    expected = F.linear(x.double(), weight, linear.bias.double() if bias else None).float()
    assert_equal(layer(x), expected)
    assert_equal(layer.merged()(x), expected)
    assert (expected - linear(x)).abs().max() > 0.1  # the pair matters


def test_the_gradients_of_a_pair_follow_from_that_of_the_whole_matrix(assert_equal):
    """y = (W + s B A) x, hence dL/dB = s · dL/dW · Aᵀ and dL/dA = s · Bᵀ · dL/dW."""
    layer = fill(nn.Sequential(LoRALinear(nn.Linear(12, 7), 3, 6.0)))[0]
    x, w = torch.randn(2, 5, 12), torch.randn(2, 5, 7)
    (layer(x) * w).sum().sin().backward()
    whole = layer.merged()
    (whole(x) * w).sum().sin().backward()
    gradient, scale = whole.weight.grad, 6.0 / 3
    assert_equal(layer.lora_B.grad, scale * gradient @ layer.lora_A.T)
    assert_equal(layer.lora_A.grad, scale * layer.lora_B.T @ gradient)


@pytest.mark.parametrize("name", DECODERS)
def test_a_model_with_new_pairs_computes_the_same_bits(name, small, lively):
    model = lively(small(name, dropout=0.0))
    with torch.no_grad():
        assert torch.equal(add_lora(model, 2, 16.0)(TOKENS), model(TOKENS))


@pytest.mark.parametrize("name", DECODERS)
def test_the_merged_model_computes_what_the_pairs_do_and_has_the_old_names(name, small, lively, assert_equal):
    model = lively(small(name, dropout=0.0))
    adapted = fill(add_lora(model, 2, 4.0))
    merged = merge_lora(adapted)
    with torch.no_grad():
        assert_equal(merged(TOKENS), adapted(TOKENS), tolerance=2e-5)
        assert (merged(TOKENS) - model(TOKENS)).abs().max() > 0.1
    assert {n: w.shape for n, w in merged.state_dict().items()} == {n: w.shape for n, w in model.state_dict().items()}
    assert merge_lora(merged) is merged


def test_the_merged_model_decodes_with_a_cache_as_it_reads(small, lively, assert_equal):
    merged = merge_lora(fill(add_lora(lively(small("latent")), 2, 4.0)))  # reads weights without calling their layers
    cache = new_cache(merged, 2)
    with torch.no_grad():
        merged(TOKENS[:, :6], cache)
        assert_equal(merged(TOKENS[:, 6:7], cache), merged(TOKENS[:, :7])[:, -1:])


@pytest.mark.parametrize("name", DECODERS)
def test_only_the_pairs_train_and_the_given_model_stays_as_it_is(name, small, lively):
    model = lively(small(name, dropout=0.0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted = fill(add_lora(model, 2, 4.0)).train()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained and all(name.endswith(("lora_A", "lora_B")) for name in trained)
    adapted(TOKENS).logsumexp(-1).sum().backward()
    assert {name for name, parameter in adapted.named_parameters() if parameter.grad is not None} == trained
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not list(lora_layers(model))


def places(model: nn.Module) -> set[str]:
    return {name.rpartition("blocks.")[2] for name, _ in lora_layers(add_lora(model, 2, 4.0))}


def test_every_projection_of_a_layer_gets_a_pair_and_nothing_else(small, lively):
    attention = {f"{layer}.mixer.{name}_proj" for layer in (0, 1) for name in "qkvo"}
    swiglu = {f"{layer}.feedforward.{name}_proj" for layer in (0, 1) for name in ("gate", "up", "down")}
    assert places(lively(small("pocket-shakespeare"))) == attention | swiglu
    assert places(lively(small("pocket-moe"))) == attention  # neither the router nor the experts
    assert {place.partition("mixer.")[2] for place in places(lively(small("pocket-mamba")))} == {
        f"{name}_proj" for name in ("in", "x", "dt", "out")
    }


def test_shared_experts_get_pairs(small, lively):
    config = small("pocket-moe", n_shared=1)
    assert {place[2:] for place in places(lively(config)) if "feedforward" in place} == {
        f"feedforward.shared.{name}_proj" for name in ("gate", "up", "down")
    }


def test_a_tied_head_stays_tied_and_shares_its_memory(small, lively):
    model = lively(small("llama"))
    adapted = add_lora(model, 2, 4.0)
    for each in (adapted, merge_lora(adapted)):
        assert each.head.weight is each.embedding.weight
        assert each.embedding.weight.data_ptr() == model.embedding.weight.data_ptr()


def test_weights_in_bf16_have_pairs_in_float32(small, lively, assert_equal):
    model = lively(small("llama")).to(torch.bfloat16)
    adapted = add_lora(model, 2, 4.0)
    with torch.no_grad():
        assert torch.equal(adapted(TOKENS), model(TOKENS))
    assert {layer.lora_B.dtype for _, layer in lora_layers(adapted)} == {torch.float32}
    merged = merge_lora(fill(adapted))
    assert merged.dtype == merged.blocks[0].mixer.q_proj.weight.dtype == torch.bfloat16
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert_equal(merged(TOKENS).float(), adapted(TOKENS).float(), tolerance=0.05)


def test_merging_in_the_middle_of_training_draws_no_random_number(small):
    from pocketgpt.models.gpt import GPT

    adapted = add_lora(GPT(small("pocket-moe")), 2, 4.0).train()
    adapted(TOKENS).sum().backward()  # its layers remember tensors with a graph now
    before = torch.get_rng_state()
    merge_lora(adapted)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bias_that_balances_experts_moves_in_the_copy_only(small, lively):
    model = lively(small("pocket-moe", balance="bias"))
    adapted = add_lora(model, 2, 4.0).train()
    adapted(TOKENS)
    for part in adapted.parts():
        part.after_step(lambda tensor: tensor)
    assert all((block.feedforward.bias == 0).all() for block in model.blocks)
    assert all((block.feedforward.bias != 0).any() for block in merge_lora(adapted).blocks)


def test_pairs_and_their_matrices_are_restored_bit_for_bit(small, lively):
    adapted = fill(add_lora(lively(small("llama")), 2, 4.0))
    other = add_lora(merge_lora(adapted), 2, 4.0)
    load_lora_state(other, lora_state(adapted))
    for name, tensor in adapted.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_numbers_of_the_docstring():
    layer = LoRALinear(nn.Linear(576, 576, bias=False), 8, 16.0)
    assert layer.weight.numel() == 331_776
    assert layer.lora_A.numel() + layer.lora_B.numel() == 9_216
