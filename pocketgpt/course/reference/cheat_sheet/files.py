"""The files of the cheat sheet: a PDF and a picture of each page, stamped with what they were made from.

Fonts are drawn a little differently on each machine, so the files are not compared by their bytes: each contains the
hash of its sources, and is up to date if that hash is.
"""

import hashlib
import io
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pocketgpt.course.reference.cheat_sheet.content import content

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = ("cheat_sheet.pdf", "cheat_sheet_1.png", "cheat_sheet_2.png")
DOTS_PER_INCH = 150
DRAWN_BY = ("column.py", "drawing.py", "../../figures/style.py")
STAMP = re.compile(rb"made from ([0-9a-f]{64})")


def stamp() -> str:
    """Hash of what the sheet shows and of the code that draws it. Draws nothing and does not import matplotlib."""
    sources = [repr(content())]
    sources += [(Path(__file__).parent / name).read_text(encoding="utf-8") for name in DRAWN_BY]
    return hashlib.sha256("\0".join(sources).encode()).hexdigest()


def outdated(folder: Path) -> list[str]:
    """Names of the files in a folder that are missing or were made from something else."""
    wanted = stamp().encode()
    return [name for name in NAMES if _stamp_of(folder / name) != wanted]


def write(folder: Path) -> None:
    """Draw the sheet and write its files. On one machine, the same sources give the same bytes."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_pdf import PdfPages

    from pocketgpt.course.reference.cheat_sheet.drawing import RC, draw

    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it warns of the date that fonts in a PDF don't have
    pages, made_from = draw(), f"made from {stamp()}"
    pdf, *pictures = [folder / name for name in NAMES]
    with rc_context(RC):
        beside = pdf.with_suffix(".pdf.new")
        about = {"Title": "PocketGPT cheat sheet", "Keywords": made_from, "CreationDate": None}
        with PdfPages(beside, metadata=about) as file:
            for page in pages:
                file.savefig(page)
        os.replace(beside, pdf)
        for page, picture in zip(pages, pictures, strict=True):
            _write_picture(page, picture, made_from)


def _write_picture(page: "Figure", path: Path, made_from: str) -> None:
    """Write a picture of a page in 256 colors, which takes a third of the bytes."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    page.savefig(drawn := io.BytesIO(), dpi=DOTS_PER_INCH)
    about = PngInfo()
    about.add_text("Description", made_from)
    colors = Image.open(drawn).convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE)
    colors.save(path, pnginfo=about, optimize=True)


def _stamp_of(path: Path) -> bytes | None:
    found = STAMP.search(path.read_bytes()) if path.exists() else None
    return found[1] if found else None
