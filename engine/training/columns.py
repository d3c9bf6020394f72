"""Which columns of a table of reports a training reads, and what stands in for those that it can do without.

Where no column says the split, it is cut by a hash of the patient, or of the report where no column says the patient.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.records import seed_of
from engine.sources.annotated.splits import TEST, TRAIN, VALID, cut

if TYPE_CHECKING:
    from engine.training.data import DataConfig

SPLITS = (TRAIN, VALID, TEST)
# Columns that a table may lack under these names; under any other name they were asked for and must be there.
OPTIONAL = {"split": "split", "group": "patient_id"}
_MOST_NAMES = 40


def columns_of(config: "DataConfig", known: Sequence[str], where: str) -> dict[str, str]:
    """The columns to read of a file that has those `known`, by what they are for.

    Args:
        where: the file's name, for the message.
    Raises:
        ConfigError: some are missing; it names the keys that name them.
    """
    single = ("id", "text", "split", "group", "leak", "pair", "rationales")
    wanted = {f"data.{key}": getattr(config, key) for key in single} | {f"data.labels.{t}": c for t, c in config.labels.items()}
    lacking = {key: column for key, column in wanted.items() if column is not None and column not in known}
    missing = {key: column for key, column in lacking.items() if OPTIONAL.get(key.removeprefix("data.")) != column}
    if missing:
        keys = ", ".join(f"{key}={column}" for key, column in missing.items())
        names = ", ".join(known[:_MOST_NAMES]) + (", ..." if len(known) > _MOST_NAMES else "")
        them = "name another" if len(missing) == 1 else "name others"
        more = ", or leave the task out of data.labels" if any(key.startswith("data.labels.") for key in missing) else ""
        raise ConfigError(f"{keys}: {where} has no column {', '.join(missing.values())}; {them}{more}; it has {names}")
    kept = {key: column for key, column in wanted.items() if column is not None and key not in lacking}
    names = {"data.id": "record_id", "data.rationales": "marks"}
    return {names.get(key, key.rpartition(".")[2]): column for key, column in kept.items()}


def stand_ins(columns: Mapping[str, str]) -> tuple[str, ...]:
    """Of split and group those that the columns of a file, as `columns_of` gives them, do not have."""
    return tuple(name for name in OPTIONAL if name not in columns)


def completed(columns: Mapping[str, pa.ChunkedArray], share: float) -> dict[str, pa.ChunkedArray]:
    """Columns with split and group, whatever a file had of them. A report without a patient is one by itself."""
    ids = columns["record_id"].to_pylist()
    given = columns["group"].to_pylist() if "group" in columns else ids
    groups = [own if group is None else group for group, own in zip(given, ids, strict=True)]
    found = dict(columns)
    if groups != given or "group" not in columns or "split" not in columns:
        found["group"] = pa.chunked_array([groups], pa.string())
    if "split" not in columns:
        found["split"] = pa.chunked_array([[cut(str(group), share) for group in groups]], pa.string())
    return found


def told_of(config: "DataConfig", lacking: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """Lines on what stands in for columns that are not there; `counts` of reports by split."""
    lines = []
    if "group" in lacking:
        why = f"no column {OPTIONAL['group']}" if config.group else "data.group=null"
        lines.append(
            f"{why}: every report counts as a patient of its own; where patients have several reports, name their column in "
            "data.group, or the figures come out too good"
        )
    if "split" in lacking:
        why = f"no column {OPTIONAL['split']}" if config.split else "data.split=null"
        by = config.id if "group" in lacking else config.group
        cuts = ", ".join(f"{counts.get(f'real {split}', 0):,} {split}" for split in SPLITS)
        lines.append(f"{why}: train, valid and test are cut by a hash of {by} (data.cut_share={config.cut_share:g}): {cuts}")
    return lines


class Splits:
    """Sees that values are known and that no group stands in two splits, by eight bytes a report."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()
        self._seen: list[np.ndarray] = []

    def see(self, reports: pa.Table) -> None:
        splits = reports["split"].to_pylist()
        self._unknown |= set(splits) - set(SPLITS)
        number = {split: place for place, split in enumerate(SPLITS)}
        both = zip(reports["group"].to_pylist(), splits, strict=True)
        self._seen.append(
            np.unique(np.array([seed_of(str(group)) >> 2 << 2 | number.get(split, 3) for group, split in both], np.int64))
        )

    def check(self) -> None:
        if self._unknown:
            raise ConfigError(f"data.split: values must be {', '.join(SPLITS)}; found {len(self._unknown)} others")
        groups = np.unique(np.concatenate(self._seen)) >> 2 if self._seen else np.empty(0, np.int64)
        crossing = int((np.unique(groups, return_counts=True)[1] > 1).sum())
        if crossing:
            raise ConfigError(f"data.group: {crossing} groups stand in more than one split; a patient must not cross splits")
