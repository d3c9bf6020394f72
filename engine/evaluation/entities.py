"""A run's entities measured against marked ones: all rows of `metrics` and `wrong`, and notes for the reader.

A record that failed has no answer: it counts among all records, and in no figure of right and wrong.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl
import pyarrow as pa

from engine.evaluation import metrics, spans
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.joined import in_schema
from engine.evaluation.mentions import MENTION, Compared, compare
from engine.evaluation.metrics import ALL, Metric, Rounds
from engine.evaluation.resample import Rest
from engine.evaluation.rows import Rows, numbers_of, texts_of
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
    """Measures rows of entities against gold; arguments and errors are those of `compare`."""
    rounds = rounds or Rounds()
    compared = compare(rows, gold, slices, group, known, types)
    marked, found = compared.sides()
    measured = spans.measure(
        marked, found, rounds.rounds, rounds.seed, level=rounds.level, groups=compared.units, parts=compared.parts(slices)
    )
    wrong = _wrong(compared, marked, found, slices)
    # The most frequent pairs of a marked type and the type that was found in its place.
    pairs = [(*pair, count, measured.marked[pair[0]]) for pair, count in measured.confusion.items() if pair[0] != pair[1]]
    confusions = metrics.confusion_metrics(ENTITIES, pl.DataFrame(pairs, ["gold", "given", "len", "support"], orient="row"))
    result = [*_span_metrics(measured, rounds), *confusions, *_score_metrics(compared, wrong, rounds)]
    unit, decision = (texts_of(compared.records[name]) for name in ("unit", "decision"))
    result += metrics.record_metrics(decision, unit, {}, np.ones(decision.size, bool), rounds)
    result += metrics.count_metrics(compared.counts)
    return Evaluation((ENTITIES,), result, list(compared.notes), compared.counts, wrong, ENTITIES)


def _span_metrics(measured: spans.SpanFigures, rounds: Rounds) -> list[Metric]:
    result = []
    for (name, part), estimate in measured.values.items():
        if part == spans.MACRO:
            groups = measured.rests["recall", ALL].groups
            params = {"types": sum(map(bool, measured.marked.values()))}
            result.append(metrics.metric_of(ENTITIES, f"macro_{name}", ALL, estimate, measured.mentions, groups, params))
        else:
            rest = measured.rests.get((name, part), Rest(0, 0))
            result.append(metrics.share_metric(ENTITIES, name, part, estimate, rest, rounds.level))
    return result


def _score_metrics(compared: Compared, wrong: pa.Table, rounds: Rounds) -> list[Metric]:
    """How informative the numbers of found mentions are: scores, margins, and the shares of the evidence."""
    units = compared.records.select("record_id", "unit")
    found = compared.found.join(units, on="record_id", maintain_order="left")
    if not len(found):
        return []
    unit, right = texts_of(found["unit"]), found["right"].to_numpy()
    result = metrics.certainty_metrics(ENTITIES, numbers_of(found["score"]), right, unit, len(found), rounds)
    values = {name: numbers_of(found[name]) for name in _MEANS}
    result += metrics.mean_metrics(ENTITIES, values, unit, rounds)
    with_margin = ~np.isnan(values["margin"])
    if with_margin.any():
        arrays = (values["margin"][with_margin], right[with_margin], unit[with_margin])
        result.append(metrics.ranking_metric(ENTITIES, "auroc_margin", *arrays))
    mistyped = pl.DataFrame(wrong).filter(pl.col("error") == "type_wrong", pl.col("confused_with").is_not_null())
    mistyped = mistyped.join(units, on="record_id", maintain_order="left")
    hits = numbers_of(mistyped["confused_with"] == mistyped["gold_type"])
    return result + metrics.mean_metrics(ENTITIES, {"confused_right": hits}, texts_of(mistyped["unit"]), rounds)


def _wrong(compared: Compared, marked: spans.Mentions, found: spans.Mentions, slices: Sequence[str]) -> pa.Table:
    """One row per error: those of found mentions by falling score, then the missed mentions."""
    places = {"start": pl.Int32, "end": pl.Int32, "type": pl.String}
    columns = {"record_id": pl.String, "error": pl.String, **{f"gold_{name}": kind for name, kind in places.items()}, **places}
    nothing = (None, None, None)
    rows = [
        (name, error, *(gold or nothing), *(mention or nothing))
        for name in marked
        for error, gold, mention in spans.errors(set(marked[name]), set(found[name]))
    ]
    wrong = pl.DataFrame(rows, schema=columns, orient="row")
    scores = compared.found.select(*MENTION, "score", "margin", "confused_with")
    wrong = wrong.join(scores, on=MENTION, how="left").join(compared.records, on="record_id")
    wrong = wrong.sort("score", "record_id", "start", "gold_start", "type", descending=[True, *[False] * 4], nulls_last=True)
    return in_schema(wrong, wrong_entities_schema(slices))
