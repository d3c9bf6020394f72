"""A run's entities beside marked ones, by record id.

A found mention counts where its type is marked in the document's dataset: any other was not looked for there, so that it is no
error to find one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from engine.errors import ConfigError
from engine.evaluation.joined import join, noted
from engine.evaluation.rows import Rows, numbers_of, quarters, selected
from engine.evaluation.spans import Mention
from engine.records import AUTO, REVIEW
from engine.sources.labelled import GoldSpans

MENTION = ("record_id", "start", "end", "type")
_OF_ENTITY = (*MENTION, "score", "margin", "confused_with", "context_share", "hard_share", "soft_share")
_TEXT_FILE = ".txt"
_LEFT_OUT = {
    "without_row": "marked texts have no row in the run.",
    "other_text": "marked texts are not the texts that the run read; they were left out.",
}


@dataclass(frozen=True)
class Compared:
    """What is held against what.

    `records` are the matched ones: `record_id` (the run's), `decision`, `reasons`, `dataset`, `n_tokens`, `group` as it was given
    and `unit`, what a resample draws whole, `slice_<name>`, `run_id` and `model_digest`. `marked` and `said` have a row a mention
    of an answered record: `record_id`, `start`, `end`, `type`; a found one has its scores and shares too, and whether it is
    `right`: marked just so. `notes` tell what was left out, `counts` how many.
    """

    records: pl.DataFrame
    marked: pl.DataFrame
    said: pl.DataFrame
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
        """Marked and found mentions of every answered record."""
        return tuple(
            {name: [] for name in self.answered["record_id"]}
            | {name: list(zip(*each, strict=True)) for name, *each in of_record.iter_rows()}
            for of_record in (
                some.group_by("record_id", maintain_order=True).agg("start", "end", "type") for some in (self.marked, self.said)
            )
        )

    def parts(self, slices: Sequence[str]) -> dict[str, list[str]]:
        """The answered records of each part: by `slices`, by dataset where there are several, by quarter of their length."""
        answered = self.answered
        columns = {name: answered[f"slice_{name}"] for name in slices}
        if answered["dataset"].n_unique() > 1:
            columns.setdefault("dataset", answered["dataset"])
        columns.setdefault("length", pl.Series(quarters(numbers_of(answered["n_tokens"])), dtype=pl.String))
        parts = {}
        for name, values in columns.items():
            frame = answered.select("record_id", value=values).filter(pl.col("value") != "")
            parts |= {
                f"{name}={value}": names for value, names in frame.group_by("value").agg("record_id").sort("value").iter_rows()
            }
        return parts


def compare(
    rows: Rows,
    gold: GoldSpans,
    slices: Sequence[str] = (),
    group: str | None = None,
    known: Iterable[str] | None = None,
    types: Mapping[str, str] | None = None,
) -> Compared:
    """Brings both sides together.

    Args:
        rows: a table of entities, or its files. gold: its records may have `group` and `slice_<name>` beside their own columns.
        slices, group: these, or columns of the run.
        known: the types that the run looks for; None where the model is not at hand.
        types: another name for types of either side, so that what is meant to be the same has one name.
    Raises:
        ConfigError: no record of the run has gold or its text, a column is missing, or no type of gold is one of the run's.
    """
    names = dict(types or {})
    records, counts = _joined(rows, gold, slices, group)
    answered = _answered(records)
    scope, notes = _scope(gold, known, names)
    marked = _exploded(answered, "spans", MENTION, names).unique(maintain_order=True)
    said = _exploded(answered, "entities", _OF_ENTITY, names)
    said = said.sort("score", descending=True, maintain_order=True).unique(MENTION, keep="first", maintain_order=True)
    within, beyond = (_in_scope(said, answered, scope, how) for how in ("semi", "anti"))
    marked = _in_scope(marked, answered, scope, "semi").sort(MENTION)
    right = marked.select(*MENTION, right=pl.lit(True))
    said = within.join(right, on=MENTION, how="left").with_columns(pl.col("right").fill_null(False)).sort(MENTION)
    notes = [*gold.broken.lines(), *noted(counts, _LEFT_OUT), *notes]
    pieces = _exploded(answered, "spans", ("record_id", "group_id"), {}).drop_nulls().n_unique()
    never = marked.join(said, on="type", how="anti")
    words = {
        "coordinated": "marks are coordinations, several mentions in one, and are left out.",
        "pieces": "marked mentions lie in several pieces; each piece counts as a mention.",
        "beyond": f"found mentions have a type that is not marked in their dataset, and count for nothing: {_named(beyond)}.",
        "never": f"marked mentions have a type that the run never gives, and count as missed: {_named(never)}.",
    }
    lost = (gold.coordinated, pieces, len(beyond), len(never) if known is None else 0)
    notes += noted(dict(zip(words, lost, strict=True)), words)
    counts |= {"answered": len(answered), "marked": len(marked), "said": len(said)}
    return Compared(records.drop("spans", "entities"), marked, said, notes, counts)


def same_records(ours: pl.Series, theirs: pl.Series) -> pl.DataFrame:
    """Which record of the run (`record_id`) is which of gold (`gold_id`).

    They have one id. Where the run read a folder of texts, its ids are the files' paths: the marks of a text stand under its path
    without the ending or, where either side has one such file, under its name.
    """
    run, gold = pl.DataFrame({"record_id": ours}), pl.DataFrame({"gold_id": theirs})
    own, other = pl.col("record_id"), pl.col("gold_id")
    path = pl.when(own.str.ends_with(_TEXT_FILE)).then(own.str.strip_suffix(_TEXT_FILE))
    pairs = []
    for of_run, of_gold in ((own, other), (path, other), (_file_name(path), _file_name(other))):
        left = run.with_columns(key=of_run).filter(pl.col("key").is_not_null() & pl.col("key").is_unique())
        right = gold.with_columns(key=of_gold).filter(pl.col("key").is_unique())
        pairs.append(left.join(right, on="key").select("record_id", "gold_id"))
        run = run.join(pairs[-1], on="record_id", how="anti")
        gold = gold.join(pairs[-1], on="gold_id", how="anti")
    return pl.concat(pairs)


def _file_name(path: pl.Expr) -> pl.Expr:
    return path.str.split("/").list.last()


def _joined(rows: Rows, gold: GoldSpans, slices: Sequence[str], group: str | None) -> tuple[pl.DataFrame, dict[str, int]]:
    """The run's rows beside gold's, those with another text left out; and what became of gold."""
    marked = pl.DataFrame(gold.records)
    pairs = same_records(pl.Series(selected(rows, ["record_id"])["record_id"]), marked["record_id"])
    if not len(pairs):
        raise ConfigError(
            f"id: none of {len(marked):,} marked texts stands in the run by its id. The run's ids come from its input.id and "
            "input.id_scope (jobs.status tells them), those of a folder of texts are its files: name the same column or "
            "folder"
        )
    joined = join(rows, marked, ["entities"], slices, group, pairs, "gold")
    beside = joined.gold.select("dataset", "spans", "group", *(f"slice_{name}" for name in slices), gold_sha256="text_sha256")
    both = joined.run.with_columns(*beside, unit=joined.unit)
    read = _answered(both)
    other = read.filter(pl.col("text_sha256") != pl.col("gold_sha256"))
    if len(read) and len(other) == len(read):
        raise ConfigError(
            f"gold: none of {len(read):,} marked texts is the text that the run read under its id, so that marks would stand at "
            "other words; name the marks of these very texts"
        )
    records = both.join(other, on="record_id", how="anti", maintain_order="left")
    texts, unreadable = gold.broken.texts, gold.broken.count
    counts = {"rows": texts, "unreadable": unreadable, "used": len(marked), "matched": len(records)}
    counts["elsewhere"] = texts - unreadable - len(marked)
    return records, counts | {"without_row": joined.without_row, "other_text": len(other)}


def _answered(records: pl.DataFrame) -> pl.DataFrame:
    return records.filter(pl.col("decision").is_in([AUTO, REVIEW]))


def _scope(gold: GoldSpans, known: Iterable[str] | None, names: Mapping[str, str]) -> tuple[pl.DataFrame, list[str]]:
    """Which types count in which dataset, and what is told of the others.

    Raises:
        ConfigError: none.
    """
    marked = [(dataset, names.get(kind, kind)) for dataset, kinds in gold.marked.items() for kind in sorted(kinds)]
    ours = None if known is None else {names.get(kind, kind) for kind in known}
    scope = {pair for pair in marked if ours is None or pair[1] in ours}
    there = {kind for _, kind in marked}
    if ours is not None and not scope:
        raise ConfigError(
            f"types: no type of gold ({_list(there) or 'none is marked'}) is one that the run looks for ({_list(ours)}); name "
            "those that are the same alike, such as types={Disorder: Disease}"
        )
    strange = there - (there if ours is None else ours)
    notes = [f"Marked mentions of {_list(strange)} are left out: the run looks for no such type."] if strange else []
    return pl.DataFrame(sorted(scope, key=str), schema={"dataset": pl.String, "type": pl.String}, orient="row"), notes


def _exploded(records: pl.DataFrame, column: str, fields: Sequence[str], names: Mapping[str, str]) -> pl.DataFrame:
    """A row a mention, its types under the names they are to have."""
    some = records.select("record_id", column).filter(pl.col(column).list.len() > 0).explode(column)
    mentions = some.unnest(column).select(fields)
    return mentions.with_columns(pl.col(name).replace(names) for name in ("type", "confused_with") if name in fields)


def _in_scope(mentions: pl.DataFrame, records: pl.DataFrame, scope: pl.DataFrame, how: str) -> pl.DataFrame:
    """The mentions whose type counts where they stand (`semi`), or the others (`anti`)."""
    placed = mentions.join(records.select("record_id", "dataset"), on="record_id", maintain_order="left")
    return placed.join(scope, on=["dataset", "type"], how=how, nulls_equal=True, maintain_order="left").drop("dataset")


def _named(mentions: pl.DataFrame) -> str:
    """Types with their numbers, the commonest first."""
    counts = mentions["type"].value_counts().sort("count", "type", descending=[True, False])
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.iter_rows())


def _list(kinds: Iterable[str]) -> str:
    return ", ".join(sorted(kinds))
