"""Sliders that redraw a figure.

Each follows a stored figure, so that the page reads well without a kernel.
"""

from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from IPython.display import display

Choice = tuple[int, int] | tuple[float, float, float, float] | list[str] | list[int] | str


def sliders(draw: Callable[..., None], **choices: Choice) -> None:
    """Call `draw` with the current choices, now and at every change, and show its output below the controls.

    A choice is (first, last) for integers, (lowest, highest, step, start) for other numbers, a list for a menu,
    and a string for a text field. The cell needs `# NBVAL_IGNORE_OUTPUT`: the output of a widget cannot be compared.
    """
    controls = {name: _control(name.replace("_", " "), choice) for name, choice in choices.items()}
    picture = widgets.interactive_output(draw, controls)
    display(widgets.VBox([widgets.HBox(list(controls.values())), picture]))


def _control(label: str, choice: Choice) -> Any:
    if isinstance(choice, str):
        return widgets.Text(value=choice, description=label, continuous_update=False)
    if isinstance(choice, list):
        return widgets.Dropdown(options=choice, description=label)
    if len(choice) == 2:
        return widgets.IntSlider(min=choice[0], max=choice[1], description=label, continuous_update=False)
    low, high, step, start = choice
    return widgets.FloatSlider(min=low, max=high, step=step, value=start, description=label, continuous_update=False)
