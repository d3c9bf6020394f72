"""Training sets of reports and the texts that an arm's `data.regime` adds to them (Metzner et al., arXiv 2507.21302).

Every arm has the same reports: those of a share of the groups of train. The remaining texts of train are the pool, from which
extra reports come. Regimes:

    reports       nothing is added
    rationales    each rationale of the reports, as a sample of its own
    complements   for each rationale, its report without it
    extra         extra reports, as many as there are rationales, or with `data.tokens` as many tokens as the rationales have
    label_only    for each rationale, the name of its label
    shift         rationales whose ends move by up to `data.amount` words
    drop, replace rationales in which a share `data.amount` of the words is removed, or replaced by other words of the reports
    swap          rationales, a share `data.amount` of them with another label
    filter        the rationales that `data.rule` keeps, see `engine.studies.site_classifier.sufficiency`; with `data.random`, the
                  same number for each label, drawn at random
    few           `data.kept` reports of each of `data.classes` stay, and the others are removed. Then `data.added` (none,
                  rationales or reports) of the removed reports are added, `data.amount` of them (0: all). Where a text may have
                  several labels, a report that is removed for one label stays for the others, and this label of it is unknown.
                  For classes in `data.synthetic`, the added reports are generated.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.models.code_corpus import codes
from engine.models.site_classifier.rationales import Rationale, Sampler, held_out_words, merge_spans, rationales
from engine.records import seed_of
from engine.sources.labelled.splits import TEST, TRAIN, VALID
from engine.sources.labelled.values import CODES, MARKS
from engine.studies.marked_sets import MarkedText, Span
from engine.text.units import words

TASK = "label"
REGIMES = ("reports", "rationales", "complements", "extra", "label_only", "shift", "drop", "replace", "swap", "filter", "few")
_NOISE = ("shift", "drop", "replace", "swap")
_ADDED = ("none", "rationales", "reports")


@dataclass(frozen=True)
class Regime:
    """The settings `data.*` of a regime; see the module."""

    regime: str = "reports"
    amount: float = 0.0
    tokens: bool = False
    rule: str = ""
    random: bool = False
    folds: int = 5
    classes: tuple[str, ...] = ()
    kept: int = 0
    added: str = "none"
    synthetic: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.regime not in REGIMES:
            raise ConfigError(f"data.regime: '{self.regime}' is none of {', '.join(REGIMES)}")
        if self.regime in _NOISE and not 0 < self.amount <= (1 if self.regime != "shift" else 1000):
            raise ConfigError(f"data.amount: {self.regime} needs a number of words, or a share above 0 and up to 1")
        if self.regime == "few" and (self.added not in _ADDED or not self.classes):
            raise ConfigError(f"data.added, data.classes: name classes, and one of {', '.join(_ADDED)}")


class Texts:
    """Marked texts as examples, with the columns of `engine.models.site_classifier.corpus.ReportSurvey.examples`.

    Args:
        share: share of the groups of train whose texts are the reports of every arm.
        count: function that counts the tokens of each text.
    Raises:
        ConfigError: a split has no texts.
    """

    def __init__(
        self, marked: Sequence[MarkedText], multi_label: bool, share: float, count: Callable[[list[str]], Sequence[int]]
    ) -> None:
        self.marked, self.multi_label, self._count = list(marked), multi_label, count
        for split in (TRAIN, VALID, TEST):
            if not any(item.split == split for item in marked):
                raise ConfigError(f"data.path: the set has no text of {split}")
        groups = sorted({item.group for item in marked if item.split == TRAIN}, key=lambda group: seed_of(group, "half"))
        chosen = set(groups[: max(1, round(share * len(groups)))])
        self.reports = {item.record_id for item in marked if item.split == TRAIN and item.group in chosen}
        self.labels = tuple(sorted({label for item in marked for label in item.labels}))
        self.test = [item for item in marked if item.split == TEST]

    @cached_property
    def base(self) -> pa.Table:
        """The reports of every arm."""
        return self.examples([item for item in self.marked if item.record_id in self.reports])

    @cached_property
    def pool(self) -> pa.Table:
        """The other texts of train."""
        return self.examples([item for item in self.marked if item.split == TRAIN and item.record_id not in self.reports])

    @cached_property
    def valid(self) -> pa.Table:
        return self.examples([item for item in self.marked if item.split == VALID])

    @cached_property
    def complements(self) -> pa.Table:
        """The texts of test without their marked spans."""
        texts = [Rationale(merge_spans(item.marks)).complement(item.text) if item.marks else item.text for item in self.test]
        return with_columns(self.examples(self.test), text=[text if text.strip() else "." for text in texts])

    @cached_property
    def rationales(self) -> pa.Table:
        """The rationales of the reports as samples."""
        return self.samples("rationale", self.marked)

    def examples(self, marked: Sequence[MarkedText]) -> pa.Table:
        """Texts with their labels and marks. In a multi-label set, a text without labels is a negative example of every label."""
        label, count = pa.list_(pa.string()) if self.multi_label else pa.string(), len(marked)
        columns = {
            "record_id": [item.record_id for item in marked],
            "source": [""] * count,
            "text": [item.text for item in marked],
            "split": [item.split for item in marked],
            "group": [item.group for item in marked],
            "kind": ["real"] * count,
            "leak": pa.array([False] * count, pa.bool_()),
            "pair": [item.question for item in marked],
            "marks": pa.array([_marks(item) or None for item in marked], MARKS),
            "unknown": pa.nulls(count, CODES),
            TASK: pa.array([list(item.labels) if self.multi_label else item.labels[0] for item in marked], label),
        }
        return pa.table({name: pa.array(values, pa.string()) if isinstance(values, list) else values
                         for name, values in columns.items()})  # fmt: skip

    def samples(self, kind: str, marked: Sequence[MarkedText]) -> pa.Table:
        """The samples of one kind (`rationale` or `complement`) from the reports among these texts.

        In a multi-label set, a rationale has every label for which people marked a part of it. It is a negative example of the
        other labels, since people read every sentence for every label. A complement has the labels of its report.
        """
        examples = self.examples([item for item in marked if item.split != TRAIN or item.record_id in self.reports])
        sampler = Sampler((kind,), {TASK: self.multi_label}, {TASK: set(codes(examples[TASK]))}, held_out_words(examples))
        samples, _ = sampler.samples(examples)
        if not self.multi_label:
            return samples
        by_id = {item.record_id: item for item in self.marked}
        sample_labels, seen, new = [], set(), []
        for name, text in zip(samples["record_id"].to_pylist(), samples["text"].to_pylist(), strict=True):
            report, number = origin(name)
            source = by_id[report]
            spans = rationales(_marks(source), len(source.text))[number].spans
            labels = tuple(sorted(source.labels if kind == "complement" else _labels_of(source, spans)))
            sample_labels.append(list(labels))
            new.append((text, labels) not in seen)
            seen.add((text, labels))
        return with_columns(samples, **{TASK: sample_labels}, unknown=[None] * len(samples)).filter(pa.array(new, pa.bool_()))

    def training(self, regime: Regime, seed: int, keep: Callable[[], Set[str]]) -> tuple[pa.Table, int]:
        """The training texts of an arm, and the number of texts that the regime added to the reports.

        Args:
            keep: for `filter`: returns the ids of the rationales that the rule keeps.
        Raises:
            ConfigError: the pool has fewer reports or tokens than `extra` needs.
        """
        if regime.regime == "few":
            return self._few(regime, seed)
        added = self._added(regime, seed, keep)
        return pa.concat_tables([self.base, added]), len(added)

    def _added(self, regime: Regime, seed: int, keep: Callable[[], Set[str]]) -> pa.Table:
        kind, samples = regime.regime, self.rationales
        ids, labels = samples["record_id"].to_pylist(), samples[TASK].to_pylist()
        if kind == "reports":
            return self.base.slice(0, 0)
        if kind == "complements":
            return self.samples("complement", self.marked)
        if kind == "extra":
            return self._extra(regime.tokens, seed)
        if kind == "shift":
            return self.samples("rationale", [self._shifted(item, int(regime.amount), seed) for item in self.marked])
        if kind == "filter":
            kept_ids = keep()
            return samples.filter(pa.array([name in kept_ids for name in ids], pa.bool_()))
        if kind == "label_only":
            return with_columns(samples, text=[" ".join(listed(label)) for label in labels])
        if kind in ("drop", "replace"):
            texts = zip(ids, samples["text"].to_pylist(), strict=True)
            return with_columns(samples, text=[self._noisy(text, regime, seed_of(name, kind, seed)) for name, text in texts])
        if kind == "swap":
            swapped = [
                self._swapped(label, regime.amount, seed_of(name, "swap", seed)) for name, label in zip(ids, labels, strict=True)
            ]
            return with_columns(samples, **{TASK: swapped})
        return samples

    def _extra(self, by_tokens: bool, seed: int) -> pa.Table:
        needed = self._tokens(self.rationales) if by_tokens else len(self.rationales)
        available = self._tokens(self.pool) if by_tokens else len(self.pool)
        if available < needed:
            unit = "tokens" if by_tokens else "texts"
            raise ConfigError(f"data.share: extra reports need {needed} {unit} and {available} are left; give a smaller share")
        names = self.pool["record_id"].to_pylist()
        order = sorted(range(len(names)), key=lambda row: seed_of(names[row], "extra", seed))
        if by_tokens:
            sizes = self._count([self.pool["text"][row].as_py() for row in order])
            order = order[: int((np.cumsum(sizes) <= needed).sum())]
            return self.pool.take(pa.array(order, pa.int64()))
        return self.pool.take(pa.array(order[:needed], pa.int64()))

    def _tokens(self, table: pa.Table) -> int:
        return sum(self._count(table["text"].to_pylist()))

    def _shifted(self, report: MarkedText, most: int, seed: int) -> MarkedText:
        """A report with both ends of each span moved by up to `most` words; at least one word remains in a span."""
        if report.record_id not in self.reports:
            return report
        generator = np.random.default_rng(seed_of(report.record_id, "shift", seed))
        start, end = words(report.text)

        def moved(span: Span) -> Span:
            first, last = int(np.searchsorted(end, span[0], "right")), int(np.searchsorted(start, span[1])) - 1
            by = generator.integers(-most, most + 1, size=2)
            first = int(np.clip(first + by[0], 0, len(start) - 1))
            return int(start[first]), int(end[int(np.clip(last + by[1], first, len(start) - 1))])

        return replace(report, spans={label: [moved(span) for span in spans] for label, spans in report.spans.items()})

    @cached_property
    def _vocabulary(self) -> list[str]:
        """The words of the reports, with repetitions."""
        return [text[a:b] for text in self.base["text"].to_pylist() for a, b in zip(*words(text), strict=True)]

    def _noisy(self, text: str, regime: Regime, seed: int) -> str:
        """A text in which a share of the words is removed, or replaced by drawn words; at least one word remains."""
        generator = np.random.default_rng(seed)
        start, end = (edge.tolist() for edge in words(text))
        hit = generator.random(len(start)) < regime.amount
        if regime.regime == "drop" and hit.all():
            hit[generator.integers(len(hit))] = False
        drawn = generator.integers(len(self._vocabulary), size=len(start))
        parts, position = [], 0
        for number, (a, b) in enumerate(zip(start, end, strict=True)):
            other = "" if regime.regime == "drop" else self._vocabulary[drawn[number]]
            parts += [text[position:a], other if hit[number] else text[a:b]]
            position = b
        return "".join([*parts, text[position:]])

    def _swapped(self, label: Any, share: float, seed: int) -> Any:
        generator = np.random.default_rng(seed)
        if generator.random() >= share:
            return label
        others = [other for other in self.labels if other not in listed(label)]
        other = others[generator.integers(len(others))] if others else None
        return label if other is None else [other] if self.multi_label else other

    def _few(self, regime: Regime, seed: int) -> tuple[pa.Table, int]:
        unknown_classes = [label for label in regime.classes if label not in self.labels]
        if unknown_classes:
            raise ConfigError(f"data.classes: the set has no label '{unknown_classes[0]}'; it has {', '.join(self.labels)}")
        reports = [item for item in self.marked if item.record_id in self.reports]
        amount, unknown = int(regime.amount) or None, dict[str, list[str]]()
        added, returned = [], 0
        for label in regime.classes:
            order = sorted(
                (item.record_id for item in reports if label in item.labels),
                key=lambda name: seed_of(name, "kept", label, seed),
            )
            removed = order[regime.kept :]
            for name in removed:
                unknown.setdefault(name, []).append(label)
            if regime.added == "rationales":
                added.append(self._rationales_of(set(removed), label, amount, seed))
            elif regime.added == "reports" and label in regime.synthetic:
                added.append(_generated(self.base.schema, label, amount or len(removed), seed))
            elif regime.added == "reports":
                returned += len(removed[:amount])
                for name in removed[:amount]:
                    unknown[name].remove(label)
        unknown_labels = [unknown.get(name) or None for name in self.base["record_id"].to_pylist()]
        if self.multi_label:
            base = with_columns(self.base, unknown=unknown_labels)
        else:
            base = self.base.filter(pa.array([labels is None for labels in unknown_labels], pa.bool_()))
        return pa.concat_tables([base, *added]), returned + sum(map(len, added))

    def _rationales_of(self, reports: Set[str], label: str, amount: int | None, seed: int) -> pa.Table:
        """Rationales of a label from these reports. In a multi-label set, all other labels of the samples are unknown."""
        names, labels = self.rationales["record_id"].to_pylist(), self.rationales[TASK].to_pylist()
        rows = [row for row, name in enumerate(names) if origin(name)[0] in reports and label in listed(labels[row])]
        rows.sort(key=lambda row: seed_of(names[row], "added", label, seed))
        samples = self.rationales.take(pa.array(rows[:amount], pa.int64()))
        if not self.multi_label:
            return samples
        others = [other for other in self.labels if other != label]
        ids = [f"{name}-{label}" for name in samples["record_id"].to_pylist()]
        return with_columns(samples, record_id=ids, unknown=[others] * len(samples))


def origin(sample: str) -> tuple[str, int]:
    """The id of a sample's report, and the number of the rationale in that report."""
    report, _, rest = sample.rpartition("#")
    return report, int(rest.lstrip("abcdefghijklmnopqrstuvwxyz"))


def with_columns(table: pa.Table, **columns: Sequence[Any]) -> pa.Table:
    """The table with new values in the given columns, of the same types."""
    for name, values in columns.items():
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return table


def listed(label: Any) -> list[str]:
    """The labels of a row as a list, whether it has one label or several."""
    return label if isinstance(label, list) else [label]


def _marks(marked: MarkedText) -> list[Mapping[str, Any]]:
    return [{"start": a, "end": b, "label": label, "annotator": None} for label, spans in marked.spans.items() for a, b in spans]


def _labels_of(text: MarkedText, spans: Sequence[Span]) -> list[str]:
    """The labels for which a part of the spans was marked."""
    return [
        label for label, marked in text.spans.items() if any(a < end and start < b for a, b in marked for start, end in spans)
    ]


def _generated(schema: pa.Schema, site: str, count: int, seed: int) -> pa.Table:
    """Synthetic reports of one site as examples of train.

    Raises:
        ConfigError: no synthetic report has the site.
    """
    from engine.sources.synthetic import generate

    size, rows = max(400, 16 * count), list[Mapping[str, Any]]()
    while len(rows) < count:
        table = generate(size, seed, skew="uniform").select(["record_id", "text", "site"])
        rows = [row for row in table.to_pylist() if row["site"] == site][:count]
        if not rows:
            raise ConfigError(f"data.synthetic: no synthetic report has the site {site}; leave it out")
        size *= 2
    common = {"source": "synthetic", "split": TRAIN, "kind": "synthetic", "leak": False, TASK: site}
    examples = [{**common, "record_id": row["record_id"], "group": row["record_id"], "text": row["text"]} for row in rows]
    return pa.Table.from_pylist(examples, schema=schema)
