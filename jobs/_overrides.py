"""Translates the words of a command line for Hydra, and Hydra's complaints for the user.

Text values never pass through Hydra's parser: Hydra composes stand-ins, which are replaced by the texts afterwards. So a file may
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
    """The text values of a command line, by the stand-ins that Hydra and OmegaConf see in their place."""

    texts: dict[str, str] = field(default_factory=dict)

    def add(self, text: str) -> str:
        """The stand-in for a text."""
        stand_in = f"text_value_{len(self.texts):04d}_"
        self.texts[stand_in] = text
        return stand_in

    def restore(self, value: Any) -> Any:
        """Plain values with every stand-in replaced."""
        if isinstance(value, dict):
            return {self.restore(name): self.restore(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self.restore(item) for item in value]
        if isinstance(value, str):
            return re.sub(r"text_value_\d{4}_", lambda match: self.texts.get(match[0], match[0]), value)
        return value


def split(argv: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The flags of a command line, with their values, and its overrides."""
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
    """One override for Hydra, with stand-ins for texts.

    Raises:
        ConfigError: no such key or choice, or a value that the key does not allow.
    """
    entry = _ENTRY.fullmatch(override)
    for name, key in keys.items() if entry else ():
        # The user names the entries of a dict, for example after a type, with letters that Hydra's parser refuses.
        if key.kind is dict and entry[1].startswith(f"{name}."):
            value = texts.add(entry[2]) if key.inner is str else entry[2]
            return f"++{name}.{texts.add(entry[1].removeprefix(f'{name}.'))}={value}"
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
            inside = next((key for key in keys if key.startswith(name + ".")), None)
            hint = closest(value, groups[name]) or (f"; for one setting give {inside}=..." if inside else "")
            raise ConfigError(f"{name}: no choice '{value}'{hint}; has {', '.join(groups[name])}")
        return f"{name}={value}"
    key = keys.get(name)
    if key is None:
        raise ConfigError(f"unknown key '{name}'{closest(name, [*keys, *groups])}; --help lists them all")
    if value == "???" or (value == "null" and key.optional):
        return f"{name}={value}"
    if key.is_text:
        return f"{name}={texts.add(value if key.path else _unquoted(value))}"
    if key.is_texts:
        return f"{name}=[{','.join(map(texts.add, _items(value)))}]"
    if not value.strip() or not ("${" in value or _can_be(key.kind, value)):
        raise ConfigError(f"{name}: {value!r} is not allowed; wants {key.wants}")
    return f"{'++' if key.kind is dict else ''}{name}={value}"


def system_overrides(overrides: Sequence[str], groups: Mapping[str, list[str]], texts: Texts) -> list[str]:
    """The overrides that may choose the system, for Hydra, while no key is known yet. A wrong choice of another group than
    `model` is left to `translate`."""
    result = []
    for override in overrides:
        name, _, value = override.lstrip("+").partition("=")
        if name == SYSTEM:
            result.append(f"++{name}={texts.add(value)}")
        elif name in groups and (name == "model" or value in (*groups[name], "null")):
            result.append(translate(override, {}, groups, texts))
    return result


def quoted(text: str) -> str:
    """A text with quotes and escapes, so that Hydra's parser reads it as it is."""
    escaped = re.sub(r"(\\*)(')", r"\1\1\\'", text)
    return "'" + re.sub(r"(\\+)$", r"\1\1", escaped).replace("${", r"\${") + "'"


def at_home(path: str) -> str:
    """The path with `~/` replaced by the home folder, as a shell would, unless a folder here is really called `~`."""
    return os.path.expanduser(path) if path.startswith("~/") and not os.path.lexists("~") else path


def in_one_line(error: BaseException, keys: Mapping[str, Key]) -> str:
    """The complaint of Hydra or OmegaConf; in the words of this product if it is about a known key."""
    cause: BaseException | None = error
    while cause is not None:
        match = re.search(r"full_key: (\S+)", str(cause))
        name = getattr(cause, "full_key", None) or (match and match[1])
        if name:
            key = keys.get(name) or keys.get(name.partition("[")[0]) or keys.get(name.rpartition(".")[0])
            if key is None:
                return f"{name}: {flat(cause)}"
            value = re.search(r"[Vv]alue '(.*?)'", str(cause))
            return f"{name}: {repr(value[1]) if value else 'this value'} is not allowed; wants {key.wants}"
        cause = cause.__cause__
    message = flat(error)
    braces = re.search(r"\+\+([\w.]+)=\{", message)
    if braces and (name := braces[1]) in keys:
        return f"{name}: the value in braces cannot be read; give each entry by itself, as in {name}.<name>=<value>"
    return message


def flat(error: BaseException) -> str:
    """An error's message in one line, without OmegaConf's notes."""
    lines = [line.strip() for line in str(error).splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("full_key", "object_type", "reference_type")))


def _can_be(kind: type, value: str) -> bool:
    """Whether a text can be read as a number or a truth value; other kinds are left to Hydra."""
    if kind is bool:
        return value.lower() in ("true", "false", "yes", "no", "on", "off", "1", "0")
    try:
        return kind not in (int, float) or kind(value) is not None
    except ValueError:
        return False


def _items(value: str) -> list[str]:
    """The items of a list such as `[a, b c, "d, e"]`, with or without brackets."""
    inner = value.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    return [_unquoted(match[1]) for match in _ITEM.finditer(inner) if match[1]]


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
