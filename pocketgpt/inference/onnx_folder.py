"""An exported model as a folder that is complete without us, checked before it appears.

model.onnx        the graph with its weights (weights beyond 1.5 GB are in model.onnx.data beside it)
tokenizer.json    the vocabulary, for the library `tokenizers`
generate.py       writes text with numpy, onnxruntime and tokenizers: python generate.py "ROMEO:" 100
"""

import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from pocketgpt.assets import asset
from pocketgpt.errors import PocketError
from pocketgpt.files import check_writable, replacing_folder
from pocketgpt.inference.fidelity import fidelity
from pocketgpt.inference.generate import evaluation_mode
from pocketgpt.inference.onnx_export import check_exportable, require_export, to_onnx
from pocketgpt.inference.onnx_quantization import OnnxWeights, quantizable, quantize_onnx
from pocketgpt.models.gpt import GPT
from pocketgpt.text.tokenizer import Tokenizer

GRAPH = "model.onnx"
LARGEST_IN_ONE_FILE = 1_500_000_000
"""Bytes of weights. A graph with all its weights cannot have more than 2 GB."""
CHECKED_TOKENS = 512
"""Tokens of held-out text with which an export is checked."""
TOLERANCE = 1e-3
"""Largest difference of logits that is rounding, relative to the largest logit; measured are about 1e-6."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """An exported model: its size, and its distance from the original on held-out text."""

    folder: Path
    n_bytes: int
    """Bytes of the graph and its weights."""
    difference: float
    """Largest difference of logits, relative to the largest logit, with the cache passed from call to call."""
    kl: float
    """KL divergence from the original, in nats per token."""


def save_onnx(
    model: GPT,
    tokenizer: Tokenizer,
    folder: str | Path,
    weights: OnnxWeights | str = "float32",
    say: Callable[[str], None] = lambda step: None,
) -> Export:
    """Write the model as a folder that runs without PyTorch, and compare it with the original; `say` hears each step.

    The folder appears once it is complete and checked.
    Raises PocketError for a model that has no graph, for a folder that is not empty, if the disk is full, and if the
    graph does not compute what the model does.
    """
    require_export()
    check_exportable(model)
    folder = Path(folder).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise PocketError(f"{folder} exists and is not an empty folder: give the name of a new one.")
    check_writable(folder.parent)
    say(f"1 of 4: translating {model.config.n_layers} layers into a graph")
    graph = to_onnx(model, tokenizer)
    say("2 of 4: rounding the weights" if weights != "float32" else "2 of 4: weights stay in float32")
    graph = quantize_onnx(graph, weights, quantizable(model))
    try:
        with replacing_folder(folder) as beside:
            say("3 of 4: writing the folder")
            write_graph(graph, beside / GRAPH)
            del graph
            tokenizer.save(beside / "tokenizer.json")
            shutil.copyfile(Path(__file__).with_name("run_onnx.py"), beside / "generate.py")
            say("4 of 4: comparing with the original")
            return check(model, tokenizer, beside, folder, weights)
    except OSError as error:
        needed, place = 4 * model.n_params(), next(parent for parent in folder.parents if parent.exists())
        raise PocketError(
            f"{folder} cannot be written: {error.strerror or error}. It needs up to {needed / 1e6:,.1f} MB, and "
            f"{shutil.disk_usage(place).free / 1e6:,.1f} MB are free in {place}."
        ) from error


def write_graph(graph: object, file: Path) -> None:
    """Write a graph, with its weights in a file of their own where there are too many for one."""
    import onnx

    n_bytes = sum(len(constant.raw_data) for constant in graph.graph.initializer)
    onnx.save(graph, file, save_as_external_data=n_bytes > LARGEST_IN_ONE_FILE, location=f"{GRAPH}.data")


def check(model: GPT, tokenizer: Tokenizer, written: Path, folder: Path, weights: str) -> Export:
    """Compare the written graph with the model. Raises PocketError if float32 weights give other logits."""
    exported = OnnxModel(written / GRAPH)
    if model.dtype != torch.float32:  # the graph computes in float32, with the weights as they are
        model = deepcopy(model).float()
    text = asset("held-out.txt").read_text(encoding="utf-8")
    tokens = np.array(tokenizer.encode(text)[:CHECKED_TOKENS])
    seq_len = min(model.config.max_seq_len, 256)
    difference = largest_difference(model, exported, tokens[:seq_len])
    if weights == "float32" and not difference < TOLERANCE:
        raise PocketError(
            f"The exported graph is not the model: its logits differ by {difference:.1e} of the largest one. Nothing "
            "was written. Another version of onnxruntime may help: pip install --upgrade onnxruntime"
        )
    n_bytes = sum(file.stat().st_size for file in written.glob(f"{GRAPH}*"))
    kl = fidelity(exported, model, tokens, seq_len).kl
    return Export(folder=folder, n_bytes=n_bytes, difference=difference, kl=kl)


@torch.no_grad()
def largest_difference(model: GPT, exported: "OnnxModel", tokens: Int[np.ndarray, " n_tokens"]) -> float:
    """Largest difference of logits, relative to the largest, over one text: a first half at once, one token, the
    rest."""
    half = len(tokens) // 2
    chunks = [chunk[None] for chunk in np.split(tokens, [half, half + 1]) if len(chunk)]
    theirs = exported.in_chunks(chunks)
    with evaluation_mode(model):
        ours = model(torch.from_numpy(tokens)[None].to(model.device)).cpu()
    return ((theirs - ours).abs().max() / ours.abs().max()).item()


class OnnxModel(nn.Module):
    """An exported graph in onnxruntime, as a model: tokens in, logits out. Raises PocketError without onnxruntime."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        require_export()
        import onnxruntime

        from pocketgpt.inference import run_onnx

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.empty_cache = partial(run_onnx.empty_cache, session)
        self.step = partial(run_onnx.step, session)
        self.device = torch.device("cpu")

    def forward(self, tokens: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        return self.in_chunks([tokens.numpy()])

    def in_chunks(self, chunks: list[Int[np.ndarray, "batch _"]]) -> Float[Tensor, "batch seq vocab"]:
        """Logits of consecutive parts of the same texts, with the cache passed from one call to the next."""
        cache, logits = self.empty_cache(len(chunks[0])), []
        for chunk in chunks:
            new, cache = self.step(chunk, cache)
            logits.append(torch.from_numpy(new))
        return torch.cat(logits, dim=1)
