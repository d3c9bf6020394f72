"""What a model is trained on (Metzner et al., arXiv 2507.21302): reports, and what an arm's `data.regime` adds to them.

A share of the groups of train are the reports of every arm; the others are the pool that extra reports come from. Regimes:

    reports       nothing is added
    rationales    each rationale of the reports, as a sample of its own
    complements   for each rationale its report without it
    extra         extra reports, as many as there are rationales, or with `data.tokens` as many tokens as the rationales have
    label_only    for each rationale the name of its label
    shift         rationales whose ends move by up to `data.amount` words
    drop, replace rationales without a share `data.amount` of their words, or with other words of the reports in their place
    swap          rationales, a share `data.amount` of them under another label
    filter        the rationales that `data.rule` keeps, see `engine.studies.site_classifier.sufficiency`; with `data.random` as
                  many of each label, drawn at random
    few           `data.kept` reports stay of each of `data.classes`, the others are removed; then `data.amount` (0: all) of the
                  removed reports, or of their rationales, are added, as `data.added` says (none, rationales or reports). Where a
                  text may have several labels, a report that is removed for one of them stays for the others, and its answer for
                  that one is unknown. The reports added of the classes in `data.synthetic` are generated.
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
from engine.studies.marked_sets import Marked, Span
from engine.text.units import words

TASK = "label"
REGIMES = ("reports", "rationales", "complements", "extra", "label_only", "shift", "drop", "replace", "swap", "filter", "few")
_NOISE = ("shift", "drop", "replace", "swap")
_ADDED = ("none", "rationales", "reports")


@dataclass(frozen=True)
class Regime:
    """The settings `data.*` that choose what is added; see the module."""

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
        share: of the groups of train whose texts are the reports of every arm.
        count: tokens of each text.
    Raises:
        ConfigError: a split has no texts.
    """

    def __init__(
        self, marked: Sequence[Marked], multi_label: bool, share: float, count: Callable[[list[str]], Sequence[int]]
    ) -> None:
        self.marked, self.multi_label, self._count = list(marked), multi_label, count
        for split in (TRAIN, VALID, TEST):
            if not any(each.split == split for each in marked):
                raise ConfigError(f"data.path: the set has no text of {split}")
        groups = sorted({each.group for each in marked if each.split == TRAIN}, key=lambda group: seed_of(group, "half"))
        chosen = set(groups[: max(1, round(share * len(groups)))])
        self.reports = {each.record_id for each in marked if each.split == TRAIN and each.group in chosen}
        self.labels = tuple(sorted({label for each in marked for label in each.labels}))
        self.test = [each for each in marked if each.split == TEST]

    @cached_property
    def base(self) -> pa.Table:
        """The reports of every arm."""
        return self.examples([each for each in self.marked if each.record_id in self.reports])

    @cached_property
    def pool(self) -> pa.Table:
        """The other texts of train."""
        return self.examples([each for each in self.marked if each.split == TRAIN and each.record_id not in self.reports])

    @cached_property
    def valid(self) -> pa.Table:
        return self.examples([each for each in self.marked if each.split == VALID])

    @cached_property
    def complements(self) -> pa.Table:
        """The texts of test without anything that was marked in them."""
        texts = [Rationale(merge_spans(each.marks)).complement(each.text) if each.marks else each.text for each in self.test]
        return with_columns(self.examples(self.test), text=[text if text.strip() else "." for text in texts])

    @cached_property
    def rationales(self) -> pa.Table:
        """The rationales of the reports as samples."""
        return self.samples("rationale", self.marked)

    def examples(self, marked: Sequence[Marked]) -> pa.Table:
        """Texts with their labels and marks. With several labels a text, one without any teaches a no to every label."""
        label, count = pa.list_(pa.string()) if self.multi_label else pa.string(), len(marked)
        columns = {
            "record_id": [each.record_id for each in marked],
            "source": [""] * count,
            "text": [each.text for each in marked],
            "split": [each.split for each in marked],
            "group": [each.group for each in marked],
            "kind": ["real"] * count,
            "leak": pa.array([False] * count, pa.bool_()),
            "pair": [each.question for each in marked],
            "marks": pa.array([_marks(each) or None for each in marked], MARKS),
            "unknown": pa.nulls(count, CODES),
            TASK: pa.array([list(each.labels) if self.multi_label else each.labels[0] for each in marked], label),
        }
        return pa.table({name: pa.array(values, pa.string()) if isinstance(values, list) else values
                         for name, values in columns.items()})  # fmt: skip

    def samples(self, kind: str, marked: Sequence[Marked]) -> pa.Table:
        """The samples of one kind (`rationale` or `complement`) of the reports among these texts.

        In a text with several labels a rationale teaches every label that people gave to a part of it and no other one, since
        people read every sentence for every label. A complement teaches what its report does.
        """
        examples = self.examples([each for each in marked if each.split != TRAIN or each.record_id in self.reports])
        sampler = Sampler((kind,), {TASK: self.multi_label}, {TASK: set(codes(examples[TASK]))}, held_out_words(examples))
        samples, _ = sampler.samples(examples)
        if not self.multi_label:
            return samples
        by_id = {each.record_id: each for each in self.marked}
        labels, seen, new = [], set(), []
        for name, text in zip(samples["record_id"].to_pylist(), samples["text"].to_pylist(), strict=True):
            report, number = origin(name)
            source = by_id[report]
            spans = rationales(_marks(source), len(source.text))[number].spans
            taught = tuple(sorted(source.labels if kind == "complement" else _labels_of(source, spans)))
            labels.append(list(taught))
            new.append((text, taught) not in seen)
            seen.add((text, taught))
        return with_columns(samples, **{TASK: labels}, unknown=[None] * len(samples)).filter(pa.array(new, pa.bool_()))

    def training(self, regime: Regime, seed: int, keep: Callable[[], Set[str]]) -> tuple[pa.Table, int]:
        """What an arm learns from: its texts of train, and the number of those that stand beside the reports.

        Args:
            keep: for `filter`: the ids of the rationales that its rule keeps.
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
            return self.samples("rationale", [self._shifted(each, int(regime.amount), seed) for each in self.marked])
        if kind == "filter":
            kept = keep()
            return samples.filter(pa.array([name in kept for name in ids], pa.bool_()))
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
        wanted = self._tokens(self.rationales) if by_tokens else len(self.rationales)
        available = self._tokens(self.pool) if by_tokens else len(self.pool)
        if available < wanted:
            unit = "tokens" if by_tokens else "texts"
            raise ConfigError(f"data.share: extra reports need {wanted} {unit} and {available} are left; give a smaller share")
        names = self.pool["record_id"].to_pylist()
        order = sorted(range(len(names)), key=lambda row: seed_of(names[row], "extra", seed))
        if by_tokens:
            sizes = self._count([self.pool["text"][row].as_py() for row in order])
            wanted = int((np.cumsum(sizes) <= wanted).sum())
        return self.pool.take(pa.array(order[:wanted], pa.int64()))

    def _tokens(self, table: pa.Table) -> int:
        return sum(self._count(table["text"].to_pylist()))

    def _shifted(self, each: Marked, most: int, seed: int) -> Marked:
        """A report with each end of each span moved by up to `most` words; at least a word of a span is left."""
        if each.record_id not in self.reports:
            return each
        generator = np.random.default_rng(seed_of(each.record_id, "shift", seed))
        start, end = words(each.text)

        def moved(span: Span) -> Span:
            first, last = int(np.searchsorted(end, span[0], "right")), int(np.searchsorted(start, span[1])) - 1
            by = generator.integers(-most, most + 1, size=2)
            first = int(np.clip(first + by[0], 0, len(start) - 1))
            return int(start[first]), int(end[int(np.clip(last + by[1], first, len(start) - 1))])

        return replace(each, spans={label: [moved(span) for span in spans] for label, spans in each.spans.items()})

    @cached_property
    def _vocabulary(self) -> list[str]:
        """Every word of the reports, as often as it occurs."""
        return [text[a:b] for text in self.base["text"].to_pylist() for a, b in zip(*words(text), strict=True)]

    def _noisy(self, text: str, regime: Regime, seed: int) -> str:
        """A text without a share of its words, or with drawn ones in their place; at least one word is left."""
        generator = np.random.default_rng(seed)
        start, end = (edge.tolist() for edge in words(text))
        hit = generator.random(len(start)) < regime.amount
        if regime.regime == "drop" and hit.all():
            hit[generator.integers(len(hit))] = False
        drawn = generator.integers(len(self._vocabulary), size=len(start))
        parts, place = [], 0
        for number, (a, b) in enumerate(zip(start, end, strict=True)):
            other = "" if regime.regime == "drop" else self._vocabulary[drawn[number]]
            parts += [text[place:a], other if hit[number] else text[a:b]]
            place = b
        return "".join([*parts, text[place:]])

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
        reports = [each for each in self.marked if each.record_id in self.reports]
        amount, unknown = int(regime.amount) or None, dict[str, list[str]]()
        added, returned = [], 0
        for label in regime.classes:
            order = sorted(
                (each.record_id for each in reports if label in each.labels), key=lambda name: seed_of(name, "kept", label, seed)
            )
            gone = order[regime.kept :]
            for name in gone:
                unknown.setdefault(name, []).append(label)
            if regime.added == "rationales":
                added.append(self._rationales_of(set(gone), label, amount, seed))
            elif regime.added == "reports" and label in regime.synthetic:
                added.append(_generated(self.base.schema, label, amount or len(gone), seed))
            elif regime.added == "reports":
                returned += len(gone[:amount])
                for name in gone[:amount]:
                    unknown[name].remove(label)
        hidden = [unknown.get(name) or None for name in self.base["record_id"].to_pylist()]
        if self.multi_label:
            base = with_columns(self.base, unknown=hidden)
        else:
            base = self.base.filter(pa.array([labels is None for labels in hidden], pa.bool_()))
        return pa.concat_tables([base, *added]), returned + sum(map(len, added))

    def _rationales_of(self, reports: Set[str], label: str, amount: int | None, seed: int) -> pa.Table:
        """Rationales of a label from some reports. Where there may be several labels, they teach this one alone."""
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
    """The report of a sample, and the number of the rationale in it."""
    report, _, rest = sample.rpartition("#")
    return report, int(rest.lstrip("abcdefghijklmnopqrstuvwxyz"))


def with_columns(table: pa.Table, **columns: Sequence[Any]) -> pa.Table:
    """The table with other values in some columns, of the same types."""
    for name, values in columns.items():
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return table


def listed(label: Any) -> list[str]:
    """A row's labels, whether it has one or a list."""
    return label if isinstance(label, list) else [label]


def _marks(each: Marked) -> list[Mapping[str, Any]]:
    return [{"start": a, "end": b, "label": label, "annotator": None} for label, spans in each.spans.items() for a, b in spans]


def _labels_of(each: Marked, spans: Sequence[Span]) -> list[str]:
    """The labels for which some part of the spans was marked."""
    return [
        label for label, marked in each.spans.items() if any(a < end and start < b for a, b in marked for start, end in spans)
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
    same = {"source": "synthetic", "split": TRAIN, "kind": "synthetic", "leak": False, TASK: site}
    named = [{**same, "record_id": row["record_id"], "group": row["record_id"], "text": row["text"]} for row in rows]
    return pa.Table.from_pylist(named, schema=schema)
