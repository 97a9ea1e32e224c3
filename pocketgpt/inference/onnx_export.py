"""Export to ONNX: the model as a graph in a file, which other programs run without PyTorch and without our code.

One graph reads a prompt and continues it, for any number of rows and tokens:

    input_ids              (batch, seq)                      token ids
    past_key_values.0.key  (batch, heads, past, width)       cache of the tokens before; past is 0 in the first call
    …
    logits                 (batch, seq, vocab)               scores for the token after each position
    present.0.key          (batch, heads, past + seq, width) cache after these tokens: the next call's past
    …

| layer              | cached           | in the graph                                                               |
|--------------------|------------------|----------------------------------------------------------------------------|
| attention          | N.key, N.value   | the operator Attention; a window masks tokens and keeps them in the cache  |
| latent attention   | N.latent         | the absorbed form, for prompts too                                         |
| Mamba              | N.conv, N.ssm    | the operator Scan: token by token, for prompts too                         |
| mixture of experts |                  | every expert for every token: n_experts / top_k times the work             |

The names are those of the library optimum and of transformers.js. Positions follow from the length of the cache. All
rows have the same length: the graph knows no padding. Weights are float32; `onnx_quantization` makes them smaller.

Source: the ONNX standard, operator set 23 (onnx.ai), whose Attention shares key/value heads among query heads without
copies of them.
"""

import ast
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim

from pocketgpt.errors import PocketError
from pocketgpt.inference.functional_cache import FunctionalCache, empty_tensors, tensor_names
from pocketgpt.models.gpt import GPT
from pocketgpt.models.saving import check_saveable
from pocketgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import onnx

OPSET = 23
KINDS = ("attention", "latent_attention", "mamba")
"""Kinds of mixers that compute any number of tokens without a loop in Python."""
PAST, PRESENT = "past_key_values.", "present."


class CachedModel(nn.Module):
    """The model as a function without memory: tokens and cache in, logits and the new cache out."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, tokens: Int[Tensor, "batch seq"], past: Sequence[Float[Tensor, "batch ..."]]
    ) -> tuple[Float[Tensor, "batch seq vocab"], list[Float[Tensor, "batch ..."]]]:
        cache = FunctionalCache(self.model, past)
        logits = self.model(tokens, cache)
        return logits, cache.tensors()


def to_onnx(model: GPT, tokenizer: Tokenizer | None = None) -> "onnx.ModelProto":
    """Convert the model to a graph with float32 weights. Takes seconds, and two more for each layer.

    The graph's metadata has the config, and of the tokenizer the hash and the id that ends a text.
    Raises PocketError for a model without a cache, with layers that have no place in a graph, or with other weights
    than its config describes, and if the extra `export` is missing.
    """
    require_export()
    check_exportable(model)
    # A copy: in float32 on the CPU, without dropout, with the attention that becomes one operator.
    model = deepcopy(model).float().cpu().eval().use_attention("fused")
    names = tensor_names(model)
    # Sizes of an example are constants for the exporter if they are 0 or 1, or if two of them are equal.
    batch, seq, past = 2, 3, 5
    example = torch.zeros(batch, seq, dtype=torch.long), empty_tensors(model, batch, past)
    token_axes, cache_axes = {0: Dim("batch"), 1: Dim("seq")}, {0: Dim("batch"), 2: Dim("past")}
    grows = [tensor.ndim == 4 and tensor.shape[2] == past for tensor in example[1]]
    axes = token_axes, [cache_axes if each else {0: Dim("batch")} for each in grows]
    with torch.no_grad(), quiet():
        try:
            program = torch.onnx.export(
                CachedModel(model).eval(),
                example,
                dynamic_shapes=axes,
                input_names=["input_ids", *(PAST + name for name in names)],
                output_names=["logits", *(PRESENT + name for name in names)],
                opset_version=OPSET,
                custom_translation_table={torch.ops.aten.softplus.default: softplus},
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            kinds = sorted({mixer.config.kind for mixer in model.mixers()})
            reason = str(error.__cause__ or error).splitlines()[0]
            raise PocketError(
                f"This model cannot be exported to ONNX: PyTorch's exporter found no graph for its layers "
                f"({', '.join(kinds)}) that works for every length: {reason}"
            ) from error
    program.model.metadata_props.update(metadata(model, tokenizer))
    graph = program.model_proto
    name_nodes(graph.graph)
    for output in graph.graph.output:
        for axis in output.type.tensor_type.shape.dim:
            if axis.dim_param == "seq + past":  # the order of a sum depends on the graph
                axis.dim_param = "past + seq"
    return graph


def require_export() -> None:
    """Raises PocketError if a package of the extra `export` is missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise PocketError(f"Exporting to ONNX needs {', '.join(missing)}: pip install 'pocketgpt[export]'")


def check_exportable(model: nn.Module) -> None:
    """Raises PocketError for a model that is no GPT with a cache, or has other weights than its config describes."""
    if not isinstance(model, GPT):
        raise PocketError(
            f"A {type(model).__name__} cannot be exported to ONNX: only models that write token by token (GPT) can."
        )
    if not model.config.causal:
        raise PocketError(
            "A model with causal = False cannot be exported to ONNX: it looks ahead, and the graph has a cache of what "
            "came before."
        )
    for kind in sorted({mixer.config.kind for mixer in model.mixers()} - {*KINDS}):
        raise PocketError(
            f"A model with layers of kind {kind!r} cannot be exported to ONNX: those of kind {', '.join(KINDS)} can."
        )
    check_saveable(model, model.state_dict())
    FunctionalCache(model, empty_tensors(model, batch=1))


def softplus(x: object, beta: float = 1.0, threshold: float = 20.0) -> object:
    """ln(1 + eˣ) = max(x, 0) + 2 · artanh(e / (2 + e)) with e = exp(−|x|), in operators of ONNX.

    onnxruntime's own Softplus adds 1 and then takes the logarithm, which costs Mamba's small steps five of their seven
    digits.
    """
    from onnxscript import opset23 as op

    small = op.Exp(op.Neg(op.Abs(x)))
    two = op.CastLike(2.0, x)
    return op.Add(op.Relu(x), op.Mul(two, op.Atanh(op.Div(small, op.Add(small, two)))))


def name_nodes(graph: "onnx.GraphProto") -> None:
    """Name each node by the module that it comes from, such as blocks.0.mixer.q_proj/MatMul, in place of the exporter's
    notes, which quote our source code and its place on this machine."""
    seen: Counter[str] = Counter()
    for node in graph.node:
        scopes = [each.value for each in node.metadata_props if each.key == "pkg.torch.onnx.name_scopes"]
        modules = ast.literal_eval(scopes[0])[:-1] if scopes else []
        name = f"{modules[-1].removeprefix('model').removeprefix('.') if modules else ''}/{node.op_type}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}/{seen[name]}"
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            name_nodes(attribute.g)
    for value in (*graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del value.metadata_props[:]


def metadata(model: GPT, tokenizer: Tokenizer | None) -> dict[str, str]:
    """Everything that a program needs beside the graph."""
    values = {"config": json.dumps(model.config.to_dict()), "max_seq_len": str(model.config.max_seq_len)}
    if tokenizer is not None:
        values |= {"vocabulary": tokenizer.hash, "end_of_text": str(tokenizer.end_of_text)}
    return values


@contextmanager
def quiet() -> Iterator[None]:
    """Context without the exporter's remarks about other packages and its own code."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        registration.setLevel(before)
