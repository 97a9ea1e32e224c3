"""Mamba against transformers' MambaForCausalLM (its slow path, in plain PyTorch), with the same random weights."""

import pytest
import torch
from transformers import MambaConfig as TheirConfig
from transformers import MambaForCausalLM

from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.layers.mamba import MambaConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT

TOKENS = torch.randint(61, (2, 19), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=[{"d_state": 16, "d_conv": 4, "expand": 2}, {"d_state": 5, "d_conv": 3, "expand": 3}], ids=str)
def pair(request) -> tuple[GPT, MambaForCausalLM]:
    torch.manual_seed(0)
    shape = request.param
    theirs = MambaForCausalLM(
        TheirConfig(
            vocab_size=61,
            hidden_size=32,
            num_hidden_layers=3,
            state_size=shape["d_state"],
            conv_kernel=shape["d_conv"],
            expand=shape["expand"],
            layer_norm_epsilon=1e-5,
            use_mambapy=False,
        )
    ).eval()
    config = ModelConfig(
        vocab_size=61,
        d_model=32,
        n_layers=3,
        max_seq_len=64,
        mixer=MambaConfig(**shape),
        feedforward=None,
        positions="none",
    )
    ours = GPT(config).eval()
    for name, parameter in theirs.named_parameters():
        if parameter.ndim > 1 and "A_log" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict({renamed(name): weight for name, weight in theirs.state_dict().items()})
    return ours, theirs


def renamed(name: str) -> str:
    for their, our in {
        "backbone.embeddings": "embedding",
        "backbone.norm_f": "final_norm",
        "backbone.layers": "blocks",
        ".norm.": ".mixer_norm.",
        "lm_head": "head",
    }.items():
        name = name.replace(their, our)
    return name


@torch.no_grad()
@pytest.mark.parametrize("seq", [1, 2, 9, 16, 19])
def test_logits_are_theirs(pair, seq, assert_equal):
    ours, theirs = pair
    assert_equal(ours(TOKENS[:, :seq]), theirs(TOKENS[:, :seq]).logits)


@torch.no_grad()
def test_decoding_with_the_state_gives_their_logits(pair, assert_equal):
    ours, theirs = pair
    expected = theirs(TOKENS).logits
    cache = new_cache(ours, 2)
    assert_equal(ours(TOKENS[:, :5], cache), expected[:, :5])
    for position in range(5, 19):
        assert_equal(ours(TOKENS[:, position, None], cache), expected[:, position, None])


def test_gradients_are_theirs(pair, assert_equal):
    ours, theirs = pair
    ours(TOKENS).logsumexp(-1).sum().backward()
    theirs(TOKENS).logits.logsumexp(-1).sum().backward()
    mine = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        assert_equal(mine[renamed(name)].grad, parameter.grad, tolerance=1e-4)


def test_initial_decay_and_skip_are_theirs():
    config = TheirConfig(vocab_size=61, hidden_size=32, num_hidden_layers=1)
    theirs = MambaForCausalLM(config).backbone.layers[0].mixer
    shape = {"vocab_size": 61, "d_model": 32, "n_layers": 1, "max_seq_len": 8}
    model = GPT(ModelConfig(**shape, mixer=MambaConfig(), feedforward=None, positions="none"))
    ours = model.blocks[0].mixer
    torch.testing.assert_close(ours.A_log, theirs.A_log)
    torch.testing.assert_close(ours.D, theirs.D)
    assert ours.dt_proj.weight.abs().max() <= theirs.dt_proj.weight.abs().max() * 1.2
    steps = torch.nn.functional.softplus(ours.dt_proj.bias)
    assert steps.min() >= 1e-3 * 0.99 and steps.max() <= 0.1 * 1.01
