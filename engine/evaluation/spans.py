"""Measures of found entities against marked ones: exact, partial, by boundary, and which types are taken for which.

Mentions are (start, end, type) with half-open character offsets, by record; both sides are sets, and nested mentions are welcome.
Every figure is a ratio of counts summed over records, so that intervals follow from drawing records again
(`engine.evaluation.resample`). A figure that has nothing to divide by is None.

Matching is greedy: same-type pairs in falling order of IoU (characters in common over characters in either), each mention once.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ContractError
from engine.evaluation.resample import Drawn, Estimate, Totals, divide

Mention = tuple[int, int, str]
Mentions = Mapping[str, Iterable[Mention]]

ALL, MACRO = "all", "macro"
IOU = 0.5
ERRORS = ("left_wrong", "right_wrong", "both_wrong", "type_wrong", "missed", "spurious")
_COUNTS = (
    "gold",
    "said",
    "exact",
    "overlap",
    "iou",
    "chars_gold",
    "chars_said",
    "chars_both",
    "touched",
    "start",
    "end",
    "ends_both",
    *ERRORS,
)
# F1 of each way to count a hit: marked, found, and hits.
_WAYS = {
    "": ("gold", "said", "exact"),
    "overlap_": ("gold", "said", "overlap"),
    "iou_": ("gold", "said", "iou"),
    "char_": ("chars_gold", "chars_said", "chars_both"),
}


@dataclass(frozen=True)
class Rest:
    """What a figure rests on: mentions (or characters, or errors), and the groups that they stand in."""

    n: int
    groups: int


@dataclass(frozen=True)
class SpanFigures:
    """`values` by (metric, slice), a slice being `all`, `macro`, `type=<type>` or a part of the records; `rests` what each rests
    on, but for `macro`; `confusion` counts by (marked, found) type; `marked` are each type's marked mentions, `mentions` those of
    all."""

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
    said: Mentions,
    rounds: int = 1000,
    seed: int = 0,
    *,
    level: float = 0.95,
    groups: Mapping[str, str] | None = None,
    parts: Mapping[str, Collection[str]] | None = None,
) -> SpanFigures:
    """All figures of one model on some records.

    `precision`, `recall`, `f1`: equal start, end and type. With `overlap_`: matched by any common character; with `iou_`: matched
    with IoU of at least 0.5; with `char_`: characters, one that lies in two mentions counted twice. `start_accuracy` and
    `end_accuracy`: of marked mentions that a found one of the type overlaps, those of which one begins (ends) alike.
    `index_start`, `index_end`, `index_both`: the same of all marked mentions. `error_<kind>`: shares of all errors; a matched
    mention is wrong at its left, right or both ends, an unmatched one has another's bounds and not its type, is missed, or
    spurious. `macro` is the mean over types that are marked.

    Args:
        gold, said: the same records. rounds: draws for intervals; 0: none. level: of the intervals.
        groups: the unit of each record that draws take whole, such as the patient; each record is one where there are none.
        parts: slice -> the records in it, which get `PART_METRICS` over all types.
    """
    records, per_record = list(gold), {}
    confusion: Counter[tuple[str, str]] = Counter()
    if set(gold) != set(said):
        raise ContractError(f"{len(set(gold) ^ set(said))} records are on one side only")
    for record in records:
        per_record[record], confused = _counts(set(gold[record]), set(said[record]))
        confusion.update(confused)
    types = tuple(sorted({kind for counts in per_record.values() for _, kind in counts}))
    columns: dict[tuple[str, Any], NDArray] = {
        (name, kind): np.array([per_record[record].get((name, kind), 0) for record in records])
        for name in _COUNTS
        for kind in types
    }
    marked = {kind: int(columns["gold", kind].sum()) for kind in types}
    if not types:
        return SpanFigures({(name, ALL): Estimate(None) for name in _FIGURES}, {}, (), len(records), {})
    slices: dict[str, tuple[Any, ...]] = {ALL: types, **{f"type={kind}": (kind,) for kind in types}}
    for part, members in (parts or {}).items():
        inside = np.isin(np.array(records), list(members))
        # Their types are summed up beforehand, so that many parts are not too many columns.
        columns |= {(name, (part,)): sum(columns[name, kind] for kind in types) * inside for name in _PART_COUNTS}
        slices[part] = ((part,),)
    totals = Totals([(groups or {}).get(record, record) for record in records], columns)
    wanted = {(name, part): name for part in slices for name in (PART_METRICS if part in (parts or {}) else _FIGURES)}
    figures = {key: _figure(_FIGURES[name], slices[key[1]]) for key, name in wanted.items()}
    rests = {key: _rest(totals, _FIGURES[name], slices[key[1]]) for key, name in wanted.items()}
    for name in (f"{way}{part}" for way in _WAYS for part in ("precision", "recall", "f1") if any(marked.values())):
        figures[name, MACRO] = _mean([figures[name, f"type={kind}"] for kind in types if marked[kind]])
    values = totals.estimates(figures, rounds, level, seed)
    return SpanFigures(values, dict(confusion), types, len(records), marked, rests)


def difference(
    gold: Mentions, one: Mentions, other: Mentions, way: str = "", rounds: int = 1000, seed: int = 0
) -> tuple[Estimate, float | None]:
    """F1 of `one` less that of `other`; see `mean_difference`."""
    return mean_difference(gold, [(one, other)], way, rounds, seed)


def mean_difference(
    gold: Mentions, pairs: Sequence[tuple[Mentions, Mentions]], way: str = "", rounds: int = 1000, seed: int = 0
) -> tuple[Estimate, float | None]:
    """F1 of one side less that of the other on the same drawn records, the mean over pairs of trained models, and the two-sided p
    of there being no difference; None without draws. The models stay as they are: a draw says nothing of another training.

    Args:
        way: `""` for exact, or `overlap_`, `iou_`, `char_`.
    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 15: the share of draws beyond 0. What was measured
        counts as one more draw (Davison and Hinkley 1997, section 4.2): so many draws and no more can show no p of 0.
    """
    records, columns = list(gold), {}
    for number, pair in enumerate(pairs):
        for side, found in enumerate(pair):
            if set(found) != set(gold):
                raise ContractError("the records of both sides must be those of gold")
            counts = [_summed(_counts(set(gold[record]), set(found[record]))[0]) for record in records]
            columns |= {(number, side, name): np.array([each[name] for each in counts]) for name in _WAYS[way]}
    totals, kept = Totals(records, columns), []

    def less(drawn: Drawn) -> NDArray:
        one, other = (
            np.mean([_f1(*(drawn[number, side, name] for name in _WAYS[way])) for number in range(len(pairs))], axis=0)
            for side in (0, 1)
        )
        kept.append(one - other)
        return kept[-1]

    estimate = totals.estimates({"difference": less}, rounds, seed=seed)["difference"]
    # The last call is for the whole, not for a draw.
    draws = np.concatenate(kept[:-1]) if len(kept) > 1 else np.empty(0)
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return estimate, None
    least = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return estimate, min(1.0, 2 * (least + 1) / (draws.size + 1))


def matches(gold: Iterable[Mention], said: Iterable[Mention]) -> list[tuple[Mention, Mention, float]]:
    """Marked and found mentions of one record that belong together, with their IoU, best first."""
    same = [(one, other) for one in gold for other in said if one[2] == other[2]]
    pairs = [(iou(one, other), one, other) for one, other in same if one[0] < other[1] and other[0] < one[1]]
    taken: tuple[set[Mention], set[Mention]] = (set(), set())
    found = []
    for common, one, other in sorted(pairs, key=lambda pair: (-pair[0], pair[1:])):
        if one not in taken[0] and other not in taken[1]:
            taken[0].add(one)
            taken[1].add(other)
            found.append((one, other, common))
    return found


def errors(
    gold: Collection[Mention], said: Collection[Mention], matched: Sequence[tuple[Mention, Mention, float]] | None = None
) -> list[tuple[str, Mention | None, Mention | None]]:
    """The errors of one record, one of `ERRORS` each, with the marked and the found mention; one of them is None where the other
    was missed or spurious.

    Args:
        matched: what `matches` gives, where it is at hand.
    """
    matched = matches(gold, said) if matched is None else matched
    wrong: list[tuple[str, Mention | None, Mention | None]] = []
    for one, other, _ in matched:
        if one != other:
            side = "right_wrong" if one[0] == other[0] else "left_wrong" if one[1] == other[1] else "both_wrong"
            wrong.append((side, one, other))
    left = set(said) - {other for _, other, _ in matched}
    for one in sorted(set(gold) - {one for one, _, _ in matched}):
        twin = min((other for other in left if other[:2] == one[:2]), default=None)
        wrong.append(("missed" if twin is None else "type_wrong", one, twin))
        left -= {twin}
    return wrong + [("spurious", None, other) for other in sorted(left)]


def iou(one: Mention, other: Mention) -> float:
    """Characters in both over characters in either."""
    common = max(0, min(one[1], other[1]) - max(one[0], other[0]))
    return common / (one[1] - one[0] + other[1] - other[0] - common)


def _counts(gold: set[Mention], said: set[Mention]) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """Counts of one record by (name, type), and what was taken for what; an error counts for its marked type, if it has one."""
    found: Counter[tuple[str, str]] = Counter()
    for name, some in (("gold", gold), ("said", said), ("exact", gold & said)):
        found.update((name, kind) for _, _, kind in some)
    matched = matches(gold, said)
    for one, _, common in matched:
        found["overlap", one[2]] += 1
        found["iou", one[2]] += common >= IOU
    found.update((kind, (one or other)[2]) for kind, one, other in errors(gold, said, matched))
    for kind in {kind for _, _, kind in gold | said}:
        _count_characters(kind, gold, said, found)
    for start, end, kind in gold:
        near = [(a, b) for a, b, other in said if other == kind and a < end and start < b]
        begins, ends = any(a == start for a, _ in near), any(b == end for _, b in near)
        found["touched", kind] += bool(near)
        found["start", kind] += begins
        found["end", kind] += ends
        found["ends_both", kind] += begins and ends
    return found, _confused(gold, said, matched)


def _confused(
    gold: set[Mention], said: set[Mention], matched: Sequence[tuple[Mention, Mention, float]]
) -> Counter[tuple[str, str]]:
    """(marked, found) types of found mentions: its own where matched with an IoU of at least 0.5, else the best other."""
    right = {other for _, other, common in matched if common >= IOU}
    found = Counter((kind, kind) for _, _, kind in right)
    for other in said - right:
        near = [(iou(one, other), one) for one in gold if one[2] != other[2] and iou(one, other) >= IOU]
        if near:
            found[max(near)[1][2], other[2]] += 1
    return found


def _count_characters(kind: str, gold: set[Mention], said: set[Mention], found: Counter[tuple[str, str]]) -> None:
    """Adds characters of a type as multisets: those marked, found, and in both."""
    sides = [[mention for mention in some if mention[2] == kind] for some in (gold, said)]
    length = max(end for some in sides for _, end, _ in some)
    depth = np.zeros((2, length + 1), np.int64)
    for row, some in zip(depth, sides, strict=True):
        for start, end, _ in some:
            row[start] += 1
            row[end] -= 1
    depth = depth.cumsum(axis=1)
    found["chars_gold", kind], found["chars_said", kind] = map(int, depth.sum(axis=1))
    found["chars_both", kind] = int(depth.min(axis=0).sum())


def _summed(counts: Mapping[tuple[str, str], int]) -> Counter[str]:
    """Over types."""
    found: Counter[str] = Counter()
    for (name, _), count in counts.items():
        found[name] += count
    return found


def _figure(figure: "_Figure", kinds: Sequence[Any]) -> Callable[[Drawn], NDArray]:
    """The figure over some types together."""

    def total(drawn: Drawn, name: str) -> NDArray:
        return drawn.many([(name, kind) for kind in kinds]).sum(axis=1)

    above, below = figure.above, figure.below
    if figure.is_f1:
        return lambda drawn: _f1(*(total(drawn, name) for name in (*below, above)))
    return lambda drawn: divide(total(drawn, above), sum(total(drawn, name) for name in below))


def _rest(totals: Totals, figure: "_Figure", kinds: Sequence[Any]) -> Rest:
    below = sum(totals.column((name, kind)) for name in figure.below for kind in kinds)
    # What is marked and found rests on one mention.
    twice = sum(totals.column((figure.above, kind)).sum() for kind in kinds) if figure.is_f1 else 0
    return Rest(int(below.sum() - twice), int(np.count_nonzero(below)))


@dataclass(frozen=True)
class _Figure:
    """A ratio of counts; of an F1, hits are above, what is marked and what is found below."""

    above: str
    below: tuple[str, ...]
    is_f1: bool = False


def _every_figure() -> dict[str, _Figure]:
    figures: dict[str, _Figure] = {}
    for way, (gold, said, hits) in _WAYS.items():
        figures |= {f"{way}precision": _Figure(hits, (said,)), f"{way}recall": _Figure(hits, (gold,))}
        figures[f"{way}f1"] = _Figure(hits, (gold, said), is_f1=True)
    figures |= {"start_accuracy": _Figure("start", ("touched",)), "end_accuracy": _Figure("end", ("touched",))}
    figures |= {"index_start": _Figure("start", ("gold",)), "index_end": _Figure("end", ("gold",))}
    figures["index_both"] = _Figure("ends_both", ("gold",))
    return figures | {f"error_{kind}": _Figure(kind, ERRORS) for kind in ERRORS}


_FIGURES = _every_figure()
PART_METRICS = ("precision", "recall", "f1", "overlap_f1")
_PART_COUNTS = ("gold", "said", "exact", "overlap")


def _f1(gold: NDArray, said: NDArray, hits: NDArray) -> NDArray:
    """2 hits / (gold + said): the harmonic mean of precision and recall, 0 where nothing was hit."""
    return divide(2.0 * hits, gold + said)


def _mean(figures: Sequence[Callable[[Drawn], NDArray]]) -> Callable[[Drawn], NDArray]:
    """The mean over types; one without mentions in a draw counts nothing there."""

    def mean(drawn: Drawn) -> NDArray:
        values = np.stack([figure(drawn) for figure in figures])
        known = ~np.isnan(values)
        return divide(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0))

    return mean
