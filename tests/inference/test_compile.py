"""A compiled decode step has no graph break, is not compiled again at every step, and gives the same logits.

In a process of its own, because dynamo does not trace the run-time checks of annotations that are on in this one.
"""

import json
import shutil
import subprocess
import sys

import pytest

DECODE = """
import sys
import torch
from pocketgpt.models.presets import preset
from pocketgpt.models.gpt import GPT
from pocketgpt.inference import kv_cache as caches
from pocketgpt.inference.generate import decode_step
from pocketgpt.inference.prepare import prepare_for_decoding

caches.SLOT_STEP = 8  # so that the cache grows on the way
window = {"static": None, "sliding": 4}[sys.argv[1]]
small = dict(vocab_size=31, d_model=16, n_layers=3, max_seq_len=32, feedforward={"d_ff": 32})
mixer = {"n_heads": 4, "n_kv_heads": 2, "window": window}
torch.manual_seed(0)
model = GPT(preset("llama", mixer=mixer, **small)).eval()
rows = 2 if sys.argv[2] == "aot_eager" else 1
prompt, steps = torch.randint(31, (rows, 5)), torch.randint(31, (22, rows))
if sys.argv[2] == "aot_eager":  # the whole step, as on a GPU
    compiled, eager = model, GPT(model.config).eval()
    eager.load_state_dict(model.state_dict())
    compiled.compile(fullgraph=True, backend="aot_eager")
else:
    compiled, eager = (prepare_for_decoding(model, sys.argv[2], compiled=on) for on in (True, False))

def logits_of(model):
    cache = caches.new_cache(model, rows, 32)
    with torch.no_grad():
        cache.added = torch.tensor([5, 3][:rows])
        with torch.compiler.set_stance("force_eager"):
            model(prompt, cache)
        for tokens in steps:
            yield decode_step(model, tokens, cache)

graphs = []
tolerance = {"aot_eager": 1e-5, "float32": 1e-5, "int8": 2e-2}[sys.argv[2]]  # eager products of int8 are in bf16
for ours, theirs in zip(logits_of(compiled), logits_of(eager), strict=True):
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * theirs.abs().max().item())
    graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
print(graphs)
"""


def graphs_after_each_step(kind: str, weights: str) -> list[int]:
    """How many graphs there were after each of 22 steps, whose logits were equal to those of eager steps."""
    done = subprocess.run([sys.executable, "-c", DECODE, kind, weights], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="torch.compile makes C++ here: install gcc")
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_compiled_blocks_equal_eager_ones_and_layers_share_their_code(weights):
    graphs = graphs_after_each_step("static", weights)
    assert graphs[0] == 2  # one for all three blocks, one for the head
    assert graphs[-1] <= 2 + 2  # the cache grew from 8 to 16, 24 and 32 slots: one more, for any number of slots


def test_a_whole_step_is_one_graph_and_equals_eager():
    graphs = graphs_after_each_step("static", "aot_eager")
    assert graphs[0] == 1
    assert graphs[-1] <= 1 + 1


def test_a_whole_step_with_a_sliding_window_is_one_graph_and_equals_eager():
    assert set(graphs_after_each_step("sliding", "aot_eager")) == {1}


MANY = """
import torch
from pocketgpt.models.gpt import GPT
from pocketgpt.models.presets import preset
from pocketgpt.inference.generate import generate
from pocketgpt.inference.prepare import prepare_for_decoding

compile = torch.nn.Module.compile  # graphs are counted, and need not become machine code
torch.nn.Module.compile = lambda self, **options: compile(self, **options | {"backend": "eager"})
torch._dynamo.config.recompile_limit = 1  # instead of 8 of them: the second model is over the limit of all
for width in (16, 24, 32):
    config = preset("llama", vocab_size=31, d_model=width, n_layers=2, max_seq_len=16, mixer={"n_heads": 2})
    generate(prepare_for_decoding(GPT(config), "float32", compiled=True), [[1, 2]], max_new_tokens=3)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


def test_any_number_of_models_can_be_compiled_each_with_one_graph_for_all_its_blocks():
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr  # a block and a head each


ENCODER_AND_DECODER = """
import torch
from pocketgpt.inference.kv_cache import new_cache
from pocketgpt.inference.seq2seq import generate_output, read_input
from pocketgpt.models.presets import preset
from pocketgpt.models.t5 import T5

torch.manual_seed(0)
small = dict(vocab_size=31, d_model=16, n_layers=2, max_seq_len=16, feedforward={"d_ff": 32})
model = T5(preset("pocket-t5", mixer={"n_heads": 4}, **small)).eval()
inputs = [[1, 2, 3], [4], [5, 6]]
step = torch.compile(model.decode, fullgraph=True, backend="eager")
memory, cache = read_input(model, inputs), new_cache(model, 3)
tokens, written = torch.full((3, 1), model.config.start_token), []
with torch.no_grad():
    for number in range(8):
        cache.reserve(1)
        # the first step fills the cache with keys and values of the input
        tokens = (step if number else model.decode)(tokens, memory, cache).argmax(dim=-1)
        written.append(tokens)
assert torch.cat(written, dim=1).tolist() == generate_output(model, inputs, max_new_tokens=8)
print(torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""


def test_a_step_of_a_decoder_with_an_encoder_is_one_graph_and_writes_what_an_eager_one_does():
    done = subprocess.run([sys.executable, "-c", ENCODER_AND_DECODER], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
