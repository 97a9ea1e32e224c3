import pytest
import torch

from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, read_safetensors, replacing, write_json, write_safetensors


def test_what_is_written_is_read(tmp_path):
    write_json(tmp_path / "new" / "a.json", {"a": [1, "é"]})
    assert read_json(tmp_path / "new" / "a.json") == {"a": [1, "é"]}
    write_safetensors(tmp_path / "a.safetensors", {"x": torch.arange(6.0).view(2, 3).T})
    assert torch.equal(read_safetensors(tmp_path / "a.safetensors")["x"], torch.arange(6.0).view(2, 3).T)


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


@pytest.mark.parametrize("content", [b"{", b"\xff", b""])
def test_a_damaged_file_is_named(content, tmp_path):
    file = tmp_path / "a"
    file.write_bytes(content)
    for read in (read_json, read_safetensors):
        with pytest.raises(PocketError, match=f"{file} is damaged"):
            read(file)
