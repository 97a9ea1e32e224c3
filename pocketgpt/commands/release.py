"""`pocketgpt release`: make the hand-out for students."""

from pathlib import Path

from tyro.conf import Positional

from pocketgpt.errors import PocketError
from pocketgpt.files import check_writable


def release(names: Positional[tuple[str, ...]] = (), *, out: Path = Path("pocketgpt-course.zip")) -> None:
    """Make the hand-out for students, one zip file: chapters without solutions, and the package they need.

    Args:
        names: Chapters to hand out, such as 02_attention; by default all.
        out: File to write.
    """
    try:
        from pocketgpt.course.building.release import release as make_release
    except ImportError as error:
        raise PocketError(f"Notebooks need {error.name}: pip install 'pocketgpt[course]'") from error
    if out.is_dir():
        raise PocketError(f"{out} is a folder: give the name of a file, such as {out / 'course.zip'}.")
    check_writable(out.parent)
    print(f"Written: {make_release(out, names)}")
