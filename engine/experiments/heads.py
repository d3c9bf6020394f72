"""The heads of a checkpoint beside each other, in answers and in evidence: which one should answer where none is asked for.

The weights of all learned on train alone, so the choice is made on valid, and test says what it is worth. (The temperature,
threshold and method of evidence of each were settled on valid; they change no code, and coverage by that method a little.) A
rival takes the place of the first head only if it is no worse in accuracy and in coverage, both as they stand; the interval of
each difference, over patients, says how sure that is. Evidence is compared where a head gives the marked label: for another label
a mark is no reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.evaluation.rationales import MEASURES, RANDOM
from engine.evaluation.resample import Totals, ratio
from engine.experiments.frozen import no_repeats
from engine.experiments.rationale_sets import SETS, Marked, kind_of, marked_digest, read_marked
from engine.experiments.rationales import drawn, flags, means, prepared_texts, quality, scored
from engine.experiments.run import Arm, Result, Say
from engine.explain.methods import METHODS
from engine.models.columns import matrix
from engine.models.site_classifier.checkpoint import read_checkpoint

if TYPE_CHECKING:
    from engine.models.site_classifier.attributable import SiteExplainable

VALID, TEST = "valid", "test"
ATTENTION, OWN = "attention", "own"
# What decides beside accuracy: of the evidence that stands in the table, not of attention, which does not.
COVERAGE = f"{OWN}_cov_topk"
_ATTENDED = (ATTENTION, "pooling")
_TOGETHER = 24
_SYSTEM = "engine.models.site_classifier"


@dataclass(frozen=True)
class HeadsConfig:
    """What is compared.

    `path` is a set's file or folder, `model` a checkpoint with further heads, `task` the one whose codes the set's labels are.
    The first of `heads` is the one that the others are held against, and which answers if none takes its place. `records` reports
    of valid and as many of test are coded (0: all), `slow_records` of them explained, chosen by id; of each the first
    `max_tokens` are read.
    """

    path: str
    model: str = "shipped"
    heads: tuple[str, ...] = ("pooling", "dpla")
    task: str = "site"
    records: int = 0
    slow_records: int = 200
    max_tokens: int = 16384
    draws: int = 5
    rounds: int = 1000
    threads: int = 0

    def __post_init__(self) -> None:
        no_repeats("grid.heads", self.heads)
        if len(self.heads) < 2:
            raise ConfigError("grid.heads: name at least two heads; the others are held against the first")


class Heads:
    """See `engine.experiments.run.Experiment`. Arms: each head on a split, and each of the others against the first there."""

    name = "rationale/heads"

    def __init__(self, config: HeadsConfig) -> None:
        self.config = config
        if SETS[kind_of(config.path)].multi_label:
            raise ConfigError("data.path: this experiment wants a set with one label a text, such as pathology_tcga")

    def settings(self) -> Mapping[str, Any]:
        values = {name: value for name, value in asdict(self.config).items() if name not in ("path", "model", "threads")}
        models = {head: read_checkpoint(self.config.model, head) for head in self.config.heads}
        for head, each in models.items():
            if each.evidence_method not in (*METHODS, *_ATTENDED):
                method = each.evidence_method
                raise ConfigError(f"model.path: the head {head} explains itself by {method}, which is not compared here")
        for split in (VALID, TEST):
            self._texts(split)
        digests = {head: each.digest for head, each in models.items()}
        return {**values, "data_sha256": marked_digest(self.config.path), "model_digests": digests}

    def arms(self) -> Sequence[Arm]:
        first, *others = self.config.heads
        found = []
        for split in (VALID, TEST):
            found += [Arm(f"{split}-{head}") for head in self.config.heads]
            found += [Arm(f"{split}-{head}-against-{first}") for head in others]
        return found

    def measure(self, arm: Arm, work: Path, say: Say) -> Sequence[Result]:
        split, head, *against = arm.name.split("-")
        if against:
            sides = (pq.read_table(work / f"{split}-{each}.parquet") for each in (head, against[-1]))
            return differences(*sides, self.config.rounds, chosen=split == VALID)
        return self._measured(split, head, work, say)

    @cached_property
    def _marked(self) -> Sequence[Marked]:
        return read_marked(self.config.path)

    def _texts(self, split: str) -> list[Marked]:
        mine = [each for each in self._marked if each.split == split]
        if not mine:
            raise ConfigError(f"data.path: no report of {split}; heads are chosen on valid and told on test")
        return [mine[number] for number in drawn([each.record_id for each in mine], self.config.records, 0)]

    def _loaded(self, head: str) -> "SiteExplainable":
        from engine.models.base import ModelSpec
        from engine.models.site_classifier import load
        from engine.models.site_classifier.attributable import SiteExplainable

        options = {"method": "none", "tasks": (), "precision": "fp32", "max_tokens": self.config.max_tokens, "head": head}
        spec = ModelSpec(_SYSTEM, self.config.model, options, {"threads": self.config.threads})
        return SiteExplainable(load(spec), self.config.task)

    def _measured(self, split: str, head: str, work: Path, say: Say) -> list[Result]:
        texts, model = self._texts(split), self._loaded(head)
        explained = set(drawn([each.record_id for each in texts], self.config.slow_records, 1))
        given, scores = [], {}
        for start in range(0, len(texts), _TOGETHER):
            say(f"{split}, {head}: {start} of {len(texts)} reports")
            part = texts[start : start + _TOGETHER]
            codes, found = self._part(model, part, [place for place in range(len(part)) if start + place in explained])
            given += codes
            scores |= {start + place: each for place, each in found.items()}
        groups = [each.group for each in texts]
        labels = sorted({*given, *(each.labels[0] for each in texts)})
        gold = flags([each.labels for each in texts], labels)
        results = quality(gold, flags([[code] for code in given], labels), groups, self.config.rounds)
        for method in (OWN, ATTENTION):
            mine = [scores[number][method] for number in sorted(scores)]
            results += means(method, mine, [groups[number] for number in sorted(scores)], self.config.rounds)
        table = self._table(texts, given, scores)
        pq.write_table(table, work / f"{split}-{head}.parquet")
        return results

    def _part(
        self, model: "SiteExplainable", texts: Sequence[Marked], places: Sequence[int]
    ) -> tuple[list[str], dict[int, dict[str, Mapping[str, float] | None]]]:
        """The codes of some reports, and of those at `places`, where the code is the marked label, how the evidence for it agrees
        with the marks, by method."""
        from engine.explain.explain import explained, work_for
        from engine.explain.settings import Settings
        from engine.models.code_explainable import reports

        coder = model.system
        prepared = prepared_texts(coder, texts)
        best = matrix(coder.scores(prepared)[f"{model.name}_logits"]).argmax(-1)
        codes = [model.labels[number] for number in best]
        asked = [place for place in places if texts[place].labels[0] == codes[place]]
        if not asked:
            return codes, {}
        some = model.take(reports(prepared), asked)
        settings = Settings(tokens_per_pass=coder.budget, residual=False)
        work = work_for(model, some, model.targets([texts[place].labels[0] for place in asked]), settings)
        found: dict[int, dict[str, Mapping[str, float] | None]] = {place: {} for place in asked}
        for name, method in ((OWN, coder.checkpoint.evidence_method), (ATTENTION, ATTENTION)):
            for place, each in zip(asked, explained(work, method), strict=True):
                text, label = texts[place], texts[place].labels[0]
                seeds = (text.record_id, label)
                found[place][name] = scored(each, text.spans[label], len(text.text), seeds, self.config.draws)
        return codes, found

    def _table(self, texts: Sequence[Marked], given: Sequence[str], scores: Mapping[int, Any]) -> pa.Table:
        """What the comparison of two heads needs, a row a report."""
        rows = []
        for number, (each, code) in enumerate(zip(texts, given, strict=True)):
            row = {"record_id": each.record_id, "group": each.group, "right": float(code == each.labels[0])}
            for method in (OWN, ATTENTION):
                measures = scores.get(number, {}).get(method) or {}
                row |= {f"{method}_{name}": measures.get(name) for name in MEASURES}
                row |= {f"{method}_{name}_gain": _less(measures.get(name), measures.get(f"{RANDOM}{name}")) for name in MEASURES}
            rows.append(row)
        strings = [("record_id", pa.string()), ("group", pa.string())]
        return pa.Table.from_pylist(rows, schema=pa.schema(strings + [(name, pa.float64()) for name in list(rows[0])[2:]]))


def differences(ours: pa.Table, theirs: pa.Table, rounds: int, chosen: bool) -> list[Result]:
    """The mean difference, report by report, of every figure that both have.

    Args:
        chosen: whether these are the reports on which the choice is made.
    """
    groups, found = ours["group"].to_pylist(), []
    for name in ours.column_names[2:]:
        gap = ours[name].to_numpy(zero_copy_only=False) - theirs[name].to_numpy(zero_copy_only=False)
        there = ~np.isnan(gap)
        if there.any():
            kept = [group for group, yes in zip(groups, there, strict=True) if yes]
            totals = Totals(kept, {"gap": gap[there], "n": np.ones(int(there.sum()))})
            each = totals.estimates({"gap": ratio("gap", "n")}, rounds)["gap"]
            found.append(Result(f"{name}_difference", each.value, each.low, each.high, int(there.sum())))
    told = {each.metric: each.value or 0.0 for each in found}
    takes = all(told.get(f"{name}_difference", -1.0) >= 0 for name in ("right", COVERAGE))
    verdict = [Result("takes_the_place", float(takes), n=len(ours), note="1: no worse in accuracy and in coverage")]
    return [*verdict, *found] if chosen else found


def _less(value: float | None, control: float | None) -> float | None:
    return None if value is None or control is None else value - control
