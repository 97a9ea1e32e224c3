"""`pocketgpt export`: a trained model for programs other than ours."""

import sys
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from pocketgpt.commands.model_folder import load_model_folder
from pocketgpt.errors import PocketError
from pocketgpt.inference.onnx_folder import save_onnx
from pocketgpt.inference.onnx_quantization import OnnxWeights
from pocketgpt.pretrained.to_huggingface import save_huggingface


def export(
    model: Positional[str] = "pocket-shakespeare",
    *,
    out: Path,
    to: Literal["onnx", "huggingface"] = "onnx",
    weights: OnnxWeights = "float32",
) -> None:
    """Write a model for other programs: pocketgpt export runs/my-run --to onnx --out my-model

    Args:
        model: Folder of a run, a checkpoint or a published model; by default the shipped model.
        out: New folder for the files.
        to: onnx is one graph that onnxruntime runs without PyTorch, with a script that writes text; huggingface is a
            folder that transformers loads.
        weights: For onnx: int8 is about a quarter of the size, int4 less still, and less exact.
    """
    if to == "huggingface" and weights != "float32":
        raise PocketError(
            f"--weights {weights} cannot work with --to huggingface, which stores the weights as they are: leave it "
            "away, or use --to onnx."
        )
    checkpoint = load_model_folder(model)
    if to == "huggingface":
        save_huggingface(checkpoint.model, checkpoint.tokenizer, out, checkpoint.training)
        print(f"{out}: AutoModelForCausalLM.from_pretrained({str(out)!r}) of transformers loads it.")
        return
    result = save_onnx(checkpoint.model, checkpoint.tokenizer, out, weights, say=progress)
    print(
        f"{out}: {result.n_bytes / 1e6:,.1f} MB with {weights} weights, instead of "
        f"{4 * checkpoint.model.n_params() / 1e6:,.1f} MB of parameters in float32."
    )
    print(
        f"On held-out text: logits differ by {result.difference:.1e} of the largest one, KL {result.kl:.1e} nats per "
        "token from the original."
    )
    print(f'Write with it: python {out / "generate.py"} "ROMEO:" 100')


def progress(step: str) -> None:
    print(step, file=sys.stderr, flush=True)
