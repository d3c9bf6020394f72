"""Calibration of any system: thresholds fitted on a user's own records become a revision of its checkpoint."""

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from engine.models.base import ModelSpec, Say, calibration, load
from engine.models.checkpoint import CARD, check_new, write_revision
from engine.models.options import options_of


@dataclass(frozen=True)
class Revision:
    """The result of a calibration: `files` replace those of the checkpoint, or of its `part`.

    On the card, `title` and `about` say what was fitted and what it replaces, `lines` its effect on the labelled records.
    """

    title: str
    about: Sequence[str]
    lines: Sequence[str]
    files: Mapping[str, Any]
    part: str | None = None


def calibrate(spec: ModelSpec, settings: Any, output: str, say: Say, tell: Say) -> None:
    """Scores labelled records with the product, fits its thresholds, and writes a revision: the same weights, other decisions.

    Args:
        spec: the checkpoint, and where the model runs. settings: see `engine.models.base.Calibration`; they give the options.
        output: the folder of the revision. say: prints progress. tell: prints results, before and after.
    Raises:
        ConfigError: the folder exists, the records cannot be used or are too few, or nothing could be fitted.
    """
    check_new(output)
    options = settings.options()
    system = load(replace(spec, options=options))
    revision = pkgutil.resolve_name(calibration(spec.system).WORK)(system, settings, say, tell)
    folder = system.checkpoint.folder
    old = folder / (revision.part or "") / CARD
    card = [
        f"# Revision of {revision.title}",
        "",
        f"The weights are those of {system.digest},",
        *revision.about,
        "",
        *(f"    {line}" for line in revision.lines),
        "",
        old.read_text() if old.is_file() else "",
    ]
    digest = write_revision(output, folder, revision.files, "\n".join(card), revision.part)
    chosen = {field.metadata.get("at"): options.get(field.name) for field in fields(options_of(spec.system))}
    model = "".join(f" {at}={value}" for at, value in chosen.items() if at and at.startswith("model.") and value is not None)
    tell(f"\nRevision {digest[:12]} of {system.digest[:12]}: {output}\nTo use it: model.path={output}{model}")
