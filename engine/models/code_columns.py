"""The files and columns of labelled texts that a training reads, and the replacements for optional columns.

Without a column for the split, a hash of the patient decides it, or of the report if there is no column for the patient either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from posixpath import basename
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.keys import MISSING, key
from engine.records import seed_of
from engine.sources.base import CSV, DOUBLE, JSONL, PARQUET, QUOTING, TEXT, delimiter_of
from engine.sources.files import ENDINGS
from engine.sources.labelled import Labelled, Reader
from engine.sources.labelled.splits import TEST, TRAIN, VALID, cut
from engine.sources.labelled.table import files_at
from engine.sources.packed import plain_name
from engine.storage import Entry

SPLITS = (TRAIN, VALID, TEST)
# Columns that a table may lack under these default names; under any other name they must exist.
OPTIONAL = {"split": "split", "group": "patient_id"}
_MOST_NAMES = 40
_READ = ("id", "text", "group", "split", "labels", "multi_label", "encoding", "delimiter", "quoting", "escape")


@dataclass(frozen=True)
class CodeColumns:
    """The path of labelled texts, and their columns; `further` are the keys of a system's own columns."""

    further: ClassVar[Sequence[str]] = ()

    path: str = key(
        MISSING,
        "Labelled reports: a Parquet, CSV or JSONL file, a folder or a glob, with columns for id, text and codes, "
        "and ideally for patient and split. A threshold for coding without a person needs at least 203 reports in "
        "the validation set.",
        path=True,
    )
    id: str = key("record_id", "Column with the reports' ids; they seed the sampling of windows and masks.")
    text: str = key("text", "Column with the text.")
    split: str | None = key("split", "Column with train, valid or test; without it, or with null, a hash of data.group decides.")
    group: str | None = key(
        "patient_id",
        "Column whose values must not cross splits; without it, or with null, each report counts as its own patient.",
    )
    labels: Mapping[str, str] = key({}, "Column with the right code, by task, such as {site: site_code}.")
    multi_label: tuple[str, ...] = key(
        (), "Tasks whose column holds a list of codes; the model then decides yes or no for each code."
    )


@dataclass(frozen=True)
class CodeData(CodeColumns):
    """The same, and how to read them; for CSV see `engine.sources.InputConfig`."""

    held: int = key(
        8192,
        "Training examples in memory at a time, over all workers; these are shuffled together, and the rest is on disk.",
        low=1,
    )
    cut_share: float = key(
        0.1,
        "If no column gives the split: the share that becomes the test set, and the share of the rest that "
        "becomes the validation set.",
        low=0.01,
        high=0.5,
    )
    encoding: str = key("utf-8", "Encoding of CSV and JSONL files.")
    delimiter: str | None = key(None, "Separator of CSV columns; null is a comma, and a tab in .tsv files. \\t is a tab.")
    quoting: str = key(DOUBLE, "Quotes in CSV, as in input.quoting of the jobs.", choices=QUOTING)
    escape: str | None = key(None, "Character that makes a following quote, delimiter or line end part of a CSV column.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "delimiter", delimiter_of(self.delimiter))
        if not 0 < self.cut_share < 1:
            raise ConfigError("data.cut_share: must lie between 0 and 1")

    def labelled(self, path: str, format: str) -> Labelled:
        """One of the files, with the columns to read."""
        read = {key: getattr(self, key) for key in _READ}
        return Labelled(path, format=format, **read, names={key: f"data.{key}" for key in vars(self)})


def files_of(config: CodeData) -> list[Entry]:
    """The files of the input. In a folder with Parquet files all others are ignored."""
    try:
        return files_at(config.path, PARQUET)
    except ConfigError:
        files = files_at(config.path)
    if any(file.path.lower().endswith(ENDINGS[TEXT]) for file in files):
        raise ConfigError(f"data.path: {config.path} holds texts; labelled reports are tables (Parquet, CSV or JSONL)")
    return files


def reader_of(config: CodeData, file: Entry) -> tuple[Reader, tuple[str, ...]]:
    """A file of the input, and the optional columns that it lacks.

    Raises:
        ConfigError: it cannot be read, or lacks another column.
    """
    name, plain = basename(file.path), plain_name(file.path).lower()
    format = next((name for name in (CSV, JSONL) if plain.endswith(ENDINGS[name])), PARQUET)
    labelled = config.labelled(file.path, format)
    columns = labelled.schema_of(file).names
    lacking = _lacking_in(config, columns, name)
    return Reader(replace(labelled, **dict.fromkeys(lacking)), [file]), lacking


def _lacking_in(config: CodeData, columns: Sequence[str], where: str) -> tuple[str, ...]:
    """The optional columns (split, group) that a file with the columns `columns` lacks; `where` is its name for the message.

    Raises:
        ConfigError: it lacks another column; the message names the keys of the missing columns.
    """
    single = ("id", "text", "split", "group", *config.further)
    wanted = {f"data.{key}": getattr(config, key) for key in single} | {f"data.labels.{t}": c for t, c in config.labels.items()}
    lacking = {key: column for key, column in wanted.items() if column is not None and column not in columns}
    missing = {key: column for key, column in lacking.items() if OPTIONAL.get(key.removeprefix("data.")) != column}
    if missing:
        keys = ", ".join(f"{key}={column}" for key, column in missing.items())
        names = ", ".join(columns[:_MOST_NAMES]) + (", ..." if len(columns) > _MOST_NAMES else "")
        them = "name another" if len(missing) == 1 else "name others"
        more = ", or leave the task out of data.labels" if any(key.startswith("data.labels.") for key in missing) else ""
        raise ConfigError(f"{keys}: {where} has no column {', '.join(missing.values())}; {them}{more}; it has {names}")
    return tuple(name for name in OPTIONAL if getattr(config, name) is None or f"data.{name}" in lacking)


def lacking_of(config: CodeData) -> tuple[str, ...]:
    """The optional columns (split, group) that the files lack.

    Raises:
        ConfigError: some files have such a column and some have none.
    """
    lacking = {reader_of(config, file)[1] for file in files_of(config)}
    if len(lacking) > 1:
        name = next(name for name in OPTIONAL if len({name in names for names in lacking}) > 1)
        raise ConfigError(
            f"data.{name}: some files have a column {OPTIONAL[name]} and some have none; give all of them one, or none"
        )
    return lacking.pop()


def completed(rows: pa.Table, lacking: Sequence[str], share: float) -> dict[str, pa.Array]:
    """The column group, and split if it is missing. A report without a patient is its own group."""
    pairs = zip(rows["group"].to_pylist(), rows["record_id"].to_pylist(), strict=True)
    groups = [record_id if group is None else group for group, record_id in pairs]
    columns = {"group": pa.array(groups, pa.string())}
    return columns | ({"split": pa.array([cut(str(group), share) for group in groups])} if "split" in lacking else {})


def lacking_lines(config: CodeData, lacking: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    """Lines about the replacements of missing columns; `counts` of reports by split."""
    lines = []
    if "group" in lacking:
        why = f"no column {OPTIONAL['group']}" if config.group else "data.group=null"
        lines.append(
            f"{why}: every report counts as its own patient; if patients have several reports, name their column in data.group, "
            "or the figures will be too good"
        )
    if "split" in lacking:
        why = f"no column {OPTIONAL['split']}" if config.split else "data.split=null"
        by = config.id if "group" in lacking else config.group
        cuts = ", ".join(f"{counts.get(f'real {split}', 0):,} {split}" for split in SPLITS)
        lines.append(f"{why}: a hash of {by} decides train, valid and test (data.cut_share={config.cut_share:g}): {cuts}")
    return lines


class Splits:
    """Checks that all splits are known and that no group is in two of them, with eight bytes per report."""

    def __init__(self) -> None:
        self._unknown: set[str] = set()
        self._seen: list[np.ndarray] = []

    def see(self, reports: pa.Table) -> None:
        splits = reports["split"].to_pylist()
        self._unknown |= set(splits) - set(SPLITS)
        number = {split: place for place, split in enumerate(SPLITS)}
        pairs = zip(reports["group"].to_pylist(), splits, strict=True)
        keys = [seed_of(str(group)) >> 2 << 2 | number.get(split, 3) for group, split in pairs]
        self._seen.append(np.unique(np.array(keys, np.int64)))

    def check(self) -> None:
        if self._unknown:
            raise ConfigError(f"data.split: values must be {', '.join(SPLITS)}; there are {len(self._unknown)} others")
        groups = np.unique(np.concatenate(self._seen)) >> 2 if self._seen else np.empty(0, np.int64)
        crossing = int((np.unique(groups, return_counts=True)[1] > 1).sum())
        if crossing:
            raise ConfigError(f"data.group: {crossing} groups are in more than one split; a patient must not cross splits")
