"""The help page of a job and docs/configuration.md, both made from the keys themselves."""

import importlib
import pkgutil
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jobs._keys import keys_of

if TYPE_CHECKING:
    from jobs._front import Job

WIDTH = 110
_INDENT = " " * 8
_PREFACE = """# Configuration

Made by `make docs` from the keys themselves; do not edit it by hand.

Every job is started as `marginalia <name> key=value ...` or `python -m jobs.<name> key=value ...`. `--help` shows what stands
here, `--cfg job` what would run; `marginalia` alone lists the jobs.

* `???` must be given.
* A text value is taken as the shell gives it: a file name needs quotes for the shell only. A path may begin with `~/`.
* A list may be written `[a,b]` or `a,b`; an item with a comma needs quotes inside: `'input.keep=["a, b",c]'`.
* A choice such as `cluster=gpu_box` takes its values from `conf/cluster/gpu_box.yaml`, or from the same place in the folder that
  `--config-dir` names; `experiment=screen` sets several keys at once. Keys given on the command line win over both.
"""


def help_text(job: "Job", values: Mapping[str, Any], groups: Mapping[str, list[str]]) -> str:
    """Everything a person needs to start the job: what it does, every key with its value now, choices, examples."""
    lines = [textwrap.fill(job.about, WIDTH), "", f"usage: python -m jobs.{job.name} key=value ...", ""]
    lines += ["Keys, with their values now (??? must be given):", ""]
    for key in keys_of(job.schema):
        lines.append(f"    {key.name} [{shown(value_at(values, key.name))}]")
        lines += textwrap.wrap(f"{key.help} ({key.wants})", WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT)
    if groups:
        lines += ["", "Choices (a file each in conf/<group>/, or in --config-dir):", ""]
        lines += [f"    {group}={'|'.join(choices) or 'null'}" for group, choices in groups.items()]
    lines += [
        "",
        "Options: --help, --cfg job (print the configuration), --config-dir FOLDER (look there for choices too),",
        "--config-name NAME (another primary file). File names need quotes for the shell only.",
        "",
        "Exit codes: 0 done, 2 configuration or input, 3 try again, 4 done with more failed records than allowed, 1 bug.",
    ]
    if job.examples:
        lines += ["", "Examples:", ""] + [f"    python -m jobs.{job.name} {example}" for example in job.examples]
    return "\n".join(lines)


def markdown(job: "Job", values: Mapping[str, Any], groups: Mapping[str, list[str]]) -> str:
    """The section of docs/configuration.md about one job."""
    lines = [f"## jobs.{job.name}", "", job.about, "", "| key | default | wants | meaning |", "|---|---|---|---|"]
    for key in keys_of(job.schema):
        lines.append(f"| `{key.name}` | `{shown(value_at(values, key.name))}` | {_cell(key.wants)} | {_cell(key.help)} |")
    if groups:
        lines += [
            "",
            "Choices: " + ", ".join(f"`{group}={'|'.join(choices) or 'null'}`" for group, choices in groups.items()) + ".",
        ]
    return "\n".join(lines) + "\n"


def jobs() -> list["Job"]:
    """Every job of this package, by name."""
    import jobs as package
    from jobs._front import Job

    found = []
    for module in pkgutil.iter_modules(package.__path__):
        main = None if module.name.startswith("_") else getattr(importlib.import_module(f"jobs.{module.name}"), "main", None)
        if isinstance(main, Job):
            found.append(main)
    return found


def page() -> str:
    """docs/configuration.md."""
    chapters = [markdown(job, job.compose([], {})[0], job.groups({})) for job in jobs()]
    return "\n".join([_PREFACE, *chapters])


def value_at(values: Mapping[str, Any], name: str) -> Any:
    """The value of a dotted key in nested values."""
    for part in name.split("."):
        values = values[part]
    return values


def shown(value: Any) -> str:
    """A value as the command line would have it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ",".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{shown(v)}" for k, v in value.items()) + "}"
    return str(value)


def _cell(text: str) -> str:
    return text.replace("|", "&#124;")


if __name__ == "__main__":
    print(page(), end="")
