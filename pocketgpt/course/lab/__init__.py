"""Everything a notebook needs, in one import: `from pocketgpt.course.lab import check, model_map, transplant, yours`.

Each name is imported when it is first used, so that `check` alone loads neither the model nor matplotlib.
No file of this folder may share its name with a function here: the module would hide the function.
"""

from importlib import import_module

_REPORTING = "pocketgpt.course.lab.reporting"
_POCKET = "pocketgpt.course.lab.pocket"
_RECORDING = "pocketgpt.course.lab.recording"
_BUG_CASES = "pocketgpt.course.lab.bug_cases"
_OWN_MODEL = "pocketgpt.course.lab.own_model"
_SIBLINGS = "pocketgpt.course.siblings.family"
_MODULES = {
    "check": "pocketgpt.course.checking.check",
    "yours": "pocketgpt.course.lab.finished",
    "earlier": _OWN_MODEL,
    "my_gpt": _OWN_MODEL,
    "save_my_gpt": _OWN_MODEL,
    "save_trained": "pocketgpt.course.lab.trained_model",
    "ProgressLine": "pocketgpt.course.lab.progress_line",
    "sliders": "pocketgpt.course.lab.controls",
    "HEADS": "pocketgpt.course.lab.heads",
    "predict": "pocketgpt.course.lab.predictions",
    "recall": "pocketgpt.course.lab.recalling",
    "symptoms": "pocketgpt.course.lab.symptom_table",
    "sibling": _SIBLINGS,
    "sibling_losses": _SIBLINGS,
    "character_tokenizer": _SIBLINGS,
    "model_map": "pocketgpt.course.figures.model_map",
    "draw_cases": _BUG_CASES,
    "worked_case": _BUG_CASES,
    "causes": _BUG_CASES,
    "attention_weights": _RECORDING,
    "before_and_after": _REPORTING,
    "earlier_changes": _REPORTING,
    "hidden_numbers": _RECORDING,
    "read_with_cache": "pocketgpt.course.lab.caching",
    "pocket_model": _POCKET,
    "pocket_tokenizer": _POCKET,
    "transplant": "pocketgpt.course.lab.transplanting",
}


def __getattr__(name: str) -> object:
    """Import a name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"pocketgpt.course.lab has no {name!r}. It has: {', '.join(_MODULES)}.")
    module = import_module(_MODULES[name])
    return module if name == "check" else getattr(module, name)


def __dir__() -> list[str]:
    return list(_MODULES)
