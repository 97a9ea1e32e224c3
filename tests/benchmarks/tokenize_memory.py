"""How much memory tokenizing a large file takes, in all processes together.

    python tests/benchmarks/tokenize_memory.py [GIGABYTES]

Writes a .txt and a .jsonl file of a tenth of that size and of that size (1 by default), made of Shakespeare repeated,
runs `pocketgpt fetch` on each with an empty cache, and prints the peak of the resident memory of its whole process
tree, sampled every 50 ms. Memory that processes share is counted for each of them.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import psutil

from pocketgpt.table import table
from pocketgpt.text.corpora import load_corpus


def write(path: Path, n_bytes: int) -> None:
    """The plays over and over: one document (.txt), or each play a document (.jsonl)."""
    with path.open("w", encoding="utf-8") as file:
        for play in cycle(load_corpus("shakespeare")):
            file.write(play if path.suffix == ".txt" else json.dumps({"text": play}) + "\n")
            if file.tell() >= n_bytes:
                return


def peak_memory(command: list[str], environment: dict[str, str]) -> tuple[int, float]:
    """Peak of the resident bytes of a command and all its children, and the seconds it took."""
    started, peak = time.perf_counter(), 0
    process = psutil.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        with suppress(psutil.NoSuchProcess):  # one of them has ended in between
            peak = max(peak, sum(one.memory_info().rss for one in [process, *process.children(recursive=True)]))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return peak, time.perf_counter() - started


def main(gigabytes: float) -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for ending in (".txt", ".jsonl"):
            for size in (gigabytes / 10, gigabytes):
                path = Path(folder, f"large{ending}")
                write(path, round(size * 1e9))
                environment = {**os.environ, "POCKETGPT_CACHE": f"{folder}/cache-{size}"}
                command = [sys.executable, "-m", "pocketgpt.cli", "fetch", str(path)]
                peak, seconds = peak_memory(command, environment)
                speed = path.stat().st_size / seconds / 1e6
                rows.append([ending, f"{size:.2f} GB", f"{peak / 1e6:.0f} MB", f"{seconds:.0f} s", f"{speed:.0f} MB/s"])
                path.unlink()
    print(table(["file", "size", "peak memory", "time", "text"], rows))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
