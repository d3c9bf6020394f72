"""A run's entities held against marked ones: every row of `metrics` and `wrong`, and what a reader must be told.

A record that failed has no answer: it counts among all records, and in no figure of right and wrong.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from engine.evaluation import spans
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.mentions import MENTION, Compared, compare
from engine.evaluation.metrics import (
    ALL,
    Metric,
    Rounds,
    certainty_metrics,
    confusion_metrics,
    count_metrics,
    mean_metrics,
    metric_of,
    parting_metric,
    record_metrics,
    share_metric,
)
from engine.evaluation.resample import Rest
from engine.evaluation.rows import Rows, numbers_of, texts_of
from engine.evaluation.spans import SpanFigures
from engine.evaluation.wrong import in_schema
from engine.records import ENTITIES, wrong_entities_schema
from engine.sources.labelled import GoldSpans

_MEANS = ("context_share", "hard_share", "soft_share", "margin")


def figures(
    rows: Rows,
    gold: GoldSpans,
    slices: Sequence[str] = (),
    group: str | None = None,
    known: Iterable[str] | None = None,
    types: Mapping[str, str] | None = None,
    rounds: Rounds | None = None,
) -> Evaluation:
    """Measures rows of entities against gold; for the arguments and what is raised see `compare`."""
    rounds = rounds or Rounds()
    compared = compare(rows, gold, slices, group, known, types)
    marked, said = compared.sides()
    measured = spans.measure(
        marked,
        said,
        rounds.rounds,
        rounds.seed,
        level=rounds.level,
        groups=compared.units,
        parts=compared.parts(slices),
    )
    wrong = _wrong(compared, marked, said, slices)
    metrics = [*_span_metrics(measured, rounds), *_confusions(measured), *_of_found(compared, wrong, rounds)]
    unit, decision = (texts_of(compared.records[name]) for name in ("unit", "decision"))
    metrics += record_metrics(decision, unit, {}, np.ones(decision.size, bool), rounds)
    metrics += count_metrics(compared.counts)
    return Evaluation((ENTITIES,), metrics, list(compared.notes), compared.counts, wrong, ENTITIES)


def _span_metrics(measured: SpanFigures, rounds: Rounds) -> list[Metric]:
    metrics = []
    for (name, part), estimate in measured.values.items():
        if part == spans.MACRO:
            groups = measured.rests["recall", ALL].groups
            params = {"types": sum(map(bool, measured.marked.values()))}
            metrics.append(metric_of(ENTITIES, f"macro_{name}", ALL, estimate, measured.mentions, groups, params))
        else:
            rest = measured.rests.get((name, part), Rest(0, 0))
            metrics.append(share_metric(ENTITIES, name, part, estimate, rest, rounds.level))
    return metrics


def _confusions(measured: SpanFigures) -> list[Metric]:
    """The commonest pairs of a marked type and the type that was found in its place."""
    pairs = [(*pair, count, measured.marked[pair[0]]) for pair, count in measured.confusion.items() if pair[0] != pair[1]]
    return confusion_metrics(ENTITIES, pl.DataFrame(pairs, ["gold", "given", "len", "support"], orient="row"))


def _of_found(compared: Compared, wrong: pa.Table, rounds: Rounds) -> list[Metric]:
    """What the numbers beside found mentions are worth: scores, margins, and the shares of the evidence."""
    units = compared.records.select("record_id", "unit")
    said = compared.said.join(units, on="record_id", maintain_order="left")
    if not len(said):
        return []
    unit, right = texts_of(said["unit"]), said["right"].to_numpy()
    metrics = certainty_metrics(ENTITIES, numbers_of(said["score"]), right, unit, len(said), rounds)
    values = {name: numbers_of(said[name]) for name in _MEANS}
    metrics += mean_metrics(ENTITIES, values, unit, rounds)
    there = ~np.isnan(values["margin"])
    if there.any():
        metrics.append(parting_metric(ENTITIES, "auroc_margin", values["margin"][there], right[there], unit[there]))
    mistyped = (
        pl.DataFrame(wrong)
        .join(units, on="record_id", maintain_order="left")
        .filter(pl.col("error") == "type_wrong", pl.col("confused_with").is_not_null())
    )
    hits = numbers_of(mistyped["confused_with"] == mistyped["gold_type"])
    return metrics + mean_metrics(ENTITIES, {"confused_right": hits}, texts_of(mistyped["unit"]), rounds)


def _wrong(compared: Compared, marked: spans.Mentions, said: spans.Mentions, slices: Sequence[str]) -> pa.Table:
    """A row an error: the found ones by falling score, then what was missed."""
    schema = wrong_entities_schema(slices)
    places = {"start": pl.Int32, "end": pl.Int32, "type": pl.String}
    columns = {"record_id": pl.String, "error": pl.String, **{f"gold_{name}": kind for name, kind in places.items()}, **places}
    nothing = (None, None, None)
    rows = [
        (name, error, *(one or nothing), *(other or nothing))
        for name in marked
        for error, one, other in spans.errors(set(marked[name]), set(said[name]))
    ]
    wrong = pl.DataFrame(rows, schema=columns, orient="row")
    found = compared.said.select(*MENTION, "score", "margin", "confused_with")
    wrong = wrong.join(found, on=MENTION, how="left").join(compared.records, on="record_id")
    wrong = wrong.sort("score", "record_id", "start", "gold_start", "type", descending=[True, *[False] * 4], nulls_last=True)
    return in_schema(wrong, schema)
