import os

import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.files import (
    read_json,
    read_safetensors,
    read_torch,
    replacing,
    replacing_folder,
    write_json,
    write_safetensors,
    write_torch,
)


def test_what_is_written_is_read(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"a": [1, "é"]})
    assert read_json(tmp_path / "new" / "a.json") == {"a": [1, "é"]}
    write_safetensors(tmp_path / "a.safetensors", {"x": torch.arange(6.0).view(2, 3).T})
    assert torch.equal(read_safetensors(tmp_path / "a.safetensors")["x"], torch.arange(6.0).view(2, 3).T)
    write_torch(tmp_path / "a.pt", {"x": [torch.arange(3), 0.1, None]})
    assert str(read_torch(tmp_path / "a.pt")) == str({"x": [torch.arange(3), 0.1, None]})


def test_an_error_in_the_middle_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, "old")
    with pytest.raises(KeyboardInterrupt), replacing(file) as beside:
        beside.write_text('"ne')
        raise KeyboardInterrupt
    assert read_json(file) == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_old_file_stays_whole_until_the_new_one_is(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, "old")
    old = file.stat().st_ino
    with replacing(file) as beside:
        beside.write_text('"new"')
        assert read_json(file) == "old"
    assert read_json(file) == "new"
    assert file.stat().st_ino != old  # renamed over it, and not written into it


@pytest.mark.parametrize("content", [b"{", b"\xff", b"", b"[" * 50_000])
def test_a_damaged_file_is_named(content, tmp_path):
    file = tmp_path / "a"
    file.write_bytes(content)
    for read in (read_json, read_safetensors, read_torch):
        with pytest.raises(PocketError, match=f"{file} is damaged"):
            read(file)


class Code:
    def __reduce__(self):
        return print, ("run",)


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    torch.save({"x": Code()}, tmp_path / "a.pt")
    with pytest.raises(PocketError, match="is damaged"):
        read_torch(tmp_path / "a.pt")
    assert capsys.readouterr().out == ""


def test_an_error_in_the_middle_leaves_the_old_folder_and_nothing_else(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "a") as beside:
        (beside / "new").touch()
        raise KeyboardInterrupt
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["a", "a/old"]


def test_a_folder_appears_whole(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with replacing_folder(tmp_path / "a") as beside:
        (beside / "new").touch()
        assert (tmp_path / "a" / "old").exists()
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["a", "a/new"]


def test_a_pipe_or_a_device_is_never_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PocketError, match="pipe is not a regular file and is not replaced"):
        write_json(tmp_path / "pipe", 1)
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1
