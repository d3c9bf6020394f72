"""Labelled reports for training: one table from the user's files and, where asked for, synthetic reports.

Every example says where it comes from: `kind` is `real` or `synthetic`, or that of a sample made from highlights, and figures are
only ever taken from real ones.

Reports are read some hundreds at a time, and what must be known of all of them before training is counted on the way (`survey`),
so that none of it needs room for more than a label, a number or a highlight.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.models.site_classifier.columns import (
    OPTIONAL,
    SPLITS,
    DataConfig,
    Splits,
    completed,
    files_of,
    reader_of,
    told_of,
    unreadable,
)
from engine.models.site_classifier.rationales.samples import RationaleTable, Sampler, codes, held_words
from engine.models.site_classifier.repeats import Repeats
from engine.sources.base import Shard
from engine.sources.labelled.values import CODES, MARKS
from engine.storage import Entry, storage_for

# Synthetic reports that are made at a time, and that a piece has.
_BATCH = 512
_PIECE = 4096


@dataclass(frozen=True)
class Piece:
    """Some records of a file, or the synthetic reports `start` to `stop`."""

    shard: Shard | None = None
    start: int = 0
    stop: int = 0


@dataclass
class Survey:
    """What is known of all examples.

    `counts` by kind and split, and `labelled` by task and split those that have a label; `repeats` are the texts that must not
    stand in an earlier split too, and `repeated` those that did and are left out, by split; the `pairs` of codes that train has
    of the first two tasks with one code each; `samples` that highlights gave, and `rejected` highlights that gave none, as
    `REJECTED` of `engine.models.site_classifier.rationales.samples`. `lacking` are the columns that the files do without,
    `broken` the rows that cannot be read, by why.
    """

    config: DataConfig
    repeats: Repeats
    lacking: Sequence[str] = ()
    counts: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    labelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    samples: pa.Table | None = None
    rejected: pa.Table | None = None
    _train: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _real: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def tasks(self) -> dict[str, bool]:
        """The tasks, and whether each has several codes a report."""
        return {task: task in self.config.multi_label for task in self.config.labels}

    @property
    def labels(self) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
        """For each task its labels, sorted, from train, and how many real training reports have each."""
        found = {}
        for task in self.tasks:
            labels = tuple(sorted(self._train[task]))
            found[task] = (labels, tuple(self._real[task][label] for label in labels))
        return found

    def told(self) -> list[str]:
        """Lines for who waits: what stands in for columns, texts that were left out, and what highlights gave and did not."""
        lines = told_of(self.config, self.lacking, self.counts)
        reasons = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.broken.items()))
        lines += [f"left out, since they cannot be read: {reasons}"] if reasons else []
        lost = ", ".join(f"{count:,} of {split}" for split, count in sorted(self.repeated.items()) if count)
        lines += [f"left out, since the same text stands in a later split: {lost}"] if lost else []
        return [*lines, self._highlights()] if self.config.highlighted else lines

    def _highlights(self) -> str:
        kinds, reasons = Counter(self.samples["kind"].to_pylist()), Counter(self.rejected["reason"].to_pylist())
        given = ", ".join(f"{count:,} {kind}s" for kind, count in sorted(kinds.items())) or "no samples"
        lost = f"; not used: {', '.join(f'{count:,} {reason}' for reason, count in sorted(reasons.items()))}" if reasons else ""
        return f"highlights: {given} for train{lost}"

    def require(self, splits: Sequence[str] = SPLITS) -> None:
        """Sees that every split has what will be asked of it, before anything is trained that could not be measured.

        Raises:
            ConfigError: a split has no reports, or none with a label of some task.
        """
        there = {counted.split()[1] for counted in self.counts}
        if not set(splits) <= there:
            if "split" in self.lacking:
                raise ConfigError(
                    f"data.path: {sum(self.counts.values()):,} reports are too few to cut valid and test from; give more, or set "
                    "data.cut_share=0.3"
                )
            needed = f"{', '.join(splits[:-1])} and {splits[-1]}"
            known = ", ".join(sorted(there))
            raise ConfigError(f"data.split: needs reports of {needed}; there are only {known}; data.split=null cuts them anew")
        for task in self.tasks:
            for split in splits:
                if not self.labelled[task, split] or (split == "train" and not self._train[task]):
                    raise ConfigError(f"data.labels: no report of {split} has a code of {task}; label some, or leave it out")

    def see(self, examples: pa.Table) -> None:
        counted = examples.group_by(["kind", "split"]).aggregate([([], "count_all")]).to_pylist()
        self.counts.update({f"{row['kind']} {row['split']}": row["count_all"] for row in counted})
        for task in self.tasks:
            known = examples["split"].filter(pc.is_valid(examples[task])).to_pylist()
            self.labelled.update((task, split) for split in known)
        train = examples.filter(pc.equal(examples["split"], "train"))
        real = train.filter(pc.equal(train["kind"], "real"))
        for task in self.tasks:
            self._train[task].update(codes(train[task]))
            self._real[task].update(codes(real[task]))
        single = [task for task, many in self.tasks.items() if not many][:2]
        if len(single) == 2:
            both = zip(*(train[task].to_pylist() for task in single), strict=True)
            self.pairs |= {(first, second) for first, second in both if first is not None and second is not None}


def load_examples(config: DataConfig, splits: Sequence[str] = SPLITS, found: Survey | None = None) -> pa.Table:
    """All examples of some splits: `record_id`, `source`, `text`, `pair`, `split`, `group`, `kind`, `leak` (bool), `marks`,
    `unknown` and a column for each task.

    A task's column holds a code, or a list of codes where it is multi-label; of the codes of a list that are not in it, those in
    `unknown` are not known to be wrong. `marks` are a report's highlights, and train has samples made from them; what could not
    be used says `survey`.

    Rows without text or without any label are left out; a null label only means that the row does not teach that task.

    Args:
        found: the survey of these settings, where it is there already.
    Raises:
        ConfigError: no file or one that cannot be read, a missing column, a report without an id, an unknown split, or a group
            that stands in two splits.
    """
    wanted, sampled = pa.array(splits, pa.string()), "train" in splits and config.highlighted
    if sampled:
        found = found or survey(config)
    tables = [each.filter(pc.is_in(each["split"], wanted)) for each in reports(config, repeats=found and found.repeats)]
    return pa.concat_tables([*tables, *([found.samples] if sampled else [])])


def survey(config: DataConfig) -> Survey:
    """All examples are read twice: what stands in several splits is known only then. None is held but the samples.

    Raises:
        ConfigError: see `load_examples`.
    """
    _check(config)
    side = beside(config)
    tasks = {task: task in config.multi_label for task in config.labels}
    vocabulary: dict[str, set[str]] = {task: set() for task in tasks}
    held: set[bytes] = set()

    def first() -> Iterator[pa.Table]:
        for piece in pieces(config):
            for table in _usable(config, piece):
                for task, known in vocabulary.items():
                    known.update(codes(table[task]))
                held.update(side.held_words(table) if side else held_words(table))
                yield table

    found = Survey(config, Repeats.of(first()), _lacking(config))
    sampler = Sampler(config.samples, tasks, vocabulary, held, found.repeats.holds)
    made, rejected = [], []
    for each in reports(config, side, found.repeats, found):
        found.see(each)
        for some, table in zip((made, rejected), sampler.made(each), strict=True):
            if len(table) or not some:
                some.append(table)
    found.samples = pa.concat_tables(made)
    found.see(found.samples)
    found.rejected = pa.concat_tables([*rejected, side.unknown()] if side else rejected)
    return found


def reports(
    config: DataConfig, side: RationaleTable | None = None, repeats: Repeats | None = None, found: Survey | None = None
) -> Iterator[pa.Table]:
    """All reports, real and synthetic, some hundreds at a time, but for those whose text stands in a later split too; at the end
    their splits have been checked.

    Args:
        side: their highlights. repeats: what stands in later splits, where that is known. found: takes note of what is left out.
    """
    _check(config)
    side = side or beside(config)
    repeats = repeats or Repeats.of(table for piece in pieces(config) if piece.shard for table in _usable(config, piece))
    splits, usable = Splits(), 0
    for piece in pieces(config):
        for table in read_piece(config, piece, side, repeats, splits, found):
            usable += len(table)
            yield table
    splits.check()
    if not usable:
        raise ConfigError("data.path: no report has a text and a label; check data.text and data.labels")


def _check(config: DataConfig) -> None:
    if config.synthetic and (config.pair or config.multi_label):
        raise ConfigError("data.synthetic: synthetic reports have one code a task and no second text; set it to 0")
    if config.rationales and config.rationale_table:
        raise ConfigError("data.rationale_table: highlights stand in data.rationales already; name one of them")


def beside(config: DataConfig) -> RationaleTable | None:
    """The highlights that stand beside the reports, if there are such."""
    return RationaleTable(config.rationale_table, config.rationale_rule) if config.rationale_table else None


def listing(config: DataConfig) -> list[Entry]:
    """The files that a training reads, as they are now."""
    table = config.rationale_table
    side = storage_for(table).stat(table) if table else None
    return [*files_of(config), *([side] if side else [])]


def pieces(config: DataConfig) -> Iterator[Piece]:
    """The input in order, cut into pieces of one file each."""
    for file in files_of(config):
        yield from map(Piece, reader_of(config, file)[0].pieces())
    yield from (Piece(None, at, min(at + _PIECE, config.synthetic)) for at in range(0, config.synthetic, _PIECE))


def _lacking(config: DataConfig) -> tuple[str, ...]:
    """Which of split and group the files do without.

    Raises:
        ConfigError: some have such a column and some have none.
    """
    found = {reader_of(config, file)[1] for file in files_of(config)}
    if len(found) > 1:
        name = next(name for name in OPTIONAL if len({name in each for each in found}) > 1)
        raise ConfigError(
            f"data.{name}: some files have a column {OPTIONAL[name]} and some have none; give all of them one, or none"
        )
    return found.pop()


def read_piece(
    config: DataConfig,
    piece: Piece,
    side: RationaleTable | None,
    repeats: Repeats,
    splits: Splits | None = None,
    found: Survey | None = None,
) -> Iterator[pa.Table]:
    """The usable reports of a piece, some hundreds at a time, with their highlights; `splits` and `found` take note of them."""
    for table in _usable(config, piece, splits, found):
        table = side.on(table) if side else table
        kept = repeats.kept(table) if piece.shard is not None else table
        if found is not None:
            found.repeated.update(table["split"].to_pylist())
            found.repeated.subtract(kept["split"].to_pylist())
        yield kept


def _usable(config: DataConfig, piece: Piece, splits: Splits | None = None, found: Survey | None = None) -> Iterator[pa.Table]:
    """What a piece has of reports with a text and a label."""
    if piece.shard is None:
        yield from _synthetic(config, piece)
        return
    for table in _read(config, piece.shard, found):
        if splits is not None:
            splits.see(table)
        labelled = reduce(or_, (pc.field(task).is_valid() for task in config.labels))
        table = table.filter(pc.field("text").is_valid() & labelled)
        if table["record_id"].null_count:
            raise ConfigError("data.id: a report has none; fill the column, or name another")
        yield table


def _read(config: DataConfig, shard: Shard, found: Survey | None) -> Iterator[pa.Table]:
    """The readable rows of a piece, as examples."""
    file = shard.slices[0].file
    reader, lacking = reader_of(config, file)
    for table in reader.read(shard):
        failed = table.filter(pc.field("failure").is_valid())
        if len(failed):
            kinds = pc.struct_field(failed["failure"], "kind").to_pylist()
            if "unreadable_file" in kinds:
                raise unreadable(file.path, shard.slices[0].format)
            if found is not None:
                found.broken.update(kinds)
            table = table.filter(pc.field("failure").is_null())
        columns = completed({name: table[name] for name in ("record_id", "group", "split")}, lacking, config.cut_share)
        columns |= {name: table[name] for name in ("source", "pair", *config.labels)}
        columns["text"] = table["text"].cast(pa.string())
        columns["marks"] = table["marks"] if config.rationales else pa.nulls(len(table), MARKS)
        columns["leak"] = _truth(table["leak"]) if config.leak else pa.array([False] * len(table))
        columns["unknown"] = pa.nulls(len(table), CODES)
        columns["kind"] = pa.array(["real"] * len(table))
        yield pa.table(columns).select(_columns(config))


def _truth(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.bool_())
    except pa.ArrowInvalid:
        raise ConfigError("data.leak: the column must say true or false") from None


def _synthetic(config: DataConfig, piece: Piece) -> Iterator[pa.Table]:
    from engine.sources.synthetic import generate

    for start in range(piece.start, piece.stop, _BATCH):
        count = min(_BATCH, piece.stop - start)
        table = generate(count, config.synthetic_seed, start=start, skew=config.synthetic_skew)
        columns = {
            "record_id": table["record_id"],
            "source": pa.array(["synthetic"] * count),
            "text": table["text"].cast(pa.string()),
            "split": pa.array(["train"] * count),
            "group": table["record_id"],
            "kind": pa.array(["synthetic"] * count),
            "leak": pa.array([False] * count),
            "pair": pa.nulls(count, pa.string()),
            "marks": pa.nulls(count, MARKS),
            "unknown": pa.nulls(count, CODES),
            **{
                task: table[task].cast(pa.string()) if task in table.column_names else pa.nulls(count, pa.string())
                for task in config.labels
            },
        }
        yield pa.table(columns).select(_columns(config))


def _columns(config: DataConfig) -> list[str]:
    return ["record_id", "source", "text", "split", "group", "kind", "leak", "pair", "marks", "unknown", *config.labels]
