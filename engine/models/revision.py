"""What every calibration does: what a system decides by, fitted on a user's own records, becomes a revision of its checkpoint."""

import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from engine.models.base import ModelSpec, Say, calibration, load
from engine.models.checkpoint import CARD, check_new, write_revision
from engine.models.options import options_of


@dataclass(frozen=True)
class Revision:
    """What a calibration found: `files` take the place of the checkpoint's, or of its `part`'s.

    `title` and `about` say on the card what was fitted and what that replaces, `lines` what it does to the labelled records.
    """

    title: str
    about: Sequence[str]
    lines: Sequence[str]
    files: Mapping[str, Any]
    part: str | None = None


def calibrate(spec: ModelSpec, settings: Any, output: str, say: Say, tell: Say) -> None:
    """Scores labelled records by the product, fits what it decides by, and writes a revision: the same weights, other decisions.

    Args:
        spec: the checkpoint, and where the model runs. settings: see `engine.models.base.Calibration`; they give the options.
        output: the folder of the revision. say: what is going on. tell: what comes of it, before and after.
    Raises:
        ConfigError: the folder exists, the records cannot be used or are too few, or nothing could be fitted.
    """
    check_new(output)
    options = settings.options()
    system = load(replace(spec, options=options))
    found = pkgutil.resolve_name(calibration(spec.system).WORK)(system, settings, say, tell)
    folder = system.checkpoint.folder
    old = folder / (found.part or "") / CARD
    card = [
        f"# Revision of {found.title}",
        "",
        f"The weights are those of {system.digest},",
        *found.about,
        "",
        *(f"    {line}" for line in found.lines),
        "",
        old.read_text() if old.is_file() else "",
    ]
    digest = write_revision(output, folder, found.files, "\n".join(card), found.part)
    chosen = {each.metadata.get("at"): options.get(each.name) for each in fields(options_of(spec.system))}
    model = "".join(f" {at}={value}" for at, value in chosen.items() if at and at.startswith("model.") and value is not None)
    tell(f"\nRevision {digest[:12]} of {system.digest[:12]}: {output}\nTo use it: model.path={output}{model}")
