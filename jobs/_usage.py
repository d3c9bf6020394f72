"""Keys for people to read: the help page of a job, and its chapter of docs/configuration.md."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.keys import Key, value_at

WIDTH = 110
_INDENT = " " * 8


def help_text(
    name: str,
    about: str,
    examples: Sequence[str],
    keys: Iterable[Key],
    values: Mapping[str, Any],
    groups: Mapping[str, list[str]],
    chooses: bool,
) -> str:
    """What a job does, every key with its current value, choices and examples.

    `chooses` says whether `model=` chooses a system, and with it the keys.
    """
    lines = [textwrap.fill(about, WIDTH), "", f"usage: python -m jobs.{name} key=value ...", ""]
    if chooses:
        system = value_at(values, "model.system")
        lines += [f"Some keys belong to the system, here {system}; model= chooses another one, with other keys.", ""]
    lines += ["Keys, with their current values (??? must be given):", ""]
    for key in keys:
        lines.append(f"    {key.name} [{shown(value_at(values, key.name))}]")
        lines += textwrap.wrap(f"{key.help} ({key.wants})", WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    if groups:
        lines += ["", "Choices (each a file in conf/<group>/, or in --config-dir):", ""]
        lines += [f"    {group}={'|'.join(choices) or 'null'}" for group, choices in groups.items()]
    lines += [
        "",
        "Options: --help, --cfg job (print the configuration), --config-dir FOLDER (a further folder with choices),",
        "--config-name NAME (another primary file). File names need quotes for the shell only.",
        "",
        "Exit codes: 0 done, 2 configuration or input, 3 try again, 4 done with more failed records than allowed, 1 bug.",
    ]
    if examples:
        lines += ["", "Examples:", ""] + [f"    python -m jobs.{name} {example}" for example in examples]
    return "\n".join(lines)


def table(keys: Iterable[Key], values: Mapping[str, Any]) -> list[str]:
    """The lines of a table of keys in Markdown."""
    lines = ["| key | default | wants | meaning |", "|---|---|---|---|"]
    for key in keys:
        lines.append(f"| `{key.name}` | `{shown(value_at(values, key.name))}` | {_cell(key.wants)} | {_cell(key.help)} |")
    return lines


def choices_line(groups: Mapping[str, list[str]]) -> list[str]:
    """The line of a chapter with the choices, if there are any."""
    choices = ", ".join(f"`{group}={'|'.join(names) or 'null'}`" for group, names in groups.items())
    return ["", f"Choices: {choices}."] if groups else []


def shown(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{name}:{shown(item)}" for name, item in value.items()) + "}"
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")
