"""All that a notebook imports from the course: `from pocketgpt.course.lab import check, yours, model_map, …`.

Each name is imported when it is first asked for, so that a check does not wait for pictures and models.
"""

from importlib import import_module

_MODULES = {
    "check": "pocketgpt.course.checking.check",
    "heads": "pocketgpt.course.lab.head_names",
}
_NAMES = {
    "yours": "pocketgpt.course.lab.stand_in",
    "sliders": "pocketgpt.course.lab.widgets",
    "HEADS": "pocketgpt.course.lab.head_names",
    "attention_weights": "pocketgpt.course.lab.transplants",
    "before_and_after": "pocketgpt.course.lab.transplants",
    "pocket_model": "pocketgpt.course.lab.transplants",
    "pocket_tokenizer": "pocketgpt.course.lab.transplants",
    "transplant": "pocketgpt.course.lab.transplants",
    "model_map": "pocketgpt.course.figures.model_map",
}


def __getattr__(name: str) -> object:
    if name == "check":
        return import_module("pocketgpt.course.checking.check")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(["check", *_NAMES])
