"""Settings of an arm, `<part>.<name>`, as a dataclass of the fit or measure that reads them."""

from dataclasses import MISSING, fields
from typing import Any, TypeVar

from engine.errors import ConfigError
from engine.studies.run import Task

T = TypeVar("T")


def options(kind: type[T], task: Task, part: str, **more: Any) -> T:
    """The settings `<part>.<name>` of an arm as the dataclass `kind`; lists become tuples.

    Args:
        more: fields that no setting may name, such as a path.
    Raises:
        ConfigError: a setting is unknown, or one that is needed is missing.
    """
    declared = {each.name: each for each in fields(kind) if each.name not in more}  # type: ignore[arg-type]
    values = {name.removeprefix(f"{part}."): value for name, value in task.settings.items() if name.startswith(f"{part}.")}
    unknown = sorted(set(values) - set(declared))
    if unknown:
        raise ConfigError(
            f"study: {task.study.name}: the setting {part}.{unknown[0]} is unknown; there are {', '.join(declared)}"
        )
    needed = [name for name, each in declared.items() if each.default is MISSING and each.default_factory is MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        raise ConfigError(f"study: {task.study.name}: the setting {part}.{missing[0]} is missing")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}, **more)


def check_parts(task: Task, *allowed: str) -> None:
    """Checks that all settings belong to an allowed part, or to a measure of the study.

    Raises:
        ConfigError: a setting does not.
    """
    parts = {*allowed, *(name.rpartition(".")[2] for name in task.study.measure)}
    for name in task.settings:
        if name.partition(".")[0] not in parts:
            raise ConfigError(f"study: {task.study.name}: no fit or measure has the setting '{name}'")
