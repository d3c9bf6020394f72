"""Labelled reports for training: the user's, synthetic ones where asked for, and samples made from highlights.

Figures are only ever taken from real reports.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.models.code_columns import SPLITS
from engine.models.code_corpus import Survey, codes
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.rationales.samples import REJECTED, RationaleTable, Sampler, held_words
from engine.sources.base import Shard
from engine.sources.labelled.splits import TRAIN
from engine.sources.labelled.values import CODES, MARKS
from engine.storage import Entry, storage_for

# Synthetic reports that are made at a time, and that a piece has.
_BATCH = 512
_PIECE = 4096


@dataclass
class ReportSurvey(Survey):
    """Texts have `leak` (bool), `marks` and `unknown` too: a report's highlights, and of the codes of a list that are not in it
    those that are not known to be wrong.

    `pairs` of codes are those that train has of the first two tasks with one code each. `samples` are what highlights gave for
    train, and `rejected` the highlights that gave none, as `REJECTED` of `engine.models.site_classifier.rationales.samples`.
    """

    config: DataConfig
    pairs: set[tuple[str, str]] = field(default_factory=set)
    samples: pa.Table | None = None
    rejected: pa.Table = field(default_factory=REJECTED.empty_table)
    _side: RationaleTable | None = None
    _vocabulary: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _held: set[bytes] = field(default_factory=set)
    _made: list[tuple[pa.Table, pa.Table]] = field(default_factory=list)

    @classmethod
    def of(cls, config: DataConfig) -> Self:
        found = super().of(config)
        made, rejected = zip(*found._made, strict=True)
        found.samples = pa.concat_tables(made)
        found.rejected = pa.concat_tables([*rejected, *([found._side.unknown()] if found._side else [])])
        found.see(found.samples)
        return found

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.config.samples, self.tasks, self._vocabulary, self._held, self.repeats.holds)

    def files(self) -> list[Entry]:
        table = self.config.rationale_table
        side = storage_for(table).stat(table) if table else None
        return [*super().files(), *([side] if side else [])]

    def pieces(self) -> Iterator[Shard | range]:
        """Those of files, and numbers of synthetic reports."""
        yield from super().pieces()
        count = self.config.synthetic
        yield from (range(at, min(at + _PIECE, count)) for at in range(0, count, _PIECE))

    def examples(self, splits: Sequence[str] = SPLITS) -> pa.Table:
        found = super().examples(splits)
        return pa.concat_tables([found, self.samples]) if TRAIN in splits else found

    def texts(self) -> Iterator[pa.Table]:
        self._side = None
        for table in super().texts():
            for task in self.tasks:
                self._vocabulary[task].update(codes(table[task]))
            self._held |= held_words(table)
            yield table

    def read(self, piece: Shard | range) -> Iterator[pa.Table]:
        return self._synthetic(piece) if isinstance(piece, range) else super().read(piece)

    def usable(self, piece: Shard) -> Iterator[pa.Table]:
        config = self.config
        if config.rationale_table and self._side is None:
            self._side = RationaleTable(config.rationale_table)
        for table in super().usable(piece):
            yield self._side.on(table) if self._side else table

    def columns(self, table: pa.Table) -> dict[str, Any]:
        count, config = len(table), self.config
        marks = table["marks"] if config.rationales else pa.nulls(count, MARKS)
        leak = _truth(table["leak"]) if config.leak else pa.array([False] * count)
        return super().columns(table) | {"leak": leak, "marks": marks, "unknown": pa.nulls(count, CODES)}

    def see(self, texts: pa.Table) -> None:
        super().see(texts)
        train = texts.filter(pc.equal(texts["split"], TRAIN))
        single = [task for task, many in self.tasks.items() if not many][:2]
        if len(single) == 2:
            both = zip(*(train[task].to_pylist() for task in single), strict=True)
            self.pairs |= {(first, second) for first, second in both if first is not None and second is not None}
        self._made.append(self._sampler.made(texts))

    def told(self) -> list[str]:
        if not self.config.highlighted:
            return super().told()
        kinds, reasons = Counter(self.samples["kind"].to_pylist()), Counter(self.rejected["reason"].to_pylist())
        given = ", ".join(f"{count:,} {kind}s" for kind, count in sorted(kinds.items())) or "no samples"
        lost = f"; not used: {', '.join(f'{count:,} {reason}' for reason, count in sorted(reasons.items()))}" if reasons else ""
        return [*super().told(), f"highlights: {given} for train{lost}"]

    def _synthetic(self, numbers: range) -> Iterator[pa.Table]:
        from engine.sources.synthetic import generate

        for start in numbers[::_BATCH]:
            count = min(_BATCH, numbers.stop - start)
            made = generate(count, self.config.synthetic_seed, start=start, skew=self.config.synthetic_skew)
            none = pa.nulls(count, pa.string())
            rows = {
                "record_id": made["record_id"],
                "source": pa.array(["synthetic"] * count),
                "text": made["text"],
                "split": pa.array([TRAIN] * count),
                "group": made["record_id"],
                "pair": none,
                "marks": pa.nulls(count, MARKS),
                "leak": pa.array([False] * count),
                **{task: made[task].cast(pa.string()) if task in made.column_names else none for task in self.config.labels},
            }
            yield pa.table(self.columns(pa.table(rows)) | {"kind": pa.array(["synthetic"] * count)})


def _truth(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.bool_())
    except pa.ArrowInvalid:
        raise ConfigError("data.leak: the column must say true or false") from None
