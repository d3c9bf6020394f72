"""Mentions within mentions: how many of the marked pairs are found, their inner ones, their outer ones, and both."""

from collections.abc import Mapping, Sequence

from engine.evaluation.resample import share_interval
from engine.evaluation.spans import Mention
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.spans import found
from engine.studies.whole import Fitted


def measure(model: Fitted, task: Task) -> Measured:
    """Shares of pairs with exact intervals."""
    gold, answers = found(model, task)
    said: dict[str, set[Mention]] = {record_id: set() for record_id in gold}
    for record_id, mention, _ in answers:
        said[record_id].add(mention)
    return Measured(shares(gold, said))


def shares(gold: Mapping[str, Sequence[Mention]], said: Mapping[str, set[Mention]]) -> list[Row]:
    """Of marked mentions of which one lies within the other, pair by pair."""
    pairs = [
        (one in said[record_id], other in said[record_id])
        for record_id, mentions in gold.items()
        for one in mentions
        for other in mentions
        if one != other and other[0] <= one[0] and one[1] <= other[1] and one[1] - one[0] < other[1] - other[0]
    ]
    counts = {
        "nested_inner_found": sum(inner for inner, _ in pairs),
        "nested_outer_found": sum(outer for _, outer in pairs),
        "nested_both_found": sum(inner and outer for inner, outer in pairs),
    }
    n = len(pairs)
    return [Row(name, count / n, *share_interval(count, n), n) if n else Row(name, None, n=0) for name, count in counts.items()]
