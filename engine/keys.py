"""Settings as dataclasses: a key is declared once; help, documents, the check of values and did-you-mean follow from it.

    @dataclass
    class Output:
        path: str = key(MISSING, "Folder for the tables.", path=True)

    @dataclass
    class Config:
        output: Output = section(Output)
        seed: int = key(7, "Seed of every draw.", low=0)

What a system takes is one flat dataclass, whose fields say by `at` where they stand on a command line:

    @dataclass(frozen=True)
    class Options:
        checks: float = key(0.02, "Share of reports that are checked.", at="explain.checks_fraction", low=0.0, high=1.0)

`composed(Config, Options)` is a configuration with the keys of both. `taken(Options, config)` takes the options out of one,
`options_from(Options, {"checks": 0.5})` makes them of plain values. A field without `key` or `section` is no key.
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

# What a user must give; Hydra has the same mark.
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
        at: the key's whole name on a command line, for a field of a flat dataclass; else it is the field's, behind its section's.
        path: a file or folder. Every text value is taken as the shell gives it; a path may also begin with `~/`.
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
    return next(each for each in keys_of(schema) if each.name == name).declared()


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

    @property
    def hint(self) -> Any:
        """Its type as Hydra knows types, which are neither tuples nor Mappings."""
        hint = list[self.inner] if self.kind is list else dict[str, self.inner] if self.kind is dict else self.kind
        return hint | None if self.optional else hint

    def declared(self) -> Any:
        """A field of another dataclass, for the same key."""
        default = self.kind(self.default) if isinstance(self.default, tuple | Mapping) else self.default
        return key(default, self.help, path=self.path, choices=self.choices, low=self.low, high=self.high)


def keys_of(schema: type, prefix: str = "") -> list[Key]:
    """Every key of a configuration dataclass, in the order in which it stands there."""
    hints = typing.get_type_hints(schema)
    found: list[Key] = []
    for each in fields(schema):
        if is_dataclass(hints[each.name]):
            found += keys_of(hints[each.name], f"{prefix}{each.name}.")
        elif _is_key(each):
            found.append(_key(each, hints[each.name], prefix))
    return found


def composed(*schemas: type) -> type:
    """A configuration dataclass with the keys of several, of sections that they share too.

    A section stands where it is declared with `section`, and first with the keys that it has there; one that only `at` names
    stands where its schema comes.

    Raises:
        ConfigError: two of them have the same key.
    """
    keys = [each for schema in schemas for each in keys_of(schema)]
    names = [each.name for each in keys]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"{twice[0]}: is a key already; what a system takes needs another name")
    declared = set().union(*map(_sections, schemas))
    tops: list[str] = []
    at_home: set[str] = set()
    for schema in schemas:
        own, found = _sections(schema), [each.name for each in keys_of(schema)]
        at_home.update(found if own else ())
        # Of a flat dataclass the keys without a section come last.
        for name in found if own else sorted(found, key=lambda name: "." not in name):
            top = name.partition(".")[0]
            if top in own or top not in declared:
                tops.append(top)
    keys.sort(key=lambda each: (tops.index(each.name.partition(".")[0]), each.name not in at_home))
    return _dataclass("Config", keys, "")


def build(schema: type, values: Mapping[str, Any]) -> Any:
    """An instance of a configuration dataclass from nested plain values; its own `__post_init__` checks run."""
    hints = typing.get_type_hints(schema)
    made = {}
    for name, value in values.items():
        made[name] = build(hints[name], value) if is_dataclass(hints[name]) else _as(hints[name], value)
    return schema(**made)


def taken(schema: type, config: Any, prefix: str = "") -> Any:
    """An instance of one of the dataclasses that a configuration is composed of, with the configuration's values."""
    hints = typing.get_type_hints(schema)
    made = {}
    for each in fields(schema):
        hint, name = hints[each.name], prefix + each.name
        if is_dataclass(hint):
            made[each.name] = taken(hint, config, f"{name}.")
        elif _is_key(each):
            made[each.name] = _as(hint, attrgetter(each.metadata["at"] or name)(config))
    return schema(**made)


def options_from(schema: type, values: Mapping[str, Any]) -> Any:
    """An instance of a flat dataclass from plain values by the names of its fields, each checked by its key.

    Raises:
        ConfigError: there is no such field, or a value that its key does not allow.
    """
    hints = typing.get_type_hints(schema)
    known = {each.name: each for each in fields(schema)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(
            f"model: unknown options {', '.join(unknown)}{closest(unknown[0], known)}; this system has {', '.join(known)}"
        )
    for name, value in values.items():
        if _is_key(known[name]):
            own = _key(known[name], hints[name], "")
            check_value(own, value, f"{name} ({own.name})" if own.name != name else name)
    return schema(**{name: _as(hints[name], value) for name, value in values.items()})


def check_keys(settings: Any, home: str = "") -> None:
    """ConfigError if a dataclass's instance has a value that its key, behind `home`, does not allow."""
    hints = typing.get_type_hints(type(settings))
    for each in filter(_is_key, fields(settings)):
        check_value(_key(each, hints[each.name], home), getattr(settings, each.name))


def check_value(key: Key, value: Any, name: str | None = None) -> None:
    """ConfigError, about `name` or else the key's own, if a value is none that the key allows."""
    name = name or key.name
    if value is None and key.optional:
        return
    if not isinstance(value, {list: list | tuple, dict: Mapping}.get(key.kind, object)):
        raise ConfigError(f"{name}: {value!r} is not allowed; wants {key.wants}")
    for item in value if key.kind is list else value.values() if key.kind is dict else [value]:
        wrong_kind = not _is_of(key.inner or key.kind, item)
        wrong_choice = key.choices and item not in key.choices
        if wrong_kind or wrong_choice or (isinstance(item, int | float) and not _within(item, key.low, key.high)):
            raise ConfigError(f"{name}: {item!r} is not allowed{closest(str(item), key.choices)}; wants {key.wants}")
        if key.path and item == "":
            raise ConfigError(f"{name}: is empty; wants a file or folder")


def closest(word: str, words: Iterable[str]) -> str:
    """', did you mean X?' where a word is close to one of others; else nothing."""
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


def _is_key(each: Field) -> bool:
    return "help" in each.metadata


def _key(each: Field, hint: Any, prefix: str) -> Key:
    metadata = dict(each.metadata)
    name = metadata.pop("at") or prefix + each.name
    default = each.default_factory() if each.default_factory is not NO_DEFAULT else each.default
    return Key(name, *_kind(hint), default, **metadata)


def _dataclass(name: str, keys: Sequence[Key], prefix: str) -> type:
    made = []
    for top in dict.fromkeys(each.name.removeprefix(prefix).partition(".")[0] for each in keys):
        inside = [each for each in keys if each.name.startswith(f"{prefix}{top}.")]
        if inside:
            kind = _dataclass(top.title(), inside, f"{prefix}{top}.")
            made.append((top, kind, section(kind)))
        else:
            own = next(each for each in keys if each.name == prefix + top)
            made.append((top, own.hint, own.declared()))
    return make_dataclass(name, made)


def _bare(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was allowed."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = [each for each in typing.get_args(hint) if each is not type(None)]
        return options[0], len(options) < len(typing.get_args(hint))
    return hint, False


def _kind(hint: Any) -> tuple[type, type | None, bool]:
    hint, optional = _bare(hint)
    kind = _KINDS.get(typing.get_origin(hint))
    if kind is None:
        return hint, None, optional
    inner = typing.get_args(hint)
    return kind, inner[-1] if kind is dict else inner[0], optional


def _as(hint: Any, value: Any) -> Any:
    return tuple(value) if isinstance(value, list) and typing.get_origin(_bare(hint)[0]) is tuple else value


def _is_of(kind: type, value: Any) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, int | float if kind is float else kind)


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)
