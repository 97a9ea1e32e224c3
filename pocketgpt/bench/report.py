"""What a benchmark leaves behind: a table to read, a JSON file to compute with."""

import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pocketgpt.files import read_json, write_json
from pocketgpt.table import table

Row = dict[str, Any]


@dataclass
class Report:
    """The rows of one benchmark, on which machine and with which settings, and sentences about them."""

    benchmark: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def save(self, folder: Path) -> Path:
        """Write BENCHMARK.json."""
        file = folder / f"{self.benchmark}.json"
        write_json(file, asdict(self))
        return file

    @classmethod
    def load(cls, file: Path) -> "Report":
        return cls(**read_json(file))

    def text(self) -> str:
        """The rows as a table, the notes below. A column's name is its heading; one without any value is left out."""
        names = [name for name in self.rows[0] if any(shown(name, row.get(name)) for row in self.rows)]
        cells = [[shown(name, row.get(name)) for name in names] for row in self.rows]
        headings = [name.replace("_", " ") for name in names]
        return "\n".join([table(headings, cells), "", *self.notes]).rstrip()


def shown(name: str, value: Any) -> str:
    """A value of a row for people: bytes in MiB, shares in percent, spreads as low … high. Lists are for the JSON."""
    if value is None or name == "seconds":
        return ""
    if isinstance(value, str | int) and not name.endswith("bytes"):
        return f"{value:,}" if isinstance(value, int) else value
    if isinstance(value, list | tuple):
        return " … ".join(shown(name, each) for each in value)
    if name.endswith("bytes"):
        return f"{value / 2**20:,.0f} MiB"
    if name.endswith(("mfu", "share")):
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on: processor, threads, versions, and when they were taken."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version()}
        | {name: found for name in ("torch", "transformers", "pocketgpt") if (found := installed(name))},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def processor() -> str:
    """The processor's name; platform.processor() is empty on most Linux systems."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
