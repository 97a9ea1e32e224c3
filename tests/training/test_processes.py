"""Real processes: killed, asked to stop, and two at once through torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
TEXT = "Full fathom five thy father lies;\nOf his bones are coral made;\nThose are pearls that were his eyes;\n" * 20
SMALL = "--corpus own.txt --seq-len 16 --steps 8 --eval-every 4 --eval-tokens 100 --save-every 3 --device cpu"
SMALL += " --precision float32"


@pytest.fixture
def start(tmp_path):
    """start(processes, *arguments) -> a process that trains in tmp_path."""
    (tmp_path / "own.txt").write_text(TEXT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["POCKETGPT_CACHE"] = str(tmp_path / "cache")
    started = []

    def start(processes, *arguments):
        torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes)] if processes > 1 else []
        command = [sys.executable, *torchrun, "-m", "pocketgpt", "train", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **pipes))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder):
    return [record["train_loss"] for record in records(folder) if "train_loss" in record]


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_a_process_that_is_killed_at_random_moments_ends_bit_for_bit_like_one_that_is_not():
    script = [sys.executable, ROOT / "tests" / "benchmarks" / "kill_and_resume.py", "--kills", "2", "--steps", "16"]
    result = subprocess.run(script, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_two_processes_train_like_one_with_the_double_batch_and_stop_together(start, tmp_path):
    one = start(1, *SMALL.split(), "--batch-size", "4", "--out", "one")
    two = start(2, *SMALL.split(), "--batch-size", "2", "--out", "two")
    wait_for(lambda: (tmp_path / "two" / "metrics.jsonl").is_file() and losses(tmp_path / "two"), two)
    [last] = [child for child in psutil.Process(two.pid).children(recursive=True) if child.environ().get("RANK") == "1"]
    last.send_signal(signal.SIGTERM)  # one rank alone: all of them have to stop, after the same step
    said, _ = two.communicate()
    assert two.returncode == 0, said
    assert said.count("of 8 steps, and saved") == said.count("train --resume two") == 1
    assert len(losses(tmp_path / "two")) < 8

    resumed = start(2, "--resume", "two")
    said, _ = resumed.communicate()
    assert resumed.returncode == 0 and said.count("Done after 8 steps") == 1, said
    assert one.communicate()[0].count("Done after 8 steps") == 1
    # Muon multiplies in bf16, which carries the order in which two gradients are added on into the third digit.
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=2e-3)
