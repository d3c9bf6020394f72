"""Samples of rationales that templates made of lists of terms, in place of those that people marked.

An extractive one is the first sentence of a report that has a term of the label; what stands nowhere is none. An abstractive
one is a sentence made around a term, and counts only if from that sentence alone its label is the likeliest one to a head that
has not seen the report. Terms are site names where the labels are sites, and for the hallmarks of cancer those written down
here by us.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.experiments.banked import out_of_fold
from engine.experiments.rationale_sets import TASK, Span
from engine.experiments.regimes import Texts, listed
from engine.experiments.run import Result
from engine.experiments.templates import SITE_WAYS, Templates, coverage, proposal
from engine.models.site_classifier.rationales import merge_spans
from engine.storage import whole_file

if TYPE_CHECKING:
    from engine.experiments.frozen import Frozen

HALLMARKS: Mapping[str, tuple[str, ...]] = {
    "Sustaining proliferative signaling": ("proliferation", "proliferative", "growth factor", "cell growth", "mitogenic"),
    "Evading growth suppressors": (
        "cell cycle arrest",
        "tumor suppressor",
        "growth inhibition",
        "p53",
        "G1 arrest",
        "senescence",
    ),
    "Resisting cell death": ("apoptosis", "apoptotic", "cell death", "caspase", "necrosis", "autophagy"),
    "Enabling replicative immortality": ("telomerase", "telomere", "telomeres", "immortalization", "senescence"),
    "Inducing angiogenesis": ("angiogenesis", "angiogenic", "VEGF", "microvessel density", "endothelial cells"),
    "Activating invasion and metastasis": ("metastasis", "invasion", "migration", "metastatic", "invasive"),
    "Genomic instability and mutation": ("mutation", "mutations", "DNA damage", "DNA repair", "genomic instability", "adducts"),
    "Tumor promoting inflammation": ("inflammation", "inflammatory", "cytokines", "NF-kappaB", "COX-2"),
    "Cellular energetics": ("glycolysis", "glucose", "Warburg effect", "lactate", "metabolism"),
    "Avoiding immune destruction": ("immune response", "T cells", "natural killer", "immunosuppression", "regulatory T cells"),
}
_TERMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {"hoc": HALLMARKS}
_WAYS: Mapping[str, tuple[str, ...]] = {
    "tcga_silver": SITE_WAYS,
    "hoc": ("We found effects on {name}.", "The results point to {name}.", "This was accompanied by changes in {name}."),
}


@dataclass(frozen=True)
class Proposals:
    """Samples with the columns of the reports, each wording of a label once; for how many labels of reports something was asked,
    and proposed; and of the characters that people marked there the mean share which lies in the proposals (None where these have
    no place in a report)."""

    samples: pa.Table
    asked: int
    proposed: int
    human: float | None


def templates(kind: str, mode: str) -> Templates:
    """The generator for a set, by its name in `SETS`.

    Raises:
        ConfigError: there are no words for its labels.
    """
    if kind not in _WAYS:
        raise ConfigError(f"grid.regimes: there are no templates for the labels of {kind}; there are for {', '.join(_WAYS)}")
    return Templates(mode, terms=_TERMS.get(kind, {}), ways=_WAYS[kind])


def proposals(texts: Texts, by: Templates) -> Proposals:
    """What a generator proposes for the reports of train and each of their labels."""
    mine = [each for each in texts.marked if each.record_id in texts.reports]
    made: dict[str, dict[str, list[Span]]] = {}
    rows, shares, count = [], [], 0
    reports = {row["record_id"]: row for row in texts.base.to_pylist()}
    seen: set[tuple[str, str]] = set()
    for each in mine:
        for number, label in enumerate(each.labels):
            found = proposal(by, each.record_id, each.text, label)
            count += found.flaw is None
            if found.flaw is None and found.spans:
                made.setdefault(each.record_id, {})[label] = list(found.spans)
            elif found.flaw is None and (found.text, label) not in seen:
                seen.add((found.text, label))
                own = {"record_id": f"{each.record_id}#rationale{number}", "text": found.text, "kind": "rationale", "marks": None}
                rows.append({**reports[each.record_id], **own, TASK: [label] if texts.multi_label else label})
            if by.mode == "extractive" and each.spans[label]:
                shares.append(coverage(merge_spans(each.spans[label]), found.spans))
    asked = sum(len(each.labels) for each in mine)
    if by.mode == "abstractive":
        return Proposals(pa.Table.from_pylist(rows, schema=texts.base.schema), asked, count, None)
    # Those of valid and test stay as they are: a sentence that is marked there teaches nothing.
    marked = [
        replace(each, spans=made.get(each.record_id, {})) if each.record_id in texts.reports else each for each in texts.marked
    ]
    return Proposals(texts.samples("rationale", marked, marked), asked, count, float(np.mean(shares)) if shares else None)


def generated(frozen: "Frozen", head: str, mode: str, folds: int, work: Path) -> tuple[pa.Table, list[Result]]:
    """The samples of a mode that count, and what became of the proposals; what was checked is kept in `work`."""
    by = templates(frozen.kind, mode)
    found = proposals(frozen.texts, by)
    samples = found.samples
    if mode == "abstractive":
        file = work / f"generated-{head}-{by.digest[:12]}.parquet"
        if not file.is_file():
            right = pa.array(_right_alone(frozen, head, folds, samples), pa.bool_())
            with whole_file(file) as part:
                pq.write_table(pa.table({"record_id": samples["record_id"], "right": right}), part)
        kept = {row["record_id"] for row in pq.read_table(file).to_pylist() if row["right"]}
        samples = samples.filter(pa.array([name in kept for name in samples["record_id"].to_pylist()], pa.bool_()))
    told = [Result("asked", found.asked), Result("proposed", found.proposed)]
    told += [Result("distinct", len(found.samples)), Result("used", len(samples))]
    return samples, told if found.human is None else [*told, Result("human_coverage", found.human)]


def _right_alone(frozen: "Frozen", head: str, folds: int, samples: pa.Table) -> list[bool]:
    """Whether the label of each sample is the likeliest to a head that has not seen its report."""
    right = [False] * len(samples)
    told: list[Any] = samples[TASK].to_pylist()
    for _, learner, here in out_of_fold(frozen, head, folds, samples["record_id"].to_pylist()):
        probs = frozen.answered(learner, samples.take(pa.array(here))).probs
        for row, best in zip(here, probs.argmax(1), strict=True):
            right[row] = frozen.texts.labels[best] in listed(told[row])
    return right
