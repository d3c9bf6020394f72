"""Words of a command line as Hydra may have them, and what Hydra says of them in our words.

Text values never pass through Hydra's parser. A stand-in is composed in their place and replaced afterwards, so that a file may
be called `my reports [2024], a=b~.csv` and needs no quotes beyond those for the shell.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.errors import ConfigError
from engine.keys import Key, closest

SYSTEM = "model.system"
_OVERRIDE = re.compile(r"(\+{0,2})([A-Za-z_][\w.]*)=(.*)", re.DOTALL)
_ENTRY = re.compile(r"\+{0,2}([^={}]+)=(.*)", re.DOTALL)
_ITEM = re.compile(r"""\s*("[^"]*"|'[^']*'|[^,]*?)\s*(,|$)""", re.DOTALL)
_FLAGS = {"-h": "--help", "-c": "--cfg", "-cd": "--config-dir", "-cn": "--config-name", "-m": "--multirun"}
_TAKES_VALUE = ("--cfg", "--config-dir", "--config-name")


@dataclass
class Texts:
    """Text values on their way around Hydra's parser and OmegaConf's interpolation."""

    held: dict[str, str] = field(default_factory=dict)

    def hold(self, text: str) -> str:
        """A stand-in for a text."""
        stand_in = f"text_value_{len(self.held):04d}_"
        self.held[stand_in] = text
        return stand_in

    def restore(self, value: Any) -> Any:
        """Plain values with every stand-in replaced."""
        if isinstance(value, dict):
            return {self.restore(k): self.restore(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self.restore(v) for v in value]
        if isinstance(value, str) and "text_value_" in value:
            return re.sub(r"text_value_\d{4}_", lambda m: self.held.get(m[0], m[0]), value)
        return value


def split(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Command line to flags (with their values) and overrides."""
    flags: dict[str, str] = {}
    overrides: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(word)
            continue
        flag, equals, value = word.partition("=")
        flag = _FLAGS.get(flag, flag)
        if flag == "--multirun":
            raise ConfigError("--multirun is not supported: start the job once for each setting, each with its own output folder")
        if flag in _TAKES_VALUE:
            if not equals and not rest:
                raise ConfigError(f"{flag} wants a value")
            flags[flag] = value if equals else rest.pop(0)
        elif flag == "--help":
            flags[flag] = ""
        elif flag != "--resolve":
            raise ConfigError(
                f"unknown option {flag}{closest(flag, ['--help', '--resolve', *_TAKES_VALUE])}; settings are key=value"
            )
    if flags.get("--cfg", "job") != "job":
        raise ConfigError(f"--cfg {flags['--cfg']}: only --cfg job is supported")
    return flags, overrides


def translate(override: str, keys: Mapping[str, Key], groups: Mapping[str, list[str]], texts: Texts) -> str:
    """One override as Hydra may have it: known key, known choice, text replaced by a stand-in."""
    entry = _ENTRY.fullmatch(override)
    for name, key in keys.items() if entry else ():
        # An entry's name is the user's own, such as a type's, with letters that Hydra's parser does not know.
        if key.kind is dict and entry[1].startswith(f"{name}."):
            value = texts.hold(entry[2]) if key.inner is str else entry[2]
            return f"++{name}.{texts.hold(entry[1].removeprefix(f'{name}.'))}={value}"
    match = _OVERRIDE.fullmatch(override)
    if not match:
        if re.fullmatch(r"~[\w.]+(=.*)?", override):
            raise ConfigError(f"{override}: a key cannot be removed; set it to null if --help says that it may be")
        raise ConfigError(f"'{override}' is not key=value; --help lists the keys")
    _, name, value = match.groups()
    if name in groups:
        if value == "null":
            return f"~{name}"
        if value not in groups[name]:
            inside = [k for k in keys if k.startswith(name + ".")]
            hint = closest(value, groups[name]) or (f"; for one setting give {inside[0]}=..." if inside else "")
            raise ConfigError(f"{name}: no choice '{value}'{hint}; has {', '.join(groups[name])}")
        return f"{name}={value}"
    key = keys.get(name)
    if key is None:
        raise ConfigError(f"unknown key '{name}'{closest(name, [*keys, *groups])}; --help lists them all")
    if value == "???" or (value == "null" and key.optional):
        return f"{name}={value}"
    if key.is_text:
        return f"{name}={texts.hold(value if key.path else _unquoted(value))}"
    if key.is_texts:
        return f"{name}=[{','.join(texts.hold(item) for item in _items(value))}]"
    if not value.strip() or not ("${" in value or _reads(key.kind, value)):
        raise ConfigError(f"{name}: {value!r} is not allowed; wants {key.wants}")
    return f"{'++' if key.kind is dict else ''}{name}={value}"


def choosing(overrides: Sequence[str], groups: Mapping[str, list[str]], texts: Texts) -> list[str]:
    """Those of the overrides that may say which system is meant, as Hydra may have them where no key is known yet. A wrong choice
    of another group than `model` is left to `translate`."""
    made = []
    for each in overrides:
        name, _, value = each.lstrip("+").partition("=")
        if name == SYSTEM:
            made.append(f"++{name}={texts.hold(value)}")
        elif name in groups and (name == "model" or value in (*groups[name], "null")):
            made.append(translate(each, {}, groups, texts))
    return made


def quoted(text: str) -> str:
    """A text that Hydra's parser is to read as it stands."""
    escaped = re.sub(r"(\\*)(')", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped).replace("${", r"\${") + "'"


def at_home(path: str) -> str:
    """`~/x` below the home folder, as a shell would have it, unless a folder here is really called `~`."""
    return os.path.expanduser(path) if path.startswith("~/") and not os.path.lexists("~") else path


def in_one_line(error: BaseException, keys: Mapping[str, Key]) -> str:
    """What Hydra or OmegaConf complains about, in our words where the key is known."""
    cause: BaseException | None = error
    while cause is not None:
        written = re.search(r"full_key: (\S+)", str(cause))
        name = getattr(cause, "full_key", None) or (written[1] if written else None)
        if name:
            key = keys.get(name) or keys.get(name.partition("[")[0]) or keys.get(name.rpartition(".")[0])
            given = re.search(r"[Vv]alue '(.*?)'", str(cause))
            if key is None:
                return f"{name}: {flat(cause)}"
            return f"{name}: {repr(given[1]) if given else 'this value'} is not allowed; wants {key.wants}"
        cause = cause.__cause__
    told = flat(error)
    name = re.search(r"\+\+([\w.]+)=\{", told)
    if name and name[1] in keys:
        return f"{name[1]}: what stands in braces cannot be read; give each entry by itself, as in {name[1]}.<name>=<value>"
    return told


def flat(error: BaseException) -> str:
    """A message of several lines as one, without OmegaConf's notes."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("full_key", "object_type", "reference_type")))


def _reads(kind: type, value: str) -> bool:
    """Whether a number or a truth value can be read from a text; other kinds are left to Hydra."""
    if kind is bool:
        return value.lower() in ("true", "false", "yes", "no", "on", "off", "1", "0")
    try:
        return kind not in (int, float) or kind(value) is not None
    except ValueError:
        return False


def _items(value: str) -> list[str]:
    """`[a, b c, "d, e"]`, with or without brackets, to its items."""
    inner = value.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    return [_unquoted(m[1]) for m in _ITEM.finditer(inner) if m[1]]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
