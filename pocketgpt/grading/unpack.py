"""Unpack the zip file that a learning platform exports."""

import os
import zipfile
from datetime import datetime
from pathlib import Path

from pocketgpt.errors import PocketError

MOST_FILES = 100_000
MOST_BYTES = 4 << 30  # unpacked


def unpack(archive: Path, folder: Path) -> None:
    """Extract an archive into a folder, with the times at which its files were last changed.

    zipfile lets no path lead out of the folder, and makes no links.
    Raises PocketError if it is damaged, encrypted, or larger than any class.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            if len(members) > MOST_FILES or sum(member.file_size for member in members) > MOST_BYTES:
                raise PocketError(
                    f"{archive} has more than {MOST_FILES:,} files or {MOST_BYTES >> 30} GB: unpack it by hand."
                )
            for member in members:
                path = Path(opened.extract(member, folder))
                changed = datetime(*member.date_time).timestamp()
                os.utime(path, (changed, changed))
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, ValueError, EOFError) as error:
        raise PocketError(f"{archive} cannot be unpacked: {error}. Unpack it by hand, or export it again.") from error
