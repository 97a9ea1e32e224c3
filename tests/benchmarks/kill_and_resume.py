"""Kill one training run at random moments, again and again, and compare it with one that was left alone.

    python tests/benchmarks/kill_and_resume.py [--kills 20] [--steps 120] [--processes 1]

Every session is a process of its own (or torchrun with several), ended by SIGKILL at a random moment after it began to
train. The run saves after every step, so that many kills fall into a save. Prints where each one fell; the exit code is
1 if the losses, the weights or the state at the end differ in a single bit from those of the run that was left alone.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TEXT = "Full fathom five thy father lies;\nOf his bones are coral made;\nThose are pearls that were his eyes;\n" * 20
SMALL = "--batch-size 2 --accumulation 2 --seq-len 16 --dropout 0.1 --eval-every 20 --eval-tokens 50 --device cpu"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("own.txt").write_text(TEXT)
        begin = ["--corpus", "own.txt", *SMALL.split(), "--steps", str(options.steps), "--save-every", "1"]
        whole, killed = Path("whole"), Path("killed")
        start([*begin, "--out", str(whole)], options.processes).wait()
        print(f"{'kill':>4}  {'seconds':>7}  {'logged step':>11}  {'goes on from':>12}  save in progress")
        during_a_save = 0
        for kill in range(1, options.kills + 1):
            resumed = killed.is_dir() and any(killed.glob("step-*"))
            process = start(["--resume", str(killed)] if resumed else [*begin, "--out", str(killed)], options.processes)
            seconds = kill_when_training(process, killed)
            during_a_save += bool(list(killed.glob(".step-*.partial")))
            print(
                f"{kill:>4}  {seconds:>7.2f}  {last_step(killed):>11}  "
                f"{max((folder.name for folder in killed.glob('step-*')), default='the beginning'):>12}  "
                f"{'yes' if list(killed.glob('.step-*.partial')) else ''}",
                flush=True,
            )
        start(["--resume", str(killed)], options.processes).wait()
        same = {name: kept == outcome(killed)[name] for name, kept in outcome(whole).items()}
    print(f"{options.kills} kills, {during_a_save} of them during a save. Bit for bit the same as without:")
    for name, equal in same.items():
        print(f"  {name}: {'yes' if equal else 'NO'}")
    return 0 if all(same.values()) else 1


def start(arguments: list[str], processes: int) -> subprocess.Popen:
    """A training process, in a group of its own, so that torchrun and its workers die together."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m"]
    command = [*(launcher if processes > 1 else [sys.executable, "-m"]), "pocketgpt", "train", *arguments]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "POCKETGPT_CACHE": "cache"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment, start_new_session=True, **quiet)


def kill_when_training(process: subprocess.Popen, folder: Path) -> float:
    """Wait for the first step of this session, then a random time, then kill; returns that time."""
    begun, file = time.time(), folder / "metrics.jsonl"
    step = max((int(checkpoint.name[5:]) for checkpoint in folder.glob("step-*")), default=0)
    # The session first takes back the steps beyond its checkpoint: before that, the file tells of an earlier one.
    while process.poll() is None and not (file.is_file() and file.stat().st_mtime > begun and last_step(folder) > step):
        time.sleep(0.02)
    seconds = random.uniform(0, 1.5)
    time.sleep(seconds)
    if process.poll() is not None:
        raise SystemExit("The run ended before it could be killed: give it more --steps.")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return seconds


def last_step(folder: Path) -> int:
    """The step of the last whole line of metrics.jsonl."""
    file = folder / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.is_file() else []
    return json.loads(lines[-1])["step"] if lines else 0


def outcome(folder: Path) -> dict[str, object]:
    """What must not depend on the kills."""
    import torch

    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("tokens_per_second", None), record.pop("mfu", None)
    last = max(folder.glob("step-*"))
    state = torch.load(last / "state.pt", weights_only=True)
    del state["seconds"]
    return {"metrics": records, "weights": (last / "model.safetensors").read_bytes(), "state": plain(state)}


def plain(value: object) -> object:
    """Nested tensors as bytes, for == to compare."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value.numpy().tobytes() if hasattr(value, "numpy") else value


if __name__ == "__main__":
    sys.exit(main())
