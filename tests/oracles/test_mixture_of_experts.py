"""Mixtures of experts against Mixtral and DeepSeek-V3 as transformers implements them, with the same random weights."""

import pytest
import torch
from torch import nn
from transformers import DeepseekV3Config, MixtralConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock, load_balancing_loss_func

from pocketgpt.layers.mixture_of_experts import MixtureOfExperts, MixtureOfExpertsConfig
from pocketgpt.models.presets import preset

MODEL = preset("llama", d_model=24, mixer={"n_heads": 2})


def randomized(module: nn.Module) -> nn.Module:
    for tensor in (*module.parameters(), *module.buffers()):
        nn.init.normal_(tensor, std=0.5)
    return module.eval()


def copied(ours: MixtureOfExperts, theirs: nn.Module) -> MixtureOfExperts:
    with torch.no_grad():
        ours.router.weight.copy_(theirs.gate.weight)
        for number, expert in enumerate(ours.experts):
            gate, up = theirs.experts.gate_up_proj[number].chunk(2)
            expert.gate_proj.weight.copy_(gate)
            expert.up_proj.weight.copy_(up)
            expert.down_proj.weight.copy_(theirs.experts.down_proj[number])
    return ours.eval()


@pytest.fixture(params=[1, 2, 5])
def mixtral(request) -> tuple[MixtureOfExperts, MixtralSparseMoeBlock]:
    shape = {"hidden_size": 24, "intermediate_size": 20, "num_local_experts": 5, "num_experts_per_tok": request.param}
    theirs = randomized(MixtralSparseMoeBlock(MixtralConfig(**shape)))
    config = MixtureOfExpertsConfig(n_experts=5, top_k=request.param, d_ff=20)
    return copied(MixtureOfExperts(config, MODEL), theirs), theirs


def test_output_and_gradients_are_those_of_mixtral(mixtral, assert_equal):
    ours, theirs = mixtral
    x = torch.randn(3, 7, 24)
    assert_equal(ours(x).detach(), theirs(x).detach())
    ours(x).square().sum().backward()
    theirs(x).square().sum().backward()
    # With one expert its weight is always 1, whatever the router says.
    if ours.config.top_k > 1:
        assert_equal(ours.router.weight.grad, theirs.gate.weight.grad)
    for number, expert in enumerate(ours.experts):
        assert_equal(expert.down_proj.weight.grad, theirs.experts.down_proj.grad[number])


def test_balancing_loss_is_that_of_mixtral(mixtral):
    ours, theirs = mixtral
    x = torch.randn(3, 7, 24)
    ours.train()(x)
    logits, _, _ = theirs.gate(x.flatten(0, 1))
    expected = load_balancing_loss_func((logits,), 5, ours.config.top_k)
    # Theirs counts every choice as a whole token, ours as a share of all choices.
    torch.testing.assert_close(ours.balance_loss * ours.config.top_k, expected)


def test_sigmoid_scores_bias_and_shared_experts_are_those_of_deepseek(assert_equal):
    theirs = randomized(
        DeepseekV3MoE(
            DeepseekV3Config(
                hidden_size=24,
                moe_intermediate_size=20,
                n_routed_experts=5,
                num_experts_per_tok=2,
                n_shared_experts=2,
                n_group=1,
                topk_group=1,
                norm_topk_prob=True,
                routed_scaling_factor=1.0,
            )
        )
    )
    config = MixtureOfExpertsConfig(n_experts=5, top_k=2, n_shared=2, d_ff=20, scores="sigmoid", balance="bias")
    ours = copied(MixtureOfExperts(config, MODEL), theirs)
    with torch.no_grad():
        ours.bias.copy_(theirs.gate.e_score_correction_bias)
        for name in ("gate_proj", "up_proj", "down_proj"):
            getattr(ours.shared, name).weight.copy_(getattr(theirs.shared_experts, name).weight)
    x = torch.randn(3, 7, 24)
    assert_equal(ours(x).detach(), theirs(x).detach())
    without_bias = copied(MixtureOfExperts(config, MODEL), theirs)
    without_bias.shared = ours.shared
    assert not torch.allclose(without_bias(x), ours(x), atol=1e-3)  # the bias has changed choices
