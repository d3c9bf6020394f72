"""Figures of predicted entities against marked ones: exact, partial, by boundary, and confusions of types.

Mentions are (start, end, type) with half-open character offsets, by record. Both sides are sets, and mentions may be nested.
Every figure is a ratio of counts summed over records, so intervals follow from resampling records (`engine.evaluation.resample`).
A figure with nothing to divide by is None.

Matching is greedy: pairs of the same type in falling order of IoU (shared characters over characters in either), each mention
once.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from engine.errors import ContractError
from engine.evaluation.resample import Drawn, Estimate, Ratio, Rest, Totals, mean_known, precision_recall_f1

Mention = tuple[int, int, str]
Mentions = Mapping[str, Iterable[Mention]]

ALL, MACRO = "all", "macro"
IOU = 0.5
ERRORS = ("left_wrong", "right_wrong", "both_wrong", "type_wrong", "missed", "spurious")
WAYS = {
    "": ("gold", "found", "exact"),
    "overlap_": ("gold", "found", "overlap"),
    "iou_": ("gold", "found", "iou"),
    "char_": ("chars_gold", "chars_found", "chars_both"),
}
"""For each definition of a hit the counts of marked mentions, predicted mentions, and hits."""
_FIGURES = {
    **{name: figure for way, counts in WAYS.items() for name, figure in precision_recall_f1(*counts, way).items()},
    "start_accuracy": Ratio("start", ("touched",)),
    "end_accuracy": Ratio("end", ("touched",)),
    "index_start": Ratio("start", ("gold",)),
    "index_end": Ratio("end", ("gold",)),
    "index_both": Ratio("ends_both", ("gold",)),
    **{f"error_{kind}": Ratio(kind, ERRORS) for kind in ERRORS},
}
_COUNTS = tuple(dict.fromkeys(name for figure in _FIGURES.values() for name in (*figure.below, figure.above)))
PART_METRICS = ("precision", "recall", "f1", "overlap_f1")
_PART_COUNTS = ("gold", "found", "exact", "overlap")


@dataclass(frozen=True)
class SpanFigures:
    """`values` by (metric, slice), a slice being `all`, `macro`, `type=<type>` or a part of the records. `rests` has the
    support of each value except `macro`. `confusion` counts mentions by (marked, predicted) type, `marked` the marked mentions of
    each type."""

    values: Mapping[tuple[str, str], Estimate]
    confusion: Mapping[tuple[str, str], int]
    types: tuple[str, ...]
    records: int
    marked: Mapping[str, int]
    rests: Mapping[tuple[str, str], Rest] = field(default_factory=dict)

    @property
    def mentions(self) -> int:
        return sum(self.marked.values())

    def __getitem__(self, metric: str) -> float | None:
        """The value of a metric over all types."""
        return self.values[metric, ALL].value


def measure(
    gold: Mentions,
    predicted: Mentions,
    rounds: int = 1000,
    seed: int = 0,
    *,
    level: float = 0.95,
    groups: Mapping[str, str] | None = None,
    parts: Mapping[str, Collection[str]] | None = None,
) -> SpanFigures:
    """All figures of one model on some records.

    `precision`, `recall`, `f1`: equal start, end and type. With `overlap_`: matched by any shared character; with `iou_`: matched
    with an IoU of at least 0.5; with `char_`: characters, counted twice if they lie in two mentions. `start_accuracy` and
    `end_accuracy`: among marked mentions that a predicted one of the same type overlaps, the share with the start (end) of one of
    these. `index_start`, `index_end`, `index_both`: the same among all marked mentions. `error_<kind>`: shares of all errors; a
    matched mention is wrong at its left, right or both ends; an unmatched one has another's bounds but not its type, is missed,
    or spurious. `macro` is the mean over types that are marked.

    Args:
        gold, predicted: marked and predicted mentions of the same records. rounds: resamples for intervals; 0 for none.
        groups: the unit of each record that resamples draw whole, such as the patient; without it each record is its own.
        parts: slice -> the records in it, which get `PART_METRICS` over all types.
    """
    if set(gold) != set(predicted):
        raise ContractError(f"{len(set(gold) ^ set(predicted))} records are on one side only")
    unit = {record: (groups or {}).get(record, record) for record in gold}
    confusion: Counter[tuple[str, str]] = Counter()
    lines, types = [], set()
    for record in gold:
        counts, confused = counts_of(set(gold[record]), set(predicted[record]))
        confusion.update(confused)
        kinds = {kind for _, kind in counts}
        types |= kinds
        lines += [(record, unit[record], f"type={kind}", *(counts[name, kind] for name in _COUNTS)) for kind in kinds]
    if not types:
        return SpanFigures({(name, ALL): Estimate(None) for name in _FIGURES}, {}, (), len(gold), {})
    rows = pl.DataFrame(lines, schema=["record", "unit", "part", *_COUNTS], orient="row")
    kinds = [f"type={kind}" for kind in sorted(types)]
    slices = {ALL: kinds, **{kind: [kind] for kind in kinds}, **{part: [f"part {part}"] for part in parts or {}}}
    inside = [(record, unit[record], f"part {part}") for part, members in (parts or {}).items() for record in members]
    members = pl.DataFrame(inside, schema={name: pl.String for name in ("record", "unit", "part")}, orient="row")
    # A record without a mention counts nothing in its parts.
    part_rows = members.join(rows.select("record", *_PART_COUNTS), on="record", how="left")
    totals = Totals.by_part(list(unit.values()), pl.concat([rows, part_rows], how="diagonal").drop("record"))
    wanted = [(name, part) for part in slices for name in (PART_METRICS if part in (parts or {}) else _FIGURES)]
    figures = {(name, part): _FIGURES[name].over(slices[part]) for name, part in wanted}
    rests = {(name, part): _FIGURES[name].rest(totals, slices[part]) for name, part in wanted}
    marked = {kind.removeprefix("type="): rests["recall", kind].n for kind in kinds}
    for name in (f"{way}{part}" for way in WAYS for part in precision_recall_f1("", "", "") if any(marked.values())):
        figures[name, MACRO] = _mean([figures[name, f"type={kind}"] for kind, count in marked.items() if count])
    values = totals.estimates(figures, rounds, level, seed)
    return SpanFigures(values, dict(confusion), tuple(marked), len(gold), marked, rests)


def _mean(figures: Sequence[Callable[[Drawn], NDArray]]) -> Callable[[Drawn], NDArray]:
    """The mean over types, in each draw over those that have mentions."""
    return lambda drawn: mean_known(np.stack([figure(drawn) for figure in figures], -1))


def matches(gold: Iterable[Mention], predicted: Iterable[Mention]) -> list[tuple[Mention, Mention, float]]:
    """Matched pairs of marked and predicted mentions of one record, with their IoU, best first."""
    same = [(one, other) for one in gold for other in predicted if one[2] == other[2]]
    pairs = [(iou(one, other), one, other) for one, other in same if one[0] < other[1] and other[0] < one[1]]
    used: tuple[set[Mention], set[Mention]] = (set(), set())
    matched = []
    for overlap, one, other in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if one not in used[0] and other not in used[1]:
            used[0].add(one)
            used[1].add(other)
            matched.append((one, other, overlap))
    return matched


def errors(
    gold: Collection[Mention], predicted: Collection[Mention], matched: Sequence[tuple[Mention, Mention, float]] | None = None
) -> list[tuple[str, Mention | None, Mention | None]]:
    """The errors of one record: the kind (one of `ERRORS`), the marked and the predicted mention. A missed mention has no
    predicted one, and a spurious one no marked one: they are None.

    Args:
        matched: the result of `matches`, if it is at hand.
    """
    matched = matches(gold, predicted) if matched is None else matched
    wrong: list[tuple[str, Mention | None, Mention | None]] = []
    for one, other, _ in matched:
        if one != other:
            side = "right_wrong" if one[0] == other[0] else "left_wrong" if one[1] == other[1] else "both_wrong"
            wrong.append((side, one, other))
    left = set(predicted) - {other for _, other, _ in matched}
    for one in sorted(set(gold) - {one for one, _, _ in matched}):
        twin = min((other for other in left if other[:2] == one[:2]), default=None)
        wrong.append(("missed" if twin is None else "type_wrong", one, twin))
        left -= {twin}
    return wrong + [("spurious", None, other) for other in sorted(left)]


def iou(one: Mention, other: Mention) -> float:
    """Shared characters over characters in either."""
    common = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return common / (one[1] - one[0] + other[1] - other[0] - common)


def counts_of(gold: set[Mention], predicted: set[Mention]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Counts of one record by (name, type), and confusions of types; an error counts for its marked type, if it has one."""
    counts: Counter[tuple[str, str]] = Counter()
    for name, mentions in (("gold", gold), ("found", predicted), ("exact", gold & predicted)):
        counts.update((name, kind) for _, _, kind in mentions)
    matched = matches(gold, predicted)
    for one, _, overlap in matched:
        counts["overlap", one[2]] += 1
        counts["iou", one[2]] += overlap >= IOU
    counts.update((kind, (one or other)[2]) for kind, one, other in errors(gold, predicted, matched))
    for kind in {kind for _, _, kind in gold | predicted}:
        _count_characters(kind, gold, predicted, counts)
    for start, end, kind in gold:
        near = [(a, b) for a, b, other in predicted if other == kind and a < end and start < b]
        starts, ends = any(a == start for a, _ in near), any(b == end for _, b in near)
        counts["touched", kind] += bool(near)
        counts["start", kind] += starts
        counts["end", kind] += ends
        counts["ends_both", kind] += starts and ends
    return counts, _confusion(gold, predicted, matched)


def _confusion(
    gold: set[Mention], predicted: set[Mention], matched: Sequence[tuple[Mention, Mention, float]]
) -> Counter[tuple[str, str]]:
    """Counts of (marked, predicted) types: equal types if matched with an IoU of at least 0.5, else the best other."""
    right = {other for _, other, overlap in matched if overlap >= IOU}
    counts = Counter((kind, kind) for _, _, kind in right)
    for other in predicted - right:
        near = [(iou(one, other), one) for one in gold if one[2] != other[2] and iou(one, other) >= IOU]
        if near:
            counts[max(near)[1][2], other[2]] += 1
    return counts


def _count_characters(kind: str, gold: set[Mention], predicted: set[Mention], counts: Counter[tuple[str, str]]) -> None:
    """Adds the characters of a type as multisets: those marked, predicted, and in both."""
    sides = [[mention for mention in mentions if mention[2] == kind] for mentions in (gold, predicted)]
    depth = np.zeros((2, max(end for mentions in sides for _, end, _ in mentions) + 1), np.int64)
    for row, mentions in zip(depth, sides, strict=True):
        for start, end, _ in mentions:
            row[start] += 1
            row[end] -= 1
    depth = depth.cumsum(axis=1)
    counts["chars_gold", kind], counts["chars_found", kind] = map(int, depth.sum(axis=1))
    counts["chars_both", kind] = int(depth.min(axis=0).sum())
