"""The progress record: what was checked and predicted, one JSON object per line, on this machine only.

It is the file that the variable POCKETGPT_PROGRESS names, or ~/.pocketgpt/progress.jsonl; POCKETGPT_PROGRESS=off
switches it off. Nothing is ever sent anywhere. Recall questions and `pocketgpt progress` read it.
"""

import contextlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any


def record_file() -> Path | None:
    """Path of the record, or None if it is switched off."""
    setting = os.environ.get("POCKETGPT_PROGRESS", "")
    if setting.lower() in ("off", "0", "no", "false"):
        return None
    if setting.lower() in ("", "on", "1", "yes", "true"):
        return Path.home() / ".pocketgpt" / "progress.jsonl"
    return Path(setting).expanduser()


def record(**event: Any) -> None:
    """Append an event and its time. Without a place to write, nothing happens: it must not disturb a notebook."""
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: there is no home folder
        if file := record_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps({"time": datetime.now().isoformat(timespec="seconds"), **event}) + "\n")


def events() -> list[dict[str, Any]]:
    """All events in order. Lines that are damaged are left out."""
    found = []
    with contextlib.suppress(OSError, RuntimeError):
        file = record_file()
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if file else ():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                found += [event] if _is_event(event) else []
    return found


def _is_event(event: Any) -> bool:
    names = ("exercise", "mistake")
    return isinstance(event, dict) and all(isinstance(event.get(name), str | None) for name in names)
