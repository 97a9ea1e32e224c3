"""Yours and the target side by side, as text and as a picture."""

import inspect
import io
import sys

import torch
from torch import Tensor

from pocketgpt.course.checking.compare import Difference, cut

ROWS, COLUMNS = 8, 8


def inputs_line(names: tuple[str, ...], inputs: tuple) -> str:
    """'`q` of shape (2, 3, 4)': the case that is shown. Short rows of integers are written out."""
    return ", ".join(f"`{name}` {_value(value)}" for name, value in zip(names, inputs, strict=False))


def numbers(value: object) -> int:
    """Count the numbers and characters in a value."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, list | tuple | dict):
        return 1 + sum(map(numbers, value))
    return len(value) if isinstance(value, str | bytes) else 1


def has_an_axis_of_one(inputs: tuple) -> bool:
    """Whether a tensor of a case has an axis of size 1, or a number is 1: wrong and right look alike there."""
    return any(1 in x.shape if isinstance(x, Tensor) else type(x) is int and x == 1 for x in inputs)


def side_by_side(found: Difference) -> str:
    """The two values of a Difference as text: matrices in two columns, ■ and · for masks; '' if there is nothing."""
    if found.got is None and found.expected is None:
        return ""
    if not (isinstance(found.got, Tensor) and isinstance(found.expected, Tensor)):
        return f"yours    {cut(found.got)}\nexpected {cut(found.expected)}"
    place, (mine, target) = _matrices(found, ROWS, COLUMNS)
    left, right = [f"your {found.name}{place}", *_lines(mine)], ["expected", *_lines(target)]
    width = max(map(len, left)) + 4
    return "\n".join(f"{a:<{width}}{b}" for a, b in zip(left, right, strict=True))


def picture(found: Difference) -> None:
    """In a notebook, draw the two matrices of a Difference side by side; elsewhere do nothing."""
    if "IPython" not in sys.modules or not isinstance(found.got, Tensor) or found.got.shape != found.expected.shape:
        return
    from IPython import get_ipython
    from IPython.display import Image, display

    if found.expected.ndim < 2 or not hasattr(get_ipython(), "kernel"):
        return
    from matplotlib.figure import Figure  # not pyplot: the learner's current figure stays as it is

    from pocketgpt.course.figures.style import WEIGHTS

    _, matrices = _matrices(found)
    mine, target = (matrix.to(torch.float64) for matrix in matrices)
    figure = Figure(figsize=(6, 2.6), layout="constrained")
    for axes, matrix, title in zip(figure.subplots(1, 2), (mine, target), ("yours", "target"), strict=True):
        axes.imshow(matrix, cmap=WEIGHTS, vmin=min(0.0, float(target.min())), vmax=float(target.max()))
        axes.set(title=title, xlabel="keys", ylabel="queries")
    png = io.BytesIO()
    figure.savefig(png, dpi=100)
    display(Image(png.getvalue()))


def _matrices(found: Difference, rows: int | None = None, columns: int | None = None) -> tuple[str, list[Tensor]]:
    """The last two axes at the place of the difference, at most so many rows and columns; and the index of that."""
    lead = found.where[:-2] if found.where else (0,) * max(found.expected.ndim - 2, 0)
    both = [torch.atleast_2d(x.detach().cpu()[lead]) for x in (found.got, found.expected)]
    row, column = (0, 0, *found.where)[-2:]
    top, left = (max(0, at - size + 1) if size else 0 for at, size in ((row, rows), (column, columns)))
    index = ", ".join([*map(str, lead), f"{top or ''}:", f"{left or ''}:"])
    cut = [x[top:][:rows, left:][:, :columns] for x in both]
    return (f"[{index}]" if lead or top or left else ""), cut


def _lines(matrix: Tensor) -> list[str]:
    if matrix.dtype == torch.bool:
        return [" ".join("■" if value else "·" for value in row) for row in matrix.tolist()]
    form = "{:7.3f}" if matrix.is_floating_point() else "{:5d}"
    return [" ".join(form.format(value) for value in row) for row in matrix.tolist()]


def _value(value: object) -> str:
    if inspect.isroutine(value):
        return f"= {value.__name__}"
    if isinstance(value, dict) and value and all(isinstance(each, Tensor) for each in value.values()):
        shapes = list(dict.fromkeys(tuple(each.shape) for each in value.values()))
        return f"with {len(value)} tensors of shape {', '.join(map(str, shapes))}"
    if isinstance(value, list | tuple) and (shapes := _shapes(value)):
        return f"of shapes {shapes}"
    if not isinstance(value, Tensor):
        return f"= {cut(value)}"
    if value.ndim <= 1 and value.numel() <= 12 and not value.is_floating_point():
        return f"= {value.tolist()}"
    return f"of shape {tuple(value.shape)}"


def _shapes(value: list | tuple) -> str:
    """'(2,), (2, 3)': the shapes of tensors, also in tuples inside; '' if anything else is among them."""
    if not all(isinstance(each, Tensor | list | tuple) for each in value):
        return ""
    shapes = [str(tuple(x.shape)) if isinstance(x, Tensor) else f"[{_shapes(x)}]" for x in value]
    return "" if "[]" in shapes else ", ".join(shapes)
