import io
import json
import os
import signal
import subprocess
import sys

import pytest

from pocketgpt.output import Output
from pocketgpt.text.byte_tokenizer import ByteTokenizer


def printed(text, encoding):
    buffer = io.BytesIO()
    output = Output(io.TextIOWrapper(buffer, encoding=encoding))
    output.write(text)
    output.flush()
    return buffer.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "utf-8"])
def test_any_text_can_be_printed_in_any_encoding(encoding):
    assert printed("✓ é � Ж \ud800 \udcff", encoding).endswith(" ? ?")


def test_a_character_that_the_encoding_lacks_is_printed_as_a_similar_one():
    assert printed("✓ ✗ é → Ж …", "cp1252") == "ok x é -> ? …"


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def test_a_write_that_fails_ends_the_output_and_raises_nothing():
    output = Output(Full())
    output.write("a")
    output.write("b")
    assert output.failure.errno == 28


def start(command, folder, **options):
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "POCKETGPT_CACHE": str(folder / "cache")}
    environment |= options.pop("environment", {})
    return subprocess.Popen(
        [sys.executable, "-m", "pocketgpt", *command], cwd=folder, env=environment, text=True, **options
    )


@pytest.fixture
def training(tmp_path):
    """The command line of a short run; its samples are bytes in any order, mostly no characters."""
    (tmp_path / "own.txt").write_text("Полный fathom five thy father lies;\n" * 80, encoding="utf-8")
    ByteTokenizer([bytes([byte]) for byte in range(256)]).save(tmp_path / "bytes.json")
    small = ["--steps", "6", "--batch-size", "2", "--seq-len", "16", "--eval-every", "2", "--save-every", "100"]
    return [
        "train",
        "--corpus",
        "own.txt",
        "--tokenizer",
        "bytes.json",
        "--out",
        "run",
        "--model.n-layers",
        "1",
        *small,
    ]


def last_step(folder):
    return max(json.loads(file.read_text())["step"] for file in (folder / "run").glob("step-*/training.json"))


def test_samples_that_the_encoding_lacks_stop_no_training(tmp_path, training):
    with start(
        training, tmp_path, stdout=-1, stderr=-1, errors="replace", environment={"PYTHONIOENCODING": "cp1252"}
    ) as process:
        out, err = process.communicate()
    assert (process.returncode, last_step(tmp_path)) == (0, 6), err
    assert "Done after 6 steps" in out


def test_a_reader_that_leaves_stops_no_training(tmp_path, training):
    with start(training, tmp_path, stdout=-1, stderr=subprocess.STDOUT) as process:
        process.stdout.readline()
        process.stdout.close()
    assert (process.returncode, last_step(tmp_path)) == (0, 6)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_a_terminal_that_is_closed_stops_no_training(tmp_path, training):
    ours, theirs = os.openpty()
    with start(training, tmp_path, stdout=theirs, stderr=theirs, stdin=theirs) as process:
        os.close(theirs)
        seen = b""
        while b"step 2:" not in seen:
            seen += os.read(ours, 1000)
        os.close(ours)
        process.send_signal(signal.SIGHUP)
    assert (process.returncode, last_step(tmp_path)) == (0, 6)


def test_the_evaluation_is_printed_after_the_checkpoint_is_on_the_disk(tmp_path, training):
    with start(training, tmp_path, stdout=-1, stderr=subprocess.DEVNULL) as process:
        line = process.stdout.readline()
        assert line.startswith("step 2:") and "best so far" in line
        assert last_step(tmp_path) >= 2
        process.kill()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_onto_a_full_disk_is_reported(tmp_path):
    with open("/dev/full", "w") as full, start(["info"], tmp_path, stdout=full, stderr=-1) as process:
        err = process.stderr.read()
    assert process.returncode == 2
    assert err == "pocketgpt: the output is incomplete: No space left on device. Make room first.\n"


def test_help_ends_on_the_narrowest_terminal(tmp_path):
    with start(["--help"], tmp_path, stdout=-1, environment={"COLUMNS": "6"}) as process:
        assert "usage: pocketgpt" in process.communicate(timeout=60)[0]
