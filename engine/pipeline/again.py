"""The input of a finished run, read again by a run that comes after it."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import InputChanged
from engine.pipeline import plan
from engine.pipeline.layout import Layout
from engine.sources import InputConfig, input_base, survey
from engine.storage import Entry, is_s3, storage_for


def input_of(run: str, reading: Mapping[str, Any], path: str | None = None) -> tuple[InputConfig, list[Entry] | None]:
    """A run's input settings, and the files of its plan where they lie now; None where other reports are to be read.

    Args:
        run: the run's folder. reading: its settings of `InputConfig` but the path. path: where the reports are now, or others;
            None is where the run read them.
    Raises:
        InputChanged: a file that the run read is gone or is another one now.
    """
    storage, layout = storage_for(run), Layout(run)
    planned = plan.read(storage, layout).bases[-1]
    if path is not None:
        given = InputConfig(**{**reading, "path": path})
        for base in (input_base(given), planned):
            files = plan.files(storage, layout, base)
            known = {entry.path for entry in files}
            if set(files) <= set(survey(given, storage_for(base), known).files):
                return InputConfig(**{**reading, "path": base}), files
        return given, None
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
    """Those of the files below a folder that are not there as they were planned."""
    storage = storage_for(base)
    if not is_s3(base):
        return [entry for entry in files if storage.stat(entry.path) != entry]
    # There a question for each file would take longer than a listing.
    there = {entry.path: entry for entry in storage.list(base)}
    return [entry for entry in files if there.get(entry.path) != entry]
