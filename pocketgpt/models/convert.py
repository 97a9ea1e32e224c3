"""Convert a model folder of an older version, whose config had all fields at one level.

Run it as `python -m pocketgpt.models.convert FOLDER`.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

from pocketgpt.errors import PocketError
from pocketgpt.files import read_json, read_safetensors, write_json, write_safetensors
from pocketgpt.models.saving import CONFIG, WEIGHTS, parse_config

# Old names at the top level, and the part and the name they have now.
MOVED = {
    "n_heads": ("mixer", "n_heads"),
    "n_kv_heads": ("mixer", "n_kv_heads"),
    "d_head": ("mixer", "d_head"),
    "window": ("mixer", "window"),
    "attention_bias": ("mixer", "bias"),
    "output_bias": ("mixer", "output_bias"),
    "qk_norm": ("mixer", "qk_norm"),
    "feedforward": ("feedforward", "activation"),
    "d_ff": ("feedforward", "d_ff"),
    "feedforward_bias": ("feedforward", "bias"),
}


def convert_config(old: dict[str, Any]) -> dict[str, Any]:
    """The same config, with the fields of a layer inside `mixer` and `feedforward`."""
    parts: dict[str, dict[str, Any]] = {"mixer": {"kind": "attention"}, "feedforward": {"kind": "feedforward"}}
    for name, (part, new_name) in MOVED.items():
        if name in old:
            parts[part][new_name] = old[name]
    return {name: value for name, value in old.items() if name not in MOVED} | parts


def convert(folder: Path) -> None:
    """Convert config and weights in place; checksums follow, and state.pt, in which nothing has a name, stays.

    Raises PocketError if there is no model of that version.
    """
    old = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    if "n_heads" not in old:
        raise PocketError(f"{folder} has no {CONFIG} of the older version: nothing was changed.")
    config = parse_config(convert_config(old), folder / CONFIG)
    weights = {
        name.replace(".attention.", ".mixer.").replace(".attention_norm.", ".mixer_norm."): tensor
        for name, tensor in read_safetensors(folder / WEIGHTS).items()
    }
    write_safetensors(folder / WEIGHTS, weights)
    write_json(folder / CONFIG, config.to_dict())  # last: a conversion that was interrupted can be repeated
    checksums = folder / "checksums.json"
    if checksums.is_file():
        changed = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (CONFIG, WEIGHTS)}
        write_json(checksums, read_json(checksums) | changed)


if __name__ == "__main__":
    try:
        for folder in sys.argv[1:]:
            convert(Path(folder))
    except PocketError as error:
        sys.exit(f"pocketgpt: {error}")
