"""The rule labeler of chest reports against the MeSH headings that indexers gave the same reports (Open-i).

A report is its findings and impression. Gold is `engine.sources.labelled.chest.findings_of`: a finding is positive by a heading
that the map names, absent without one, and left out where the heading itself is doubtful (`Cardiomegaly/borderline`). Reports
that nobody indexed are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.evaluation.resample import Totals, precision_recall_f1
from engine.sources.labelled.chest import OPEN_I, findings_of
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.settings import options
from engine.text.chest import FINDINGS
from engine.text.chest.labeler import POSITIVE, UNSURE, label

_COLUMNS = ["report_id", "split", "findings", "impression", "mesh_major"]
_UNCODED = "No Indexing"
_ALL = "all"
# Counts of reports, for all findings together of pairs, by their column below.
_COUNTS = {"positives": "true", "stated": "stated", "right": "hits", "stated.unsure": "mentioned"}


@dataclass(frozen=True)
class _Options:
    """Settings `labeler.<name>`: the finding that is measured, or all 13 but No Finding together, and the split."""

    finding: str
    split: str = "test"


@dataclass(frozen=True)
class Labelled:
    """States by finding of each report: of the labeler and of the headings."""

    ids: Sequence[str]
    given: Sequence[dict[str, int]]
    gold: Sequence[dict[str, int]]
    folder: Path = Path()
    identity: str = "rules"


def fit(task: Task) -> Labelled:
    """The labelled reports of a split; nothing is trained."""
    split = options(_Options, task, "labeler").split
    rows = pq.read_table(task.corpus, columns=_COLUMNS, filters=[("split", "=", split)]).to_pylist()
    rows = [row for row in rows if row["mesh_major"] and _UNCODED not in row["mesh_major"]]
    if not rows:
        raise ConfigError(f"labeler.split: no report of {split} has headings")
    texts = ["\n\n".join(part for part in (row["findings"], row["impression"]) if part) for row in rows]
    given = [{name: mention.state for name, mention in label(text).items()} for text in texts]
    return Labelled([row["report_id"] for row in rows], given, [findings_of(OPEN_I, row["mesh_major"]) for row in rows])


def measure(model: Labelled, task: Task) -> Measured:
    """Counts, precision, recall and F1 of a finding; those with `.unsure` count what the labeler calls uncertain as stated.

    Raises:
        ConfigError: there is no such finding.
    """
    finding = options(_Options, task, "labeler").finding
    if finding not in (*FINDINGS, _ALL):
        raise ConfigError(f"labeler.finding: there is no '{finding}'; there are {', '.join(FINDINGS)} and {_ALL}")
    names = FINDINGS[:-1] if finding == _ALL else (finding,)
    gold = np.array([[states.get(name, 0) for name in names] for states in model.gold])
    given = np.array([[states.get(name, 0) for name in names] for states in model.given])
    known = gold != UNSURE
    true, stated, mentioned = (gold == POSITIVE) & known, (given == POSITIVE) & known, (given != 0) & known
    columns = {"true": true, "stated": stated, "hits": true & stated, "mentioned": mentioned, "reached": true & mentioned}
    totals = Totals(model.ids, {(name, _ALL): column.sum(1) for name, column in columns.items()})
    figures = precision_recall_f1("true", "stated", "hits")
    figures |= {f"{name}.unsure": each for name, each in precision_recall_f1("true", "mentioned", "reached").items()}
    estimates = totals.estimates({name: each.over([_ALL]) for name, each in figures.items()}, task.study.rounds)
    counts = [Row(name, float(columns[column].sum()), n=len(model.ids)) for name, column in _COUNTS.items()]
    counts.append(Row("left_out", float((~known).sum()), n=len(model.ids)))
    return Measured([*counts, *(Row(name, each.value, each.low, each.high, len(model.ids)) for name, each in estimates.items())])
