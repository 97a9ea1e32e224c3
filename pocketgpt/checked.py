"""Configs of plain values: frozen dataclasses that validate themselves and round-trip through JSON."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, get_args

from pocketgpt.errors import PocketError

LARGEST_INTEGER = 2**31 - 1
"""Largest value of sizes and counts; products of two of them fit into 64 bits."""
LARGEST_SEED = 2**63 - 1
"""Largest seed that every generator of random numbers accepts."""


class ConfigError(PocketError, ValueError):
    """Error for an invalid config value; the message names the field, the value, and a value that would work."""


Config = TypeVar("Config", bound="Checked")


class Checked:
    """Base class of every config: checks for `__post_init__`, and conversion to and from dictionaries for JSON."""

    def _require(self, condition: bool, name: str, instead: str) -> None:
        if not condition:
            raise ConfigError(f"{type(self).__name__}.{name} = {getattr(self, name)!r} cannot work: use {instead}.")

    def _require_choice(self, name: str, kind: Any) -> None:
        choices = get_args(kind)
        self._require(getattr(self, name) in choices, name, "one of " + ", ".join(repr(choice) for choice in choices))

    def _require_positive_integers(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            self._require(type(value) is int and value >= 1, name, "a whole number of at least 1")
            self._require(value <= LARGEST_INTEGER, name, f"a whole number of at most {LARGEST_INTEGER:,}")

    def _require_seed(self, name: str) -> None:
        value = getattr(self, name)
        self._require(0 <= value <= LARGEST_SEED, name, f"a whole number from 0 to {LARGEST_SEED}, such as 1")

    def to_dict(self) -> dict[str, Any]:
        """Convert to nested plain values for JSON, with a `kind` if the config is one of several kinds."""
        kind = {"kind": self.kind} if getattr(self, "kind", None) else {}
        return kind | {f.name: _plain(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
        """Make a config from the values of `to_dict`. Raises ConfigError for a field that does not exist, for one that
        is missing, and for one that is neither true nor false where it has to be."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            names, fields_known = ", ".join(map(repr, unknown)), ", ".join(sorted(known))
            raise ConfigError(f"{cls.__name__} has no field {names}: its fields are {fields_known}.")
        needed = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
        missing = ", ".join(name for name in needed if name not in values)
        if missing:
            raise ConfigError(f"{cls.__name__} needs a value for {missing}.")
        for f in fields(cls):
            if f.type is bool and f.name in values and type(values[f.name]) is not bool:
                raise ConfigError(f"{cls.__name__}.{f.name} = {values[f.name]!r} cannot work: use True or False.")
        return cls(**values)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return value.to_dict()
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
