"""One model of everything: Mamba, windows, full, latent and linear attention, feed-forwards and mixtures of experts."""

import json
import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pocketgpt.inference.generate import generate
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.inference.prepare import prepare_for_decoding
from pocketgpt.inference.quantization import quantize
from pocketgpt.inference.sampling import Sampler
from pocketgpt.layers.attention import AttentionConfig
from pocketgpt.layers.feedforward import FeedForwardConfig
from pocketgpt.layers.latent_attention import LatentAttentionConfig
from pocketgpt.layers.linear_attention import LinearAttentionConfig
from pocketgpt.layers.mamba import MambaConfig
from pocketgpt.layers.mixture_of_experts import MixtureOfExpertsConfig
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT
from pocketgpt.training.loss import auxiliary_loss

HYBRID = ModelConfig(
    vocab_size=61,
    d_model=48,
    n_layers=8,
    max_seq_len=32,
    mixer=(
        MambaConfig(d_state=4),
        AttentionConfig(n_heads=6, n_kv_heads=2, window=5),
        LatentAttentionConfig(n_heads=4, kv_rank=12, d_head=8, d_rope=4),
        AttentionConfig(n_heads=6),
        LinearAttentionConfig(n_heads=6),
        AttentionConfig(n_heads=6, window=3, n_anchors=2),
        LinearAttentionConfig(n_heads=6, delta_rule=True),
        MambaConfig(d_state=4),
    ),
    feedforward=(
        FeedForwardConfig(d_ff=64),
        MixtureOfExpertsConfig(n_experts=4, top_k=2, d_ff=24, n_shared=1),
        MixtureOfExpertsConfig(n_experts=3, top_k=1, d_ff=24, scores="sigmoid", balance="bias"),
        None,
        FeedForwardConfig(d_ff=64, activation="relu2"),
    ),
)
TOKENS = torch.randint(61, (2, 24), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model(lively) -> GPT:
    return lively(HYBRID)


@pytest.mark.parametrize("prepared", ["as it is", "bf16", "int8"])
def test_flops_are_what_pytorch_counts_also_when_prepared(model, prepared):
    model = (model if prepared == "as it is" else quantize(model, prepared)).use_attention("step_by_step")
    with FlopCounterMode(display=False) as counter:
        model(TOKENS)
    assert model.flops_per_token(24) * TOKENS.numel() == counter.get_total_flops()


@pytest.mark.parametrize("chunks", [[24], [1] * 24, [7, 1, 9, 7]], ids=str)
@torch.no_grad()
def test_decoding_with_a_cache_is_the_full_pass(model, chunks, assert_equal):
    cache = new_cache(model, 2)
    logits = torch.cat([model(part, cache) for part in TOKENS.split(chunks, dim=1)], dim=1)
    assert_equal(logits, model(TOKENS))


@torch.no_grad()
def test_cache_bytes_are_those_allocated(model):
    cache = new_cache(model, 2, 20)
    allocated = sum(tensor.untyped_storage().nbytes() for store in cache.layers for tensor in store.tensors)
    assert model.cache_bytes(2, 20) == allocated


def test_rows_of_a_batch_write_what_they_write_alone(model):
    prompts, how = [[5, 17, 3], [9], list(range(10))], {"max_new_tokens": 15, "sampler": Sampler(temperature=0.0)}
    together = generate(model, prompts, **how)
    assert together == [generate(model, [prompt], **how)[0] for prompt in prompts]
    assert generate(prepare_for_decoding(model), prompts, **how) == together


def test_recomputed_blocks_give_the_same_gradients(model):
    gradients = []
    for recompute in (False, True):
        model.recompute_blocks = recompute
        model.train().zero_grad()
        (model(TOKENS).logsumexp(-1).sum() + auxiliary_loss(model)).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_saved_and_loaded_it_is_the_same(model, tmp_path):
    with torch.no_grad():
        model.blocks[2].feedforward.bias.copy_(torch.tensor([0.3, 0.0, -0.3]))
    model.save(tmp_path)
    assert torch.equal(GPT.load(tmp_path)(TOKENS), model(TOKENS))


DECODE = """
import json, sys
import torch
from pocketgpt.inference.generate import decode_step
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.models.config import ModelConfig
from pocketgpt.models.gpt import GPT

torch.manual_seed(0)
eager = GPT(ModelConfig.from_dict(json.loads(sys.argv[1]))).eval()
compiled = GPT(eager.config).eval()
compiled.load_state_dict(eager.state_dict())
compiled.compile(fullgraph=True, backend="aot_eager")
prompt, steps = torch.randint(61, (2, 5)), torch.randint(61, (9, 2))

def logits_of(model):
    cache = new_cache(model, 2)
    with torch.no_grad():
        cache.added = torch.tensor([5, 3])
        with torch.compiler.set_stance("force_eager"):
            model(prompt, cache)
        for tokens in steps:
            yield decode_step(model, tokens, cache)

graphs = []
for ours, theirs in zip(logits_of(compiled), logits_of(eager), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())
    graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
print(graphs)
"""


def test_a_decode_step_compiles_to_one_graph():
    config = json.dumps(HYBRID.to_dict())
    done = subprocess.run([sys.executable, "-c", DECODE, config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {1}
