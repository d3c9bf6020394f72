"""Labelled image studies for a training: images with reports, with findings, or with both, and a split.

The labels of all studies are read first; images are read piece by piece, when they become examples.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.keys import MISSING, key
from engine.models.base import Say
from engine.models.code_columns import SPLITS, CodeData, Splits
from engine.models.image_system import ImageSystem
from engine.records import IMAGES
from engine.sources.base import delimiter_of
from engine.sources.labelled import Labelled, Reader
from engine.sources.labelled.splits import cut
from engine.text.chest import FINDINGS

_READ = ("id", "image", "study", "root", "group", "split", "encoding", "delimiter", "quoting", "escape")


@dataclass(frozen=True)
class StudyData:
    """The table of a training, its columns, and how to read it; a row is an image or, with images in lists, a study."""

    path: str = key(MISSING, "Table (Parquet, CSV or JSONL) with a row an image: reports, findings or both.", path=True)
    id: str | None = key(None, "Column with the studies' ids; with data.study its values are the ids.")
    image: str = key("image", "Column with the image: its path, or its bytes in Parquet.")
    study: str | None = key(None, "Column whose equal values make several images one study.")
    root: str | None = key(None, "Folder that the images' paths are relative to; null is the table's own.", path=True)
    report: str | None = key("report", "Column with the report; null: there are none. A study without one teaches no pair.")
    findings: str | None = key(
        "findings", "Column with lists of name and state (1 positive, 0 negative, -1 uncertain); null: see data.labels."
    )
    labels: Mapping[str, str] = key({}, "Column with the state of each finding, instead of data.findings.")
    split: str | None = key("split", "Column with train, valid or test; null: a hash of data.group decides.")
    group: str | None = key("patient_id", "Column whose values must not cross splits; null: each study is its own patient.")
    held: int = key(8192, "Training examples in memory at a time, over all workers.", low=1)
    cut_share: float = key(0.1, "Share of test, and of valid in the rest, where data.split is null.", low=0.01, high=0.5)
    encoding: str = key("utf-8", "Encoding of CSV and JSONL files.")
    delimiter: str | None = key(None, "Separator of CSV columns; null is a comma, and a tab in .tsv files. \\t is a tab.")
    quoting: str = key(CodeData.quoting, "Quotes in CSV, as in input.quoting of the jobs.")
    escape: str | None = key(None, "Character that makes a following quote, delimiter or line end part of a CSV column.")

    def __post_init__(self) -> None:
        object.__setattr__(self, "delimiter", delimiter_of(self.delimiter))

    def labelled(self, images: bool = True) -> Labelled:
        """The table as labelled records; without `images` their labels alone."""
        read = {name: getattr(self, name) for name in _READ}
        if not images:
            read |= {"image": None, "study": None, "root": None, "id": self.id or self.study}
        more = {} if self.report is None else {"report": self.report}
        names = {name: f"data.{name}" for name in vars(self)}
        return Labelled(self.path, findings=self.labels or self.findings or {}, more=more, names=names, **read)


def split_of(config: StudyData, table: pa.Table) -> pa.ChunkedArray:
    """The split of each labelled study: its own, or by a hash of its patient."""
    if config.split:
        return table["split"]
    groups = pc.coalesce(table["group"], table["record_id"]).to_pylist()
    return pa.chunked_array([pa.array([cut(name, config.cut_share) for name in groups], pa.string())])


@dataclass(frozen=True)
class Labels:
    """The labels of all studies by record id, in the order of the table: split, group, whether there is a report, and states
    [studies, findings] (1, 0, -1, NaN)."""

    ids: NDArray
    split: NDArray
    group: NDArray
    report: NDArray
    findings: tuple[str, ...]
    states: NDArray
    broken: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, config: StudyData, findings: Sequence[str] | None = None) -> "Labels":
        """Reads the labels, without the images.

        Raises:
            ConfigError: a column is missing, a split is unknown, a patient is in two of them, or nothing is left.
        """
        rows: dict[str, tuple] = {}
        splits, broken = Splits(), Counter()
        for table in Reader(config.labelled(images=False)).tables():
            failure = pc.struct_field(table["failure"], "kind").to_pylist()
            broken.update(kind for kind in failure if kind)
            table = table.filter(table["failure"].is_null())
            group = pc.coalesce(table["group"], table["record_id"])
            names = table.column_names
            split = split_of(config, table)
            splits.see(pa.table({"group": group, "split": split}))
            reports = table["report"].to_pylist() if "report" in names else [None] * len(table)
            states = table["findings"].to_pylist() if "findings" in names else [None] * len(table)
            for name, *row in zip(
                *(each.to_pylist() for each in (table["record_id"], split, group)), reports, states, strict=True
            ):
                rows.setdefault(name, tuple(row))
        splits.check()
        if not rows:
            raise ConfigError("data.path: no row can be used; check data.id, data.report and data.findings")
        stated = {each["name"] for row in rows.values() for each in row[3] or ()}
        names = tuple(
            findings if findings is not None else [*(n for n in FINDINGS if n in stated), *sorted(stated - {*FINDINGS})]
        )
        place = {name: number for number, name in enumerate(names)}
        values = np.full((len(rows), len(names)), np.nan)
        for at, row in enumerate(rows.values()):
            for each in row[3] or ():
                if each["name"] in place:
                    values[at, place[each["name"]]] = each["state"]
        split, group, report = (np.array([row[at] for row in rows.values()], object) for at in range(3))
        has = np.array([bool(each and each.strip()) for each in report])
        return cls(np.array(list(rows), object), split, group, has, names, values, broken)

    def lines(self) -> list[str]:
        """Counts for people."""
        names = ("studies", "patients", "with a report", "with findings")
        lines = [f"{split}: " + ", ".join(f"{of[name]:,} {name}" for name in names) for split, of in self.counts().items()]
        return lines + [f"{count:,} rows cannot be used: {kind}" for kind, count in self.broken.items()]

    def of(self, ids: Sequence[str]) -> NDArray:
        """The states [n, findings] of some studies."""
        return self.states[self._rows(ids)]

    def group_of(self, ids: Sequence[str]) -> NDArray:
        """The groups [n] of some studies."""
        return self.group[self._rows(ids)]

    def counts(self) -> dict[str, dict[str, int]]:
        """By split: studies, patients, reports, studies with findings, and the positives of each finding."""
        counts = {}
        for split in SPLITS:
            chosen = self.split == split
            states = self.states[chosen]
            counts[split] = {
                "studies": int(chosen.sum()),
                "patients": len(set(self.group[chosen])),
                "with a report": int(self.report[chosen].sum()),
                "with findings": int((~np.isnan(states)).any(1).sum()),
                **{name: int((column == 1).sum()) for name, column in zip(self.findings, states.T, strict=True)},
            }
        return counts

    def _rows(self, ids: Sequence[str]) -> list[int]:
        place = {name: row for row, name in enumerate(self.ids.tolist())}
        return [place[name] for name in ids]


def studies_of(system: ImageSystem, data: StudyData, split: str | None) -> Iterator[pa.Table]:
    """The prepared studies of a split that have findings, a few hundred at a time; those without a readable image are left out.

    Args:
        split: None for all.
    """
    reader = Reader(data.labelled())
    for piece in reader.pieces():
        for table in reader.read(piece):
            table = table.filter(pc.field("failure").is_null() & (pc.list_value_length(pc.field("findings")) > 0))
            if split is not None:
                table = table.filter(pc.equal(split_of(data, table), split))
            table = table.append_column("row", pa.array(range(len(table)), pa.int32()))
            prepared = system.prepare(table.select(["row", "record_id", IMAGES]))
            prepared = prepared.filter(prepared["failure"].is_null())
            if len(prepared):
                yield prepared


def features_of(system: ImageSystem, data: StudyData, split: str, say: Say) -> tuple[list[str], NDArray]:
    """The ids and the features [n, width], by the product, of the studies of a split that have findings.

    Raises:
        ConfigError: there are none.
    """
    ids, parts = [], []
    for prepared in studies_of(system, data, split):
        ids += prepared["record_id"].to_pylist()
        parts.append(system.features(prepared).float().cpu().numpy())
        say(f"{split}: read {len(ids):,} studies")
    if not ids:
        raise ConfigError(f"data.findings: no study of {split} has findings and an image that can be read")
    return ids, np.concatenate(parts)
