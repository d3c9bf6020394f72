"""The input of a finished run, read again by a run that comes after it."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import InputChanged
from engine.pipeline import plan
from engine.pipeline.layout import Layout
from engine.sources import InputConfig, input_base, survey
from engine.storage import Entry, is_s3, storage_for


def input_of(run: str, reading: Mapping[str, Any], path: str | None = None) -> tuple[InputConfig, list[Entry] | None]:
    """A run's input settings, and the files of its plan where they are now; None in place of files for other reports.

    Args:
        run: the run's folder. reading: its settings of `InputConfig` without the path. path: where the reports are now, or other
            reports; None is where the run read them.
    Raises:
        InputChanged: a file that the run read is gone or has changed.
    """
    storage, layout = storage_for(run), Layout(run)
    planned = plan.read(storage, layout).bases[-1]
    if path is not None:
        config = InputConfig(**{**reading, "path": path})
        for base in (input_base(config), planned):
            files = plan.files(storage, layout, base)
            if set(files) <= set(survey(config, storage_for(base), {entry.path for entry in files}).files):
                return InputConfig(**{**reading, "path": base}), files
        return config, None
    files = plan.files(storage, layout, planned)
    changed = _changed(planned, files)
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputChanged(
            f"input.path: {changed[0].path}{more} is gone or changed since the run read it; restore it, or name the reports "
            "where they lie now"
        )
    return InputConfig(**{**reading, "path": planned}), files


def _changed(base: str, files: Sequence[Entry]) -> list[Entry]:
    """The files below a folder that are not as they were planned."""
    storage = storage_for(base)
    if not is_s3(base):
        return [entry for entry in files if storage.stat(entry.path) != entry]
    # On S3 one listing is faster than a request for each file.
    entries = {entry.path: entry for entry in storage.list(base)}
    return [entry for entry in files if entries.get(entry.path) != entry]
