"""Settings as dataclasses: a key is declared once; help, documents, the check of values and did-you-mean follow from it.

    @dataclass
    class Output:
        path: str = key(MISSING, "Folder for the tables.", path=True)

    @dataclass
    class Config:
        output: Output = section(Output)
        seed: int = key(7, "Seed of every draw.", low=0)

A system's options are one flat dataclass, whose fields name their key on a command line with `at`:

    @dataclass(frozen=True)
    class Options:
        checks: float = key(0.02, "Share of reports that are checked.", at="explain.checks_fraction", low=0.0, high=1.0)

`compose(Config, Options)` is a configuration with the keys of both. `extract(Options, config)` reads the options from one,
`options_from(Options, {"checks": 0.5})` from plain values. A field without `key` or `section` is no key.
"""

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, dataclass, field, fields, is_dataclass, make_dataclass
from operator import attrgetter
from typing import Any

from engine.errors import ConfigError

# A value that the user must give; the mark is Hydra's.
MISSING: Any = "???"
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_KINDS = {list: list, tuple: list, dict: dict, Mapping: dict}


def key(
    default: Any,
    help: str,
    *,
    at: str | None = None,
    path: bool = False,
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A field of a configuration dataclass.

    Args:
        default: the value without an override; `MISSING` if the user must give one. A list or dict is copied.
        help: what the key means, in a sentence or two.
        at: the key's full name on a command line, for a field of a flat dataclass; else it is section and field.
        path: a file or folder. Every text value is used as the shell passes it; a path may also begin with `~/`.
        choices: the values allowed, for text and lists of text.
        low, high: inclusive limits, for numbers.
    """
    metadata = {"help": help, "at": at, "path": path, "choices": tuple(choices), "low": low, "high": high}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def section(kind: type) -> Any:
    """A field that holds another configuration dataclass."""
    return field(default_factory=kind)


def same(schema: type, name: str) -> Any:
    """A field for a key that another dataclass declares."""
    return next(item for item in keys_of(schema) if item.name == name).as_field()


@dataclass(frozen=True)
class Key:
    """One key as the command line spells it; `inner` is the type of a list's items or a dict's values."""

    name: str
    kind: type  # str, int, float, bool, list or dict
    inner: type | None
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

    @property
    def hint(self) -> Any:
        """Its type in the terms of Hydra, which knows neither tuples nor Mappings."""
        hint = list[self.inner] if self.kind is list else dict[str, self.inner] if self.kind is dict else self.kind
        return hint | None if self.optional else hint

    def as_field(self) -> Any:
        """A dataclass field for the same key."""
        default = self.kind(self.default) if isinstance(self.default, tuple | Mapping) else self.default
        return key(default, self.help, path=self.path, choices=self.choices, low=self.low, high=self.high)


def keys_of(schema: type, prefix: str = "") -> list[Key]:
    """Every key of a configuration dataclass, in order."""
    hints = typing.get_type_hints(schema)
    keys: list[Key] = []
    for declared in fields(schema):
        if is_dataclass(hints[declared.name]):
            keys += keys_of(hints[declared.name], f"{prefix}{declared.name}.")
        elif _is_key(declared):
            keys.append(_key(declared, hints[declared.name], prefix))
    return keys


def compose(*schemas: type) -> type:
    """A configuration dataclass with the keys of several, which may share sections.

    A section keeps the place where `section` declares it, and the keys that it has there come first; one that only `at` names
    comes with its schema.

    Raises:
        ConfigError: two of them have the same key.
    """
    keys = [item for schema in schemas for item in keys_of(schema)]
    names = [item.name for item in keys]
    repeated = [name for name in names if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"{repeated[0]}: is a key already; what a system takes needs another name")
    declared = set().union(*map(_sections, schemas))
    tops: list[str] = []
    in_section: set[str] = set()
    for schema in schemas:
        sections, names = _sections(schema), [item.name for item in keys_of(schema)]
        if sections:
            in_section.update(names)
        else:
            # In a flat dataclass the keys without a section come last.
            names.sort(key=lambda name: "." not in name)
        tops += [top for name in names if (top := name.partition(".")[0]) in sections or top not in declared]
    keys.sort(key=lambda item: (tops.index(item.name.partition(".")[0]), item.name not in in_section))
    return _dataclass("Config", keys, "")


def build(schema: type, values: Mapping[str, Any]) -> Any:
    """An instance of a configuration dataclass from nested plain values; its own `__post_init__` checks run."""
    hints = typing.get_type_hints(schema)
    return schema(
        **{
            name: build(hints[name], value) if is_dataclass(hints[name]) else _as(hints[name], value)
            for name, value in values.items()
        }
    )


def extract(schema: type, config: Any, prefix: str = "") -> Any:
    """An instance of one of the dataclasses that a configuration is composed of, with the configuration's values."""
    hints = typing.get_type_hints(schema)
    values = {}
    for declared in fields(schema):
        hint, name = hints[declared.name], prefix + declared.name
        if is_dataclass(hint):
            values[declared.name] = extract(hint, config, f"{name}.")
        elif _is_key(declared):
            values[declared.name] = _as(hint, attrgetter(declared.metadata["at"] or name)(config))
    return schema(**values)


def options_from(schema: type, values: Mapping[str, Any]) -> Any:
    """An instance of a flat dataclass from plain values by field name, each checked by its key.

    Raises:
        ConfigError: there is no such field, or its key does not allow the value.
    """
    hints = typing.get_type_hints(schema)
    known = {declared.name: declared for declared in fields(schema)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(
            f"model: unknown options {', '.join(unknown)}{closest(unknown[0], known)}; this system has {', '.join(known)}"
        )
    for name, value in values.items():
        if _is_key(known[name]):
            spelled = _key(known[name], hints[name], "")
            check_value(spelled, value, f"{name} ({spelled.name})" if spelled.name != name else name)
    return schema(**{name: _as(hints[name], value) for name, value in values.items()})


def check_keys(settings: Any, prefix: str = "") -> None:
    """ConfigError if an instance of a dataclass has a value that its key does not allow."""
    hints = typing.get_type_hints(type(settings))
    for declared in filter(_is_key, fields(settings)):
        check_value(_key(declared, hints[declared.name], prefix), getattr(settings, declared.name))


def check_value(key: Key, value: Any, name: str | None = None) -> None:
    """ConfigError, about `name` or else the key's own, if the key does not allow a value."""
    name = name or key.name
    if value is None and key.optional:
        return
    if not isinstance(value, {list: list | tuple, dict: Mapping}.get(key.kind, object)):
        raise ConfigError(f"{name}: {value!r} is not allowed; wants {key.wants}")
    for item in value if key.kind is list else value.values() if key.kind is dict else [value]:
        allowed = _is_of(key.inner or key.kind, item) and (not key.choices or item in key.choices)
        if not allowed or (isinstance(item, int | float) and not _within(item, key.low, key.high)):
            raise ConfigError(f"{name}: {item!r} is not allowed{closest(str(item), key.choices)}; wants {key.wants}")
        if key.path and item == "":
            raise ConfigError(f"{name}: is empty; wants a file or folder")


def closest(word: str, words: Iterable[str]) -> str:
    """A question whether the user meant the word that is close to theirs; empty if none is."""
    words = list(words)
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if not near:
        ends = [w for w in words if w.rpartition(".")[2] == word.rpartition(".")[2]]
        near = ends if len(ends) == 1 else []
    return f" (did you mean '{near[0]}'?)" if near else ""


def value_at(values: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted key in nested values."""
    for part in name.split("."):
        values = values[part]
    return values


def _sections(schema: type) -> set[str]:
    return {name for name, hint in typing.get_type_hints(schema).items() if is_dataclass(hint)}


def _is_key(declared: Field) -> bool:
    return "help" in declared.metadata


def _key(declared: Field, hint: Any, prefix: str) -> Key:
    metadata = dict(declared.metadata)
    name = metadata.pop("at") or prefix + declared.name
    default = declared.default if declared.default_factory is NO_DEFAULT else declared.default_factory()
    hint, optional = _bare(hint)
    kind, inner = _KINDS.get(typing.get_origin(hint)), typing.get_args(hint)
    if kind is None:
        return Key(name, hint, None, optional, default, **metadata)
    return Key(name, kind, inner[-1] if kind is dict else inner[0], optional, default, **metadata)


def _dataclass(name: str, keys: Sequence[Key], prefix: str) -> type:
    declared = []
    for top in dict.fromkeys(item.name.removeprefix(prefix).partition(".")[0] for item in keys):
        inside = [item for item in keys if item.name.startswith(f"{prefix}{top}.")]
        if inside:
            kind = _dataclass(top.title(), inside, f"{prefix}{top}.")
            declared.append((top, kind, section(kind)))
        else:
            single = next(item for item in keys if item.name == prefix + top)
            declared.append((top, single.hint, single.as_field()))
    return make_dataclass(name, declared)


def _bare(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was allowed."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return options[0], len(options) < len(typing.get_args(hint))
    return hint, False


def _as(hint: Any, value: Any) -> Any:
    return tuple(value) if isinstance(value, list) and typing.get_origin(_bare(hint)[0]) is tuple else value


def _is_of(kind: type, value: Any) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, int | float if kind is float else kind)


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)
