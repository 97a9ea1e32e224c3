"""A decode step is one graph: no break, no second compilation, the same logits.

In a process of its own, because dynamo does not trace the run-time checks of annotations that are on in this one.
"""

import shutil
import subprocess
import sys

import pytest

DECODE = """
import sys
import torch
from pocketgpt.config import preset
from pocketgpt.gpt import GPT
from pocketgpt.inference.cache import SlidingWindowCache, StaticCache
from pocketgpt.inference.generate import decode_step

kind, window = {"static": (StaticCache, None), "sliding": (SlidingWindowCache, 4)}[sys.argv[1]]
small = dict(vocab_size=31, d_model=16, n_layers=1, n_heads=4, n_kv_heads=2, d_ff=32, max_seq_len=16)
torch.manual_seed(0)
model = GPT(preset("llama", window=window, **small)).eval()
prompt, steps = torch.randint(31, (2, 5)), torch.randint(31, (8, 2))

def logits_of(step):
    cache = kind(model.config, 2, 16)
    with torch.no_grad():
        cache.added = torch.tensor([5, 3])
        model(prompt, cache)
        for tokens in steps:
            if step is compiled:
                cache.reserve(1)  # a compiled step leaves the counting to its caller
            yield step(model, tokens, cache)

compiled = torch.compile(decode_step, fullgraph=True, backend=sys.argv[2])
graphs = []
for ours, eager in zip(logits_of(compiled), logits_of(decode_step), strict=True):
    torch.testing.assert_close(ours, eager, rtol=1e-5, atol=1e-5 * eager.abs().max().item())
    graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
assert graphs == [1] * len(steps), graphs
"""


def decode(kind: str, backend: str) -> None:
    done = subprocess.run([sys.executable, "-c", DECODE, kind, backend], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("gcc") is None, reason="torch.compile makes C++ here: install gcc")
def test_decode_step_compiles_once_and_equals_eager():
    decode("static", "inductor")


def test_decode_step_with_a_sliding_window_is_one_graph_and_equals_eager():
    # The graph is what could break; turning it into C++ a second time would only cost half a minute.
    decode("sliding", "aot_eager")
