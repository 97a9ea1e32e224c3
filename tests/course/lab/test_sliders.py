"""Controls that draw anew at every change."""

from pocketgpt.course.lab import controls as module


def controls_of(monkeypatch, draw, **choices):
    shown = []
    monkeypatch.setattr(module, "display", shown.append)
    module.sliders(draw, **choices)
    return shown[0].children[0].children


def test_a_choice_becomes_the_control_that_suits_it(monkeypatch):
    kinds = controls_of(
        monkeypatch, lambda **_: None, layer=(0, 3), temperature=(0.1, 2.0, 0.1, 0.8), word="hand", order=["a", "b"]
    )
    assert [type(control).__name__ for control in kinds] == ["IntSlider", "FloatSlider", "Text", "Dropdown"]
    assert [control.value for control in kinds] == [0, 0.8, "hand", "a"]


def test_the_figure_is_drawn_at_once_and_again_at_every_change(monkeypatch):
    drawn = []
    layer, head = controls_of(monkeypatch, lambda layer, head: drawn.append((layer, head)), layer=(0, 3), head=(0, 5))
    head.value = 4
    layer.value = 2
    assert drawn == [(0, 0), (0, 4), (2, 4)]
