"""What a model of the rationale experiments is trained on beside its reports (Metzner et al., arXiv 2507.21302).

A share of the texts of train are the reports of every regime; from the others come the more reports. A regime is named with its
parts joined by `.`:

    reports              the reports alone
    rationales           each of their rationales as a sample of its own besides
    ratio.<x>            x rationales for each report and epoch, drawn anew
    extra                as many more reports as there are rationales; extra.tokens: as many tokens of them
    complements          in place of each rationale its report without it
    shift.<k>            rationales whose ends lie up to k words elsewhere
    drop.<x>, replace.<x>   without a share x of their words, or with other words of train in their place
    swap.<x>             a share x of them under another label
    label_only           in place of each rationale the name of its label
    filter.<rule>        those that a rule keeps (see `engine.experiments.sufficiency`): filter.drop_wrong,
                         filter.at_most.0.1, filter.top.0.25, filter.random.top.0.25
    generated.<mode>     in place of rationales that people marked those that templates make of lists of terms, extractive or
                         abstractive (`engine.experiments.generated`)
    marking              the reports alone, and a second question, which of their tokens were marked; not of a frozen encoder,
                         since it teaches token states and those do not change (see `engine.experiments.whole`)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.experiments.rationale_sets import TASK, Marked, marks, training_table
from engine.experiments.sufficiency import Rule, accepted, rule
from engine.experiments.templates import MODES
from engine.models.code_corpus import codes
from engine.models.site_classifier.rationales import Rationale, Sampler, held_out_words, merge_spans, rationales
from engine.records import seed_of
from engine.sources.labelled.values import CODES, MARKS
from engine.text.units import words

BASE = "reports"
REST = "rest"
MARKING = "marking"
PLAIN = (BASE, "rationales", "extra", "extra.tokens", "complements", "label_only")
GENERATED = tuple(f"generated.{mode}" for mode in MODES)
SHARES = ("drop", "replace", "swap")
VALUED = ("ratio", "shift", *SHARES)


@dataclass(frozen=True)
class Regime:
    """See the module."""

    kind: str
    value: float = 0.0
    rule: Rule | None = None

    @classmethod
    def of(cls, name: str) -> "Regime":
        """Raises ConfigError for a name that is none."""
        if name in (*PLAIN, *GENERATED):
            return cls(name)
        if name == MARKING:
            raise ConfigError(
                f"grid.regimes: {MARKING} teaches token states, and those of a frozen encoder do not change; leave it out here, "
                "and ask it of a model that is trained whole (learn.marking of jobs.train)"
            )
        kind, _, rest = name.partition(".")
        if kind == "filter":
            return cls(kind, rule=rule(_spelled(rest)))
        try:
            found = cls(kind, float(rest))
        except ValueError:
            found = None
        if found is None or kind not in VALUED or found.value <= 0 or (kind in SHARES and found.value > 1):
            raise ConfigError(f"grid.regimes: '{name}' is none; see the head of engine/experiments/regimes.py")
        return found


def _spelled(name: str) -> str:
    """A rule as `rule` reads it: `top.0.25` is `top(0.25)`."""
    head, _, rest = name.partition(".")
    return f"{head}({_spelled(rest) if head == 'random' else rest})" if rest else head


class Texts:
    """The texts of a set as examples, with the columns of `engine.models.site_classifier.corpus.ReportSurvey.examples`.

    Args:
        share: of the groups of train whose texts are the reports of every regime.
        count: tokens of each text.
    Raises:
        ConfigError: a split has no texts.
    """

    def __init__(
        self, marked: Sequence[Marked], multi_label: bool, share: float, count: Callable[[list[str]], Sequence[int]]
    ) -> None:
        self.marked, self.multi_label = list(marked), multi_label
        self._count = count
        for split in ("train", "valid", "test"):
            if not any(each.split == split for each in marked):
                raise ConfigError(f"data.path: the set has no text of {split}")
        groups = sorted({each.group for each in marked if each.split == "train"}, key=lambda group: seed_of(group, "half"))
        chosen = set(groups[: max(1, round(share * len(groups)))])
        self.reports = {each.record_id for each in marked if each.split == "train" and each.group in chosen}
        self.labels = tuple(sorted({label for each in marked for label in each.labels}))

    @property
    def test(self) -> list[Marked]:
        return [each for each in self.marked if each.split == "test"]

    @cached_property
    def held(self) -> pa.Table:
        """Texts of valid and test, and of test, without its own split, the texts less everything marked in them (`rest`)."""
        rests = []
        for each in self.test:
            spans = [span for some in each.spans.values() for span in some]
            text = Rationale(merge_spans(spans)).complement(each.text) if spans else each.text
            rests.append(replace(each, record_id=f"{each.record_id}#{REST}", text=text if text.strip() else ".", spans={}))
        whole = self.examples([each for each in self.marked if each.split != "train"])
        return pa.concat_tables([whole, retold(self.examples(rests), kind=[REST] * len(rests), split=[REST] * len(rests))])

    @cached_property
    def base(self) -> pa.Table:
        """The reports of every regime."""
        return self.examples([each for each in self.marked if each.record_id in self.reports])

    @cached_property
    def pool(self) -> pa.Table:
        """The texts of train that are not among the reports; they count without their marks."""
        return self.examples([each for each in self.marked if each.split == "train" and each.record_id not in self.reports])

    @cached_property
    def rationales(self) -> pa.Table:
        """The rationales of the reports as samples."""
        return self.samples("rationale", self.marked)

    def examples(self, marked: Sequence[Marked]) -> pa.Table:
        """Texts as examples, with their marks."""
        table = training_table(marked, self.multi_label)
        count = len(table)
        columns = {
            "record_id": table["record_id"],
            "source": pa.array([""] * count, pa.string()),
            "text": table["text"],
            "split": table["split"],
            "group": table["group"],
            "kind": pa.array(["real"] * count, pa.string()),
            "leak": pa.array([False] * count, pa.bool_()),
            "pair": table["question"],
            "marks": pa.array([marks(each) or None for each in marked], MARKS),
            "unknown": pa.nulls(count, CODES),
            TASK: table[TASK],
        }
        return pa.table(columns)

    def samples(self, kind: str, marked: Sequence[Marked], by: Sequence[Marked] | None = None) -> pa.Table:
        """The samples of one kind that the reports among these texts give; the marks of the texts `by` (those of the set) say for
        which labels.

        In a text with several labels a rationale teaches every label that people gave to a part of it, and no other one: people
        read every sentence for every label here. A complement teaches what its report does.
        """
        some = [each for each in marked if each.split != "train" or each.record_id in self.reports]
        examples = self.examples(some)
        sampler = Sampler((kind,), {TASK: self.multi_label}, {TASK: set(codes(examples[TASK]))}, held_out_words(examples))
        found, _ = sampler.samples(examples)
        if not self.multi_label:
            return found
        by_id = {each.record_id: each for each in by or self.marked}
        labels, seen, keep = [], set(), []
        for name, text in zip(found["record_id"].to_pylist(), found["text"].to_pylist(), strict=True):
            report, number = origin(name)
            of = by_id[report]
            spans = rationales(marks(of), len(of.text))[number].spans
            told = tuple(sorted(of.labels if kind == "complement" else _shared(of, spans)))
            labels.append(list(told))
            keep.append((text, told) not in seen)
            seen.add((text, told))
        return retold(found, **{TASK: labels}, unknown=[None] * len(found)).filter(pa.array(keep, pa.bool_()))

    def of(self, regime: Regime, seed: int, bank: pa.Table | None = None, made: pa.Table | None = None) -> pa.Table:
        """Train as the regime has it, valid, test and the rests of test.

        Args:
            bank: the scored rationales, for `filter`. made: the samples of a generator, for a regime of `GENERATED`.
        """
        besides = made if regime.kind in GENERATED else self._besides(regime, seed, bank)
        return pa.concat_tables([self.base, besides, self.held])

    def enough(self, regimes: Iterable[Regime]) -> None:
        """Raises ConfigError where a regime asks for more reports than there are."""
        kinds = {regime.kind for regime in regimes}
        for kind, unit, sizes in (("extra", "texts", len), ("extra.tokens", "tokens", self._tokens)):
            if kind in kinds and sizes(self.pool) < sizes(self.rationales):
                raise ConfigError(
                    f"grid.share: {kind} wants {sizes(self.rationales)} {unit} of more reports, as many as the rationales have, "
                    f"and {sizes(self.pool)} are left; give a smaller share"
                )

    def _tokens(self, table: pa.Table) -> int:
        return sum(self._count(table["text"].to_pylist()))

    def _besides(self, regime: Regime, seed: int, bank: pa.Table | None) -> pa.Table:
        if regime.kind in (BASE, MARKING):
            return self.base.slice(0, 0)
        if regime.kind.startswith("extra"):
            return self._extra(regime, seed)
        if regime.kind == "complements":
            return self.samples("complement", self.marked)
        if regime.kind == "shift":
            return self.samples("rationale", [self._shifted(each, int(regime.value), seed) for each in self.marked])
        found = self.rationales
        names = found["record_id"].to_pylist()
        if regime.kind == "filter":
            kept = set(bank.filter(pa.array(accepted(bank, regime.rule, seed)))["record_id"].to_pylist())
            return found.filter(pa.array([name in kept for name in names], pa.bool_()))
        if regime.kind == "label_only":
            return retold(found, text=[" ".join(listed(told)) for told in found[TASK].to_pylist()])
        if regime.kind in ("drop", "replace"):
            texts = zip(names, found["text"].to_pylist(), strict=True)
            return retold(found, text=[self._noisy(text, regime, seed_of(name, regime.kind, seed)) for name, text in texts])
        if regime.kind == "swap":
            told = zip(names, found[TASK].to_pylist(), strict=True)
            return retold(
                found, **{TASK: [self._swapped(label, regime.value, seed_of(name, "swap", seed)) for name, label in told]}
            )
        return found

    def _extra(self, regime: Regime, seed: int) -> pa.Table:
        names = self.pool["record_id"].to_pylist()
        order = sorted(range(len(names)), key=lambda row: seed_of(names[row], "extra", seed))
        if regime.kind == "extra.tokens":
            sizes = self._count([self.pool["text"][row].as_py() for row in order])
            order = order[: int((np.cumsum(sizes) <= self._tokens(self.rationales)).sum())]
        return self.pool.take(pa.array(order[: len(self.rationales)] if regime.kind == "extra" else order, pa.int64()))

    def _shifted(self, each: Marked, most: int, seed: int) -> Marked:
        """Each end of each span of a report goes up to `most` words to one side or the other; a word at least is left."""
        if each.record_id not in self.reports:
            return each
        generator = np.random.default_rng(seed_of(each.record_id, "shift", seed))
        start, end = words(each.text)
        return replace(
            each,
            spans={label: [_moved(span, start, end, most, generator) for span in spans] for label, spans in each.spans.items()},
        )

    @cached_property
    def _vocabulary(self) -> list[str]:
        """Every word of the reports, as often as it stands there."""
        return [text[a:b] for text in self.base["text"].to_pylist() for a, b in zip(*words(text), strict=True)]

    def _noisy(self, text: str, regime: Regime, seed: int) -> str:
        """A text less a share of its words, or with drawn ones in their place; one word at least is left."""
        generator = np.random.default_rng(seed)
        start, end = (edge.tolist() for edge in words(text))
        hit = generator.random(len(start)) < regime.value
        if regime.kind == "drop" and hit.all():
            hit[generator.integers(len(hit))] = False
        drawn = generator.integers(len(self._vocabulary), size=len(start))
        parts, place = [], 0
        for number, (a, b) in enumerate(zip(start, end, strict=True)):
            shown = text[a:b] if not hit[number] else "" if regime.kind == "drop" else self._vocabulary[drawn[number]]
            parts += [text[place:a], shown]
            place = b
        return "".join([*parts, text[place:]])

    def _swapped(self, told: Any, share: float, seed: int) -> Any:
        generator = np.random.default_rng(seed)
        if generator.random() >= share:
            return told
        others = [label for label in self.labels if label not in listed(told)]
        other = others[generator.integers(len(others))] if others else None
        return told if other is None else [other] if self.multi_label else other


def origin(sample: str) -> tuple[str, int]:
    """The report of a sample, and the number of the rationale among the report's."""
    report, _, rest = sample.rpartition("#")
    return report, int(rest.lstrip("abcdefghijklmnopqrstuvwxyz"))


def retold(table: pa.Table, **columns: Sequence[Any]) -> pa.Table:
    """The table with other values in some columns, of the same types."""
    for name, values in columns.items():
        at = table.column_names.index(name)
        table = table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))
    return table


def _shared(each: Marked, spans: Sequence[tuple[int, int]]) -> list[str]:
    """The labels for which some part of the spans was marked."""
    return [
        label for label, marked in each.spans.items() if any(a < end and start < b for a, b in marked for start, end in spans)
    ]


def _moved(
    span: tuple[int, int], start: np.ndarray, end: np.ndarray, most: int, generator: np.random.Generator
) -> tuple[int, int]:
    first, last = int(np.searchsorted(end, span[0], "right")), int(np.searchsorted(start, span[1])) - 1
    by = generator.integers(-most, most + 1, size=2)
    first = int(np.clip(first + by[0], 0, len(start) - 1))
    last = int(np.clip(last + by[1], first, len(start) - 1))
    return int(start[first]), int(end[last])


def listed(told: Any) -> list[str]:
    """A row's labels, of one or of a list."""
    return told if isinstance(told, list) else [told]
