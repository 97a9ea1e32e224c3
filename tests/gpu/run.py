"""`make gpu`: everything that needs a CUDA GPU, in at most ten minutes, and one report, gpu/report.txt."""

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

import torch

OUT = Path("gpu")
POCKETGPT = (sys.executable, "-m", "pocketgpt")
PARTS = {  # what to run, and after how many seconds to give up
    "doctor": ([*POCKETGPT, "doctor"], 30),
    "tests": ([sys.executable, "-m", "pytest", "-p", "no:nbval", "-ra", "tests/gpu"], 240),
    "training": ([*POCKETGPT, "bench", "train", "--preset", "gpt2", "--runs", "3", "--out", str(OUT)], 150),
    "generation": ([*POCKETGPT, "bench", "generate", "--runs", "3", "--out", str(OUT)], 120),
    "attention": ([*POCKETGPT, "bench", "attention", "--runs", "3", "--out", str(OUT)], 60),
}


def main() -> int:
    if not torch.cuda.is_available():
        print(f"PyTorch {torch.__version__} sees no CUDA GPU here. `pocketgpt doctor` says more.")
        return 2
    OUT.mkdir(exist_ok=True)
    failed = []
    with open(OUT / "report.txt", "w", encoding="utf-8") as report:
        for name, (command, seconds) in PARTS.items():
            say(report, f"\n## {name}: {' '.join(command[1:])}\n")
            begin = time.monotonic()
            outcome = run(command, seconds, report)
            say(report, f"\n{name}: {outcome} after {time.monotonic() - begin:.0f} s\n")
            if outcome != "done":
                failed.append(name)
        say(report, f"\nFailed: {', '.join(failed) or 'nothing'}. The report is {OUT / 'report.txt'}\n")
    return 1 if failed else 0


def run(command: list[str], seconds: float, report: TextIO) -> str:
    """Run one part, with what it prints on the terminal and in the report; a part that fails stops no other."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    limit = threading.Timer(seconds, process.kill)
    limit.start()
    for line in process.stdout:
        say(report, line)
    in_time, code = limit.is_alive(), process.wait()
    limit.cancel()
    if not in_time:
        return f"given up, its limit is {seconds} s,"
    return "done" if code == 0 else f"failed with exit code {code}"


def say(report: TextIO, text: str) -> None:
    print(text, end="", flush=True)
    report.write(text)
    report.flush()


if __name__ == "__main__":
    sys.exit(main())
