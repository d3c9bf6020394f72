"""Measures of found entities against marked ones: exact, partial, by boundary, and which types are taken for which.

Mentions are (start, end, type) with half-open character offsets, by record; both sides are sets, and nested mentions are welcome.
Every figure is a ratio of counts summed over records, so that intervals follow from drawing records again
(`engine.evaluation.resample`). A figure that has nothing to divide by is None.

Matching is greedy: same-type pairs in falling order of IoU (characters in common over characters in either), each mention once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

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
class SpanFigures:
    """`values` by (metric, slice), a slice being `all`, `macro` or `type=<type>`; `confusion` counts by (marked, found) type;
    `marked` are each type's marked mentions, `mentions` those of all."""

    values: Mapping[tuple[str, str], Estimate]
    confusion: Mapping[tuple[str, str], int]
    types: tuple[str, ...]
    records: int
    marked: Mapping[str, int]

    @property
    def mentions(self) -> int:
        return sum(self.marked.values())

    def __getitem__(self, metric: str) -> float | None:
        """The value of a metric over all types."""
        return self.values[metric, ALL].value


def measure(gold: Mentions, said: Mentions, rounds: int = 1000, seed: int = 0) -> SpanFigures:
    """All figures of one model on some records.

    `precision`, `recall`, `f1`: equal start, end and type. With `overlap_`: matched by any common character; with `iou_`: matched
    with IoU of at least 0.5; with `char_`: characters, one that lies in two mentions counted twice. `start_accuracy` and
    `end_accuracy`: of marked mentions that a found one of the type overlaps, those of which one begins (ends) alike.
    `index_start`, `index_end`, `index_both`: the same of all marked mentions. `error_<kind>`: shares of all errors; a matched
    mention is wrong at its left, right or both ends, an unmatched one has another's bounds and not its type, is missed, or
    spurious. `macro` is the mean over types that are marked.

    Args:
        gold, said: the same records. rounds: draws for intervals; 0: none.
    """
    records, per_record = list(gold), {}
    confusion: Counter[tuple[str, str]] = Counter()
    if set(gold) != set(said):
        raise ContractError(f"{len(set(gold) ^ set(said))} records are on one side only")
    for record in records:
        per_record[record], confused = _counts(set(gold[record]), set(said[record]))
        confusion.update(confused)
    types = tuple(sorted({kind for counts in per_record.values() for _, kind in counts}))
    columns = {
        (name, kind): np.array([per_record[record].get((name, kind), 0) for record in records])
        for name in _COUNTS
        for kind in types
    }
    marked = {kind: int(columns["gold", kind].sum()) for kind in types}
    if not types:
        return SpanFigures({(name, ALL): Estimate(None) for name in _figures(())}, {}, (), len(records), {})
    totals = Totals(records, columns)
    figures = {(name, ALL): figure for name, figure in _figures(types).items()}
    for kind in types:
        figures |= {(name, f"type={kind}"): figure for name, figure in _figures((kind,)).items()}
    for name in (f"{way}{part}" for way in _WAYS for part in ("precision", "recall", "f1") if any(marked.values())):
        figures[name, MACRO] = _mean([figures[name, f"type={kind}"] for kind in types if marked[kind]])
    return SpanFigures(totals.estimates(figures, rounds, seed=seed), dict(confusion), types, len(records), marked)


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
    for one, other, common in matched:
        found["overlap", one[2]] += 1
        found["iou", one[2]] += common >= IOU
        if one != other:
            side = "right_wrong" if one[0] == other[0] else "left_wrong" if one[1] == other[1] else "both_wrong"
            found[side, one[2]] += 1
    for kind in {kind for _, _, kind in gold | said}:
        _count_characters(kind, gold, said, found)
    for start, end, kind in gold:
        near = [(a, b) for a, b, other in said if other == kind and a < end and start < b]
        begins, ends = any(a == start for a, _ in near), any(b == end for _, b in near)
        found["touched", kind] += bool(near)
        found["start", kind] += begins
        found["end", kind] += ends
        found["ends_both", kind] += begins and ends
    left = said - {other for _, other, _ in matched}
    for one in sorted(gold - {one for one, _, _ in matched}):
        twin = min((other for other in left if other[:2] == one[:2]), default=None)
        found["missed" if twin is None else "type_wrong", one[2]] += 1
        left -= {twin}
    found.update(("spurious", kind) for _, _, kind in left)
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


def _figures(types: Sequence[str]) -> dict[str, Callable[[Drawn], NDArray]]:
    """Every figure over some types together."""

    def total(drawn: Drawn, name: str) -> NDArray:
        return drawn.many([(name, kind) for kind in types]).sum(axis=1)

    def share(above: str, *below: str) -> Callable[[Drawn], NDArray]:
        return lambda drawn: divide(total(drawn, above), sum(total(drawn, name) for name in below))

    found: dict[str, Callable[[Drawn], NDArray]] = {}
    for way, (gold, said, hits) in _WAYS.items():
        found[f"{way}precision"], found[f"{way}recall"] = share(hits, said), share(hits, gold)
        found[f"{way}f1"] = lambda drawn, names=(gold, said, hits): _f1(*(total(drawn, name) for name in names))
    found |= {"start_accuracy": share("start", "touched"), "end_accuracy": share("end", "touched")}
    found |= {"index_start": share("start", "gold"), "index_end": share("end", "gold"), "index_both": share("ends_both", "gold")}
    return found | {f"error_{kind}": share(kind, *ERRORS) for kind in ERRORS}


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
