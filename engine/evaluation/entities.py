"""A run's entities measured against marked ones: all rows of `metrics` and `wrong`, and notes for the reader.

A failed record has no answer: it counts as a record, but enters no figure of right and wrong. A predicted mention counts only
if its type is marked in the document's dataset. Other types were not annotated there, so predicting one is no error. The notes
and the counts call predicted mentions `found`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from engine.errors import ConfigError
from engine.evaluation import metrics, spans
from engine.evaluation.evaluation import Evaluation
from engine.evaluation.joined import in_schema, join, left_out_notes
from engine.evaluation.metrics import ALL, Metric, Rounds
from engine.evaluation.resample import Rest
from engine.evaluation.rows import Rows, numbers_of, quarters, selected, texts_of
from engine.evaluation.spans import Mention
from engine.records import AUTO, ENTITIES, REVIEW, wrong_entities_schema
from engine.sources.labelled import GoldSpans

MENTION = ("record_id", "start", "end", "type")
_ENTITY_FIELDS = (*MENTION, "score", "margin", "confused_with", "assertion", "context_share", "hard_share", "soft_share")
_TEXT_FILE = ".txt"
_LEFT_OUT = {
    "without_row": "marked texts have no row in the run.",
    "other_text": "marked texts are not the texts that the run read; they were left out.",
}
_MEANS = ("context_share", "hard_share", "soft_share", "margin")


@dataclass(frozen=True)
class Comparison:
    """Marked and predicted mentions of the same records.

    `records` has the records that are both in the run and in gold: `record_id` (the run's), `decision`, `reasons`, `dataset`,
    `n_tokens`, `group` as the input has it, `unit` (the group that a resample draws whole), `slice_<name>`, `run_id` and
    `model_digest`. `marked` and `predicted` have one row per mention of an answered record: `record_id`, `start`, `end`, `type`.
    `predicted` also has scores, shares, and `right`: whether exactly this mention is marked. `notes` say what was left out, and
    `counts` how much of it.
    """

    records: pl.DataFrame
    marked: pl.DataFrame
    predicted: pl.DataFrame
    notes: Sequence[str]
    counts: Mapping[str, int]

    @property
    def answered(self) -> pl.DataFrame:
        """The records that have an answer."""
        return _answered(self.records)

    @property
    def units(self) -> dict[str, str]:
        """The unit of each record."""
        return dict(self.records.select("record_id", "unit").iter_rows())

    def sides(self) -> tuple[dict[str, list[Mention]], dict[str, list[Mention]]]:
        """Marked and predicted mentions of every answered record."""
        return tuple(
            {name: [] for name in self.answered["record_id"]}
            | {name: list(zip(*columns, strict=True)) for name, *columns in by_record.iter_rows()}
            for by_record in (
                mentions.group_by("record_id", maintain_order=True).agg("start", "end", "type")
                for mentions in (self.marked, self.predicted)
            )
        )

    def parts(self, slices: Sequence[str]) -> dict[str, list[str]]:
        """The ids of the answered records in each part: by `slices`, by dataset if there are several, by quarter of length."""
        answered = self.answered
        columns = {name: answered[f"slice_{name}"] for name in slices}
        if answered["dataset"].n_unique() > 1:
            columns.setdefault("dataset", answered["dataset"])
        columns.setdefault("length", pl.Series(quarters(numbers_of(answered["n_tokens"])), dtype=pl.String))
        parts = {}
        for name, values in columns.items():
            by_value = answered.select("record_id", value=values).filter(pl.col("value") != "").group_by("value")
            parts |= {f"{name}={value}": names for value, names in by_value.agg("record_id").sort("value").iter_rows()}
        return parts


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
    comparison = compare(rows, gold, slices, group, known, types)
    marked, predicted = comparison.sides()
    measured = spans.measure(
        marked, predicted, rounds.rounds, rounds.seed, level=rounds.level, groups=comparison.units, parts=comparison.parts(slices)
    )
    wrong = _wrong(comparison, marked, predicted, slices)
    # Pairs of a marked type and the other type that was predicted in its place.
    pairs = [(*pair, count, measured.marked[pair[0]]) for pair, count in measured.confusion.items() if pair[0] != pair[1]]
    confusions = metrics.confusion_metrics(ENTITIES, pl.DataFrame(pairs, ["gold", "given", "len", "support"], orient="row"))
    result = [*_span_metrics(measured, rounds), *confusions, *_score_metrics(comparison, wrong, rounds)]
    unit, decision = (texts_of(comparison.records[name]) for name in ("unit", "decision"))
    result += metrics.record_metrics(decision, unit, {}, np.ones(decision.size, bool), rounds)
    result += metrics.count_metrics(comparison.counts)
    return Evaluation((ENTITIES,), result, list(comparison.notes), comparison.counts, wrong, ENTITIES)


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


def _score_metrics(comparison: Comparison, wrong: pa.Table, rounds: Rounds) -> list[Metric]:
    """How well the scores and margins of predicted mentions tell right from wrong, and the means of their evidence shares."""
    units = comparison.records.select("record_id", "unit")
    predicted = comparison.predicted.join(units, on="record_id", maintain_order="left")
    if not len(predicted):
        return []
    unit, right = texts_of(predicted["unit"]), predicted["right"].to_numpy()
    result = metrics.certainty_metrics(ENTITIES, numbers_of(predicted["score"]), right, unit, len(predicted), rounds)
    values = {name: numbers_of(predicted[name]) for name in _MEANS}
    result += metrics.mean_metrics(ENTITIES, values, unit, rounds)
    with_margin = ~np.isnan(values["margin"])
    if with_margin.any():
        arrays = (values["margin"][with_margin], right[with_margin], unit[with_margin])
        result.append(metrics.ranking_metric(ENTITIES, "auroc_margin", *arrays))
    mistyped = pl.DataFrame(wrong).filter(pl.col("error") == "type_wrong", pl.col("confused_with").is_not_null())
    mistyped = mistyped.join(units, on="record_id", maintain_order="left")
    hits = numbers_of(mistyped["confused_with"] == mistyped["gold_type"])
    return result + metrics.mean_metrics(ENTITIES, {"confused_right": hits}, texts_of(mistyped["unit"]), rounds)


def _wrong(comparison: Comparison, marked: spans.Mentions, predicted: spans.Mentions, slices: Sequence[str]) -> pa.Table:
    """One row per error: first those with a predicted mention, by falling score, then the missed mentions."""
    places = {"start": pl.Int32, "end": pl.Int32, "type": pl.String}
    columns = {"record_id": pl.String, "error": pl.String, **{f"gold_{name}": kind for name, kind in places.items()}, **places}
    nothing = (None, None, None)
    rows = [
        (name, error, *(gold or nothing), *(mention or nothing))
        for name in marked
        for error, gold, mention in spans.errors(set(marked[name]), set(predicted[name]))
    ]
    wrong = pl.DataFrame(rows, schema=columns, orient="row")
    scores = comparison.predicted.select(*MENTION, "score", "margin", "confused_with", "assertion")
    wrong = wrong.join(scores, on=MENTION, how="left").join(comparison.records, on="record_id")
    wrong = wrong.sort("score", "record_id", "start", "gold_start", "type", descending=[True, *[False] * 4], nulls_last=True)
    return in_schema(wrong, wrong_entities_schema(slices))


def compare(
    rows: Rows,
    gold: GoldSpans,
    slices: Sequence[str] = (),
    group: str | None = None,
    known: Iterable[str] | None = None,
    types: Mapping[str, str] | None = None,
) -> Comparison:
    """Joins the entities of a run with the marked mentions of the same records.

    Args:
        rows: a table of entities, or its files. gold: the marked texts.
        slices, group: columns of gold (where a slice is called `slice_<name>`) or else of the run.
        known: the types that the run looks for; None if the model is not at hand.
        types: new names for types of gold or of the run, so that equal types have equal names.
    Raises:
        ConfigError: no record of the run has gold or its text, a column is missing, or gold and the run have no type in common.
    """
    names = dict(types or {})
    records, counts = _joined(rows, gold, slices, group)
    answered = _answered(records)
    scope, notes = _scope(gold, known, names)
    marked = _exploded(answered, "spans", MENTION, names).unique(maintain_order=True)
    predicted = _exploded(answered, "entities", _ENTITY_FIELDS, names)
    predicted = predicted.sort("score", descending=True, maintain_order=True).unique(MENTION, keep="first", maintain_order=True)
    inside, outside = (_in_scope(predicted, answered, scope, how) for how in ("semi", "anti"))
    marked = _in_scope(marked, answered, scope, "semi").sort(MENTION)
    right = marked.select(*MENTION, right=pl.lit(True))
    predicted = inside.join(right, on=MENTION, how="left").with_columns(pl.col("right").fill_null(False)).sort(MENTION)
    pieces = _exploded(answered, "spans", ("record_id", "group_id"), {}).drop_nulls().n_unique()
    never_predicted = marked.join(predicted, on="type", how="anti")
    words = {
        "coordinated": "marks are coordinations, several mentions in one, and are left out.",
        "pieces": "marked mentions consist of several pieces; each piece counts as a mention.",
        "beyond": f"found mentions have a type that is not marked in their dataset, and do not count: {_type_counts(outside)}.",
        "never": f"marked mentions have a type that the run never gives, and count as missed: {_type_counts(never_predicted)}.",
    }
    left_out = (gold.coordinated, pieces, len(outside), len(never_predicted) if known is None else 0)
    notes = [*gold.broken.lines(), *left_out_notes(counts, _LEFT_OUT), *notes]
    notes += left_out_notes(dict(zip(words, left_out, strict=True)), words)
    counts |= {"answered": len(answered), "marked": len(marked), "found": len(predicted)}
    return Comparison(records.drop("spans", "entities"), marked, predicted, notes, counts)


def same_records(run_ids: pl.Series, gold_ids: pl.Series) -> pl.DataFrame:
    """Pairs of a record of the run (`record_id`) and the same record in gold (`gold_id`).

    The ids of a pair are equal, except if the run read a folder of texts, so that its ids are file paths. Then the id in gold may
    also be the path without the ending or, if the name is unique on both sides, the file name without it.
    """
    run, gold = pl.DataFrame({"record_id": run_ids}), pl.DataFrame({"gold_id": gold_ids})
    record_id, gold_id = pl.col("record_id"), pl.col("gold_id")
    path = pl.when(record_id.str.ends_with(_TEXT_FILE)).then(record_id.str.strip_suffix(_TEXT_FILE))
    pairs = []
    for run_key, gold_key in ((record_id, gold_id), (path, gold_id), (_file_name(path), _file_name(gold_id))):
        left = run.with_columns(key=run_key).filter(pl.col("key").is_not_null() & pl.col("key").is_unique())
        right = gold.with_columns(key=gold_key).filter(pl.col("key").is_unique())
        pairs.append(left.join(right, on="key").select("record_id", "gold_id"))
        run = run.join(pairs[-1], on="record_id", how="anti")
        gold = gold.join(pairs[-1], on="gold_id", how="anti")
    return pl.concat(pairs)


def _file_name(path: pl.Expr) -> pl.Expr:
    return path.str.split("/").list.last()


def _joined(rows: Rows, gold: GoldSpans, slices: Sequence[str], group: str | None) -> tuple[pl.DataFrame, dict[str, int]]:
    """The run's rows with the columns of gold, without rows whose text is another than gold's; and counts of the gold texts."""
    marked = pl.DataFrame(gold.records)
    pairs = same_records(pl.Series(selected(rows, ["record_id"])["record_id"]), marked["record_id"])
    if not len(pairs):
        raise ConfigError(
            f"id: none of {len(marked):,} marked texts is in the run by its id. The run's ids come from its input.id and "
            "input.id_scope (jobs.status shows them), those of a folder of texts are its files: name the same column or folder"
        )
    joined = join(rows, marked, ["entities"], slices, group, pairs, "gold")
    gold_columns = joined.gold.select(
        "dataset", "spans", "group", *(f"slice_{name}" for name in slices), gold_sha256="text_sha256"
    )
    both = joined.run.with_columns(*gold_columns, unit=joined.unit)
    answered = _answered(both)
    other_text = answered.filter(pl.col("text_sha256") != pl.col("gold_sha256"))
    if len(answered) and len(other_text) == len(answered):
        raise ConfigError(
            f"gold: none of {len(answered):,} marked texts is the text that the run read under its id, so the marks would "
            "point at other words; name the marks of these very texts"
        )
    records = both.join(other_text, on="record_id", how="anti", maintain_order="left")
    texts, unreadable = gold.broken.texts, gold.broken.count
    counts = {"rows": texts, "unreadable": unreadable, "used": len(marked), "matched": len(records)}
    counts["elsewhere"] = texts - unreadable - len(marked)
    return records, counts | {"without_row": joined.without_row, "other_text": len(other_text)}


def _answered(records: pl.DataFrame) -> pl.DataFrame:
    return records.filter(pl.col("decision").is_in([AUTO, REVIEW]))


def _scope(gold: GoldSpans, known: Iterable[str] | None, names: Mapping[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """The types that count, as rows of `dataset` and `type`, and a note about the types that do not.

    Raises:
        ConfigError: no type counts.
    """
    marked_pairs = [(dataset, names.get(kind, kind)) for dataset, kinds in gold.marked.items() for kind in sorted(kinds)]
    marked = {kind for _, kind in marked_pairs}
    run_types = marked if known is None else {names.get(kind, kind) for kind in known}
    scope = {pair for pair in marked_pairs if pair[1] in run_types}
    if known is not None and not scope:
        raise ConfigError(
            f"types: no type of gold ({_list(marked) or 'none is marked'}) is one that the run looks for ({_list(run_types)}); "
            "give equal types one name, such as types={Disorder: Disease}"
        )
    ignored = marked - run_types
    notes = [f"Marked mentions of {_list(ignored)} are left out: the run does not look for this type."] if ignored else []
    return pl.DataFrame(sorted(scope, key=str), schema={"dataset": pl.String, "type": pl.String}, orient="row"), notes


def _exploded(records: pl.DataFrame, column: str, fields: Sequence[str], names: Mapping[str, str]) -> pl.DataFrame:
    """One row per mention, its types renamed by `names`; a field that older runs lack is null."""
    rows = records.select("record_id", column).filter(pl.col(column).list.len() > 0).explode(column)
    mentions = rows.unnest(column)
    mentions = mentions.with_columns(pl.lit(None, pl.String).alias(name) for name in {*fields} - {*mentions.columns})
    mentions = mentions.select(fields)
    return mentions.with_columns(pl.col(name).replace(names) for name in ("type", "confused_with") if name in fields)


def _in_scope(mentions: pl.DataFrame, records: pl.DataFrame, scope: pl.DataFrame, how: str) -> pl.DataFrame:
    """The mentions whose type counts in their dataset (`semi`), or the others (`anti`)."""
    placed = mentions.join(records.select("record_id", "dataset"), on="record_id", maintain_order="left")
    return placed.join(scope, on=["dataset", "type"], how=how, nulls_equal=True, maintain_order="left").drop("dataset")


def _type_counts(mentions: pl.DataFrame) -> str:
    """Types with their number of mentions, most frequent first."""
    counts = mentions["type"].value_counts().sort("count", "type", descending=[True, False])
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.iter_rows())


def _list(kinds: Iterable[str]) -> str:
    return ", ".join(sorted(kinds))
