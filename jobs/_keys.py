"""The keys of a job, described once: type, default, meaning and limits stand in the dataclass of the job's configuration.

    @dataclass
    class Output:
        path: str = key(MISSING, "Folder for the tables.", path=True)

    @dataclass
    class Config:
        output: Output = section(Output)
        spans: int = key(5, "Evidence spans for each answer.", low=0, high=50)

`--help`, docs/configuration.md, the check of values and the did-you-mean are all made from this, so none of them can drift.
"""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from omegaconf import MISSING

from engine.errors import ConfigError

__all__ = ["MISSING", "Key", "build", "check_value", "closest", "key", "keys_of", "section"]

_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def key(
    default: Any,
    help: str,
    *,
    path: bool = False,
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field of a configuration dataclass.

    Args:
        default: the value without an override; `MISSING` if the user must give one. A list or dict is copied.
        help: what the key means, in a sentence or two.
        path: a file or folder. Every text value is taken as the shell gives it; a path may also begin with `~/`.
        choices: the values allowed, for text and lists of text.
        low, high: inclusive limits, for numbers.
    """
    metadata = {"help": help, "path": path, "choices": tuple(choices), "low": low, "high": high}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type) -> Any:
    """A field that holds another configuration dataclass."""
    return field(default_factory=kind)


@dataclass(frozen=True)
class Key:
    """One key as the command line spells it."""

    name: str
    kind: type  # str, int, float, bool, list or dict
    inner: type | None  # of the items of a list, of the values of a dict
    optional: bool
    default: Any
    help: str
    path: bool
    choices: tuple[str, ...]
    low: float | None
    high: float | None

    @property
    def is_text(self) -> bool:
        return self.kind is str

    @property
    def is_texts(self) -> bool:
        return self.kind is list and self.inner is str

    @property
    def wants(self) -> str:
        """The values allowed, in words."""
        if self.kind is dict:
            words = f"{{name: {_WORDS[self.inner]}, ...}}"
        elif self.kind is list:
            words = f"a list of {_WORDS[self.inner].removeprefix('a ')}s" if self.inner is not str else "a list, such as [a,b]"
        else:
            words = _WORDS[self.kind]
        if self.choices:
            words = ("one of " if self.kind is str else "a list out of ") + ", ".join(self.choices)
        if self.low is not None and self.high is not None:
            words += f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            words += f", at least {self.low:g}"
        elif self.high is not None:
            words += f", at most {self.high:g}"
        return words + (", or null" if self.optional else "")


def keys_of(schema: type, prefix: str = "") -> list[Key]:
    """Every key of a configuration dataclass, in the order in which it stands there."""
    hints = typing.get_type_hints(schema)
    found: list[Key] = []
    for each in fields(schema):
        name, hint = prefix + each.name, hints[each.name]
        if is_dataclass(hint):
            found += keys_of(hint, f"{name}.")
            continue
        kind, inner, optional = _kind(hint)
        default = each.default_factory() if each.default_factory is not NO_DEFAULT else each.default
        metadata = {"help": "", "path": False, "choices": (), "low": None, "high": None, **each.metadata}
        found.append(Key(name, kind, inner, optional, default, **metadata))
    return found


def check_value(key: Key, value: Any) -> None:
    """ConfigError if a value of the right type is none that the key allows."""
    if value is None:
        return
    for item in value if key.kind is list else value.values() if key.kind is dict else [value]:
        wrong_choice = key.choices and item not in key.choices
        wrong_size = isinstance(item, int | float) and not _within(item, key.low, key.high)
        if wrong_choice or wrong_size:
            raise ConfigError(f"{key.name}: {item!r} is not allowed{closest(str(item), key.choices)}; wants {key.wants}")
        if key.path and item == "":
            raise ConfigError(f"{key.name}: is empty; wants a file or folder")


def closest(word: str, words: Iterable[str]) -> str:
    """', did you mean X?' where a word is close to one of others; else nothing."""
    words = list(words)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if not near:
        ends = [w for w in words if w.rpartition(".")[2] == word.rpartition(".")[2]]
        near = ends if len(ends) == 1 else []
    return f" (did you mean '{near[0]}'?)" if near else ""


def build(schema: type, values: Mapping[str, Any]) -> Any:
    """An instance of a configuration dataclass from nested plain values; its own `__post_init__` checks run."""
    hints = typing.get_type_hints(schema)
    made = {name: build(hints[name], value) if is_dataclass(hints[name]) else value for name, value in values.items()}
    return schema(**made)


def _kind(hint: Any) -> tuple[type, type | None, bool]:
    optional = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = [h for h in typing.get_args(hint) if h is not type(None)]
        optional = len(options) < len(typing.get_args(hint))
        hint = options[0]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (list, dict):
        return origin, args[-1], optional
    return hint, None, optional


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)
