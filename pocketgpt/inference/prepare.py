"""Prepare a model for fast decoding: weights in fewer bytes, compiled steps."""

from pocketgpt.inference.quantization import WeightFormat, quantize
from pocketgpt.models.stack import Stack

VERSIONS = 256
"""Limit of compiled versions of a block, for all models and cache sizes of a process; PyTorch's own is 8."""


def prepare_for_decoding(model: Stack, weights: WeightFormat | str = "float32", compiled: bool = False) -> Stack:
    """Copy the model for `generate` and `stream`: matrices stored as `weights`, keys and values in bf16 unless that is
    float32, and with `compiled` the decode step compiled.

    The first token after that takes longer: it waits for the compiler, whose results are cached on disk. Prompts are
    not compiled, since every length would need its own code.

    - On a GPU the whole step is one graph, launched at once (CUDA graphs): launching its kernels one by one would take
      longer than running them.
    - On a CPU a block is compiled once and called for every layer: one graph of all layers was a fifteenth faster with
      6 layers, and took two minutes to compile with 30.

    Raises PocketError for an unknown format.
    """
    copy = quantize(model, weights).use_attention("decode")
    if compiled and model.device.type == "cuda":
        copy.compile(fullgraph=True, mode="reduce-overhead", recompile_limit=VERSIONS)
    elif compiled:
        for part in (*copy.blocks, copy.head):
            part.compile(fullgraph=True, recompile_limit=VERSIONS)
    return copy
