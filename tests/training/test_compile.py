"""What training adds to the model compiles too.

In a process of its own, because dynamo does not trace the run-time checks of annotations that are on in this one.
"""

import subprocess
import sys

COMPILED = """
import torch
from torch.nn import functional as F
from pocketgpt.models.presets import preset
from pocketgpt.models.gpt import GPT
from pocketgpt.training.loss import NextTokenLoss

torch.manual_seed(0)
parts = {"mixer": {"n_heads": 2}, "feedforward": {"d_ff": 32}}
model = GPT(preset("llama", vocab_size=61, d_model=16, n_layers=2, max_seq_len=8, **parts))
tokens = torch.randint(61, (3, 8))

def loss_and_gradients(loss):
    model.zero_grad()
    loss.backward()
    return [loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())]

expected = loss_and_gradients(F.cross_entropy(model(tokens).transpose(1, 2), tokens))
model.recompute_blocks = True
compiled = torch.compile(NextTokenLoss(model, chunk=10), fullgraph=True, backend="aot_eager")
torch.testing.assert_close(loss_and_gradients(compiled(tokens, tokens)), expected)
"""


def test_loss_in_chunks_over_checkpointed_blocks_is_one_graph_and_equals_eager():
    done = subprocess.run([sys.executable, "-c", COMPILED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
