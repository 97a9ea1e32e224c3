"""Weights of an exported graph in fewer bits, by onnxruntime's own quantizer.

| weights | matrices                                           | embedding                       |
|---------|----------------------------------------------------|---------------------------------|
| float32 | as trained                                         | as trained, shared with the     |
|         |                                                    | head where they are tied        |
| int8    | whole numbers of 8 bits, a scale for every group   | whole numbers of 8 bits, a      |
|         | of 32 inputs of a row                              | scale for every row             |
| int4    | the same with 4 bits                               | the same                        |

A group of its own limits the damage of a large weight to its 31 neighbors, and costs 32 / 32 = 1 bit per weight. In
products, activations are rounded to 8 bits in groups of 32 too (onnxruntime's accuracy level 4): hardware multiplies
whole numbers faster. A tied head becomes a matrix of its own, since the embedding is read by rows.

Source: Dettmers and Zettlemoyer 2022, The case for 4-bit precision (arXiv 2212.09720), section 2, blocking.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from pocketgpt.errors import PocketError
from pocketgpt.inference.quantization import quantize_rows
from pocketgpt.inference.speed import bytes_per_step
from pocketgpt.models.gpt import GPT

if TYPE_CHECKING:
    import onnx

OnnxWeights = Literal["float32", "int8", "int4"]
GROUP = 32
"""Inputs of a row that share a scale."""


def quantize_onnx(graph: "onnx.ModelProto", weights: OnnxWeights | str, modules: Collection[str]) -> "onnx.ModelProto":
    """Store the embedding and the matrices of `modules` (`quantizable`) as `weights`, in a graph of `to_onnx`.

    Everything else stays in float32, inputs and outputs too. Changes the graph given.
    Raises PocketError for another format.
    """
    if weights not in get_args(OnnxWeights):
        raise PocketError(f"weights = {weights!r} cannot work: use one of {', '.join(get_args(OnnxWeights))}.")
    if weights == "float32":
        return graph
    separate_matrices(graph)
    quantize_embedding(graph)
    with quiet_quantizer():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            graph,
            bits=8 if weights == "int8" else 4,
            block_size=GROUP,
            is_symmetric=True,
            accuracy_level=4,
            nodes_to_exclude=[node.name for node in graph.graph.node if node.name.partition("/")[0] not in modules],
        )
        quantizer.process()
    return quantizer.model.model


def separate_matrices(graph: "onnx.ModelProto") -> None:
    """Give every product x Wᵀ a constant matrix of its own, transposed beforehand, since the quantizer looks for MatMul
    with a constant.

    The exporter writes a linear layer as a transpose and a MatMul, and one of flat tokens, as in a mixture of experts,
    as a Gemm. A tied head is a product with the embedding.
    """
    from onnx import numpy_helper

    body = graph.graph
    constants = {each.name: each for each in body.initializer}

    def add_transposed(name: str, transposed: str) -> None:
        matrix = numpy_helper.to_array(constants[name])
        body.initializer.append(numpy_helper.from_array(matrix.T.copy(), transposed))

    for node in list(body.node):
        if node.op_type == "Transpose" and node.input[0] in constants:
            if len(constants[node.input[0]].dims) == 2:
                add_transposed(node.input[0], node.output[0])
                body.node.remove(node)
        elif node.op_type == "Gemm" and node.input[1] in constants and len(node.input) == 2:
            add_transposed(node.input[1], f"{node.input[1]}.T")
            node.op_type, node.input[1] = "MatMul", f"{node.input[1]}.T"
            node.name = node.name.replace("/Gemm", "/MatMul")
            del node.attribute[:]
    remove_unused(graph)


def quantize_embedding(graph: "onnx.ModelProto") -> None:
    """Replace the lookup of a row by that of a row of int8 values and of its scale, and their product."""
    from onnx import TensorProto, helper, numpy_helper

    body = graph.graph
    lookup = next(node for node in body.node if node.name == "embedding/Gather")
    table = next(each for each in body.initializer if each.name == lookup.input[0])
    values, scale = quantize_rows(torch.from_numpy(numpy_helper.to_array(table).copy()))
    body.initializer.append(numpy_helper.from_array(values.numpy(), "embedding.values"))
    body.initializer.append(numpy_helper.from_array(scale[:, None].numpy(), "embedding.scale"))
    tokens, rows = lookup.input[1], lookup.output[0]
    steps = [
        helper.make_node("Gather", ["embedding.values", tokens], ["embedding_values"], "embedding/Gather"),
        helper.make_node("Gather", ["embedding.scale", tokens], ["embedding_scale"], "embedding/Gather/2"),
        helper.make_node("Cast", ["embedding_values"], ["embedding_floats"], "embedding/Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["embedding_floats", "embedding_scale"], [rows], "embedding/Mul"),
    ]
    place = list(body.node).index(lookup)
    body.node.remove(lookup)
    for offset, node in enumerate(steps):
        body.node.insert(place + offset, node)
    remove_unused(graph)


def remove_unused(graph: "onnx.ModelProto") -> None:
    """Remove the constants that no node reads."""
    used = {name for node in graph.graph.node for name in node.input}
    for constant in [each for each in graph.graph.initializer if each.name not in used]:
        graph.graph.initializer.remove(constant)


def quantizable(model: GPT) -> set[str]:
    """Names of the linear layers, without those that their layer lists as `full_precision`."""
    return {
        f"{name}.{child}" if name else child
        for name, module in model.named_modules()
        for child, layer in module.named_children()
        if isinstance(layer, nn.Linear) and child not in getattr(module, "full_precision", ())
    }


def onnx_bytes(model: GPT, weights: OnnxWeights, seq: int) -> int:
    """Bytes that a decode step of the graph reads with `seq` tokens in the cache: those of `bytes_per_step`, but
    (bits + 32 / 32) / 8 for each weight of a rounded matrix, its share of a float32 scale included."""
    n_weights = sum(model.get_submodule(name).weight.numel() for name in quantizable(model))
    bits = {"float32": 32, "int8": 8 + 32 // GROUP, "int4": 4 + 32 // GROUP}[weights]
    return bytes_per_step(model, seq) - n_weights * (32 - bits) // 8


@contextmanager
def quiet_quantizer() -> Iterator[None]:
    """Context without the quantizer's log, a line for each node; it turns on logging for the whole process, too."""
    root, before = logging.getLogger(), logging.root.manager.disable
    handlers, level = list(root.handlers), root.level
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
        root.handlers[:] = handlers
        root.setLevel(level)
