"""`pocketgpt build`: make the notebooks of the course, and the pages beside them."""

from tyro.conf import Positional

from pocketgpt.errors import PocketError


def build(names: Positional[tuple[str, ...]] = (), *, check: bool = False, force: bool = False) -> None:
    """Make the notebooks of the course from solutions/*.py, and glossary, notation and cheat sheet.

    Args:
        names: Chapters to build, such as 02_attention; by default all that changed, and the pages beside them.
        check: Write and execute nothing; report the files that are out of date.
        force: Execute unchanged chapters too.
    """
    try:
        from pocketgpt.course.building.build import build as build_notebooks
    except ImportError as error:
        raise PocketError(f"Notebooks need {error.name}: pip install 'pocketgpt[course]'") from error
    build_notebooks(names, check=check, force=force)
