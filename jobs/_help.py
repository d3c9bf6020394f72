"""docs/configuration.md, made from the keys themselves: `python -m jobs._help`."""

import importlib
import pkgutil
from typing import Any

import jobs as package
from engine.keys import Key, keys_of, value_at
from jobs._front import Job
from jobs._overrides import SYSTEM
from jobs._usage import choices_line, table

_PREFACE = """# Configuration

Made by `make docs` from the keys themselves; do not edit it by hand.

Every job is started as `marginalia <name> key=value ...` or `python -m jobs.<name> key=value ...`. `--help` shows what stands
here, `--cfg job` what would run; `marginalia` alone lists the jobs.

* `???` must be given.
* A text value is taken as the shell gives it: a file name needs quotes for the shell only. A path may begin with `~/`.
* A list may be written `[a,b]` or `a,b`; an item with a comma needs quotes inside: `'input.keep=["a, b",c]'`.
* A choice such as `cluster=gpu_box` takes its values from `conf/cluster/gpu_box.yaml`, or from the same place in the folder that
  `--config-dir` names; `preset=screen` sets several keys at once. Keys given on the command line win over both.
* `model=<name>` chooses a system and with it some of the keys; a key of another system is unknown then. A system of your own is a
  package with `Options` and `load`, and a file `model/<name>.yaml` with `system: <package>` in the folder of `--config-dir`.
"""


def jobs() -> list[Job]:
    """Every job of this package, by name."""
    found = []
    for module in pkgutil.iter_modules(package.__path__):
        main = None if module.name.startswith("_") else getattr(importlib.import_module(f"jobs.{module.name}"), "main", None)
        if isinstance(main, Job):
            found.append(main)
    return found


def systems(job: Job) -> dict[str, dict]:
    """The systems that come along and that a job may have, by their names as choices, each with the composed values."""
    return {name: job.compose([f"model={name}"], {})[0] for name in job.groups({})["model"]} if job.chooses else {}


def chapter(job: Job) -> str:
    """The chapter about one job. Where a system makes the keys, those that all systems share stand there once."""

    def keys(values: dict) -> dict[str, tuple[Key, Any]]:
        return {each.name: (each, value_at(values, each.name)) for each in keys_of(job.schema_of(values))}

    values, own = job.compose([], {})[0], systems(job)
    shared = {name: each for name, each in keys(values).items() if all(keys(of).get(name) == each for of in own.values())}
    lines = [f"## jobs.{job.name}", "", job.about, "", *table([each for each, _ in shared.values()], values)]
    lines += choices_line(job.groups({}, keys_of(job.schema_of(values))))
    for name, of in own.items():
        lines += ["", f"### jobs.{job.name} model={name}", ""]
        lines += table([each for each, _ in keys(of).values() if each.name not in shared], of)
    return "\n".join(lines) + "\n"


def same_as(job: Job, other: Job) -> str:
    """The chapter about a job that is another one by a name of its own."""
    system = value_at(job.compose([], {})[0], SYSTEM)
    link = f"[jobs.{other.name}](#jobs{other.name})"
    return f"## jobs.{job.name}\n\n{job.about}\n\nKeys and choices are those of {link}, with `{SYSTEM}={system}` for a default.\n"


def page() -> str:
    """docs/configuration.md."""
    chapters, first = [], {}
    for job in jobs():
        other = first.setdefault(job.schema, job)
        chapters.append(chapter(job) if other is job else same_as(job, other))
    return "\n".join([_PREFACE, *chapters])


if __name__ == "__main__":
    print(page(), end="")
