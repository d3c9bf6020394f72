"""Labelled reports for training: the user's, synthetic ones on request, and samples made from highlights.

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
from engine.models.site_classifier.rationales import REJECTED, RationaleTable, Sampler, held_out_words
from engine.sources.base import Shard
from engine.sources.labelled.splits import TRAIN
from engine.sources.labelled.values import CODES, MARKS
from engine.storage import Entry, storage_for

# Synthetic reports made at a time, and those of one piece.
_BATCH = 512
_PIECE = 4096


@dataclass
class ReportSurvey(Survey):
    """Texts also have `leak` (bool), `marks` (highlights), and `unknown` (codes that a list lacks although they may apply).

    `pairs` are the pairs of codes that train has for the first two tasks with one code each. `samples` are made from the
    highlights of train, and `rejected` are the highlights that gave none, as `REJECTED` of `rationales`.
    """

    config: DataConfig
    pairs: set[tuple[str, str]] = field(default_factory=set)
    samples: pa.Table | None = None
    rejected: pa.Table = field(default_factory=REJECTED.empty_table)
    _highlights: RationaleTable | None = None
    _vocabulary: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _held_out: set[bytes] = field(default_factory=set)
    _parts: list[tuple[pa.Table, pa.Table]] = field(default_factory=list)

    @classmethod
    def of(cls, config: DataConfig) -> Self:
        survey = super().of(config)
        samples, rejected = zip(*survey._parts, strict=True)
        survey.samples = pa.concat_tables(samples)
        survey.rejected = pa.concat_tables([*rejected, *([survey._highlights.unknown()] if survey._highlights else [])])
        survey.see(survey.samples)
        return survey

    @cached_property
    def _sampler(self) -> Sampler:
        return Sampler(self.config.samples, self.tasks, self._vocabulary, self._held_out, self.repeats.holds)

    @property
    def unused(self) -> dict[str, int]:
        """How many highlights gave no sample, by reason."""
        return dict(sorted(Counter(self.rejected["reason"].to_pylist()).items()))

    def files(self) -> list[Entry]:
        path = self.config.rationale_table
        table = storage_for(path).stat(path) if path else None
        return [*super().files(), *([table] if table else [])]

    def pieces(self) -> Iterator[Shard | range]:
        """The pieces of files, then ranges of synthetic reports."""
        yield from super().pieces()
        count = self.config.synthetic
        yield from (range(at, min(at + _PIECE, count)) for at in range(0, count, _PIECE))

    def examples(self, splits: Sequence[str] = SPLITS) -> pa.Table:
        reports = super().examples(splits)
        return pa.concat_tables([reports, self.samples]) if TRAIN in splits else reports

    def texts(self) -> Iterator[pa.Table]:
        self._highlights = None
        for table in super().texts():
            for task in self.tasks:
                self._vocabulary[task].update(codes(table[task]))
            self._held_out |= held_out_words(table)
            yield table

    def read(self, piece: Shard | range) -> Iterator[pa.Table]:
        return self._synthetic(piece) if isinstance(piece, range) else super().read(piece)

    def usable(self, piece: Shard) -> Iterator[pa.Table]:
        if self.config.rationale_table and self._highlights is None:
            self._highlights = RationaleTable(self.config.rationale_table)
        for table in super().usable(piece):
            yield self._highlights.add_to(table) if self._highlights else table

    def columns(self, table: pa.Table) -> dict[str, Any]:
        count, config = len(table), self.config
        marks = table["marks"] if config.rationales else pa.nulls(count, MARKS)
        leak = pa.array([False] * count)
        if config.leak:
            try:
                leak = table["leak"].cast(pa.bool_())
            except pa.ArrowInvalid:
                raise ConfigError("data.leak: the column must say true or false") from None
        return super().columns(table) | {"leak": leak, "marks": marks, "unknown": pa.nulls(count, CODES)}

    def see(self, texts: pa.Table) -> None:
        super().see(texts)
        train = texts.filter(pc.equal(texts["split"], TRAIN))
        single = [task for task, many in self.tasks.items() if not many][:2]
        if len(single) == 2:
            both = zip(*(train[task].to_pylist() for task in single), strict=True)
            self.pairs |= {(first, second) for first, second in both if first is not None and second is not None}
        self._parts.append(self._sampler.samples(texts))

    def lines(self) -> list[str]:
        if not self.config.highlighted:
            return super().lines()
        kinds = Counter(self.samples["kind"].to_pylist())
        samples = ", ".join(f"{count:,} {kind}s" for kind, count in sorted(kinds.items())) or "no samples"
        rejected = ", ".join(f"{count:,} {reason}" for reason, count in self.unused.items())
        return [*super().lines(), f"highlights: {samples} for train{f'; not used: {rejected}' if rejected else ''}"]

    def _synthetic(self, numbers: range) -> Iterator[pa.Table]:
        from engine.sources.synthetic import generate

        for start in numbers[::_BATCH]:
            count = min(_BATCH, numbers.stop - start)
            reports = generate(count, self.config.synthetic_seed, start=start, skew=self.config.synthetic_skew)
            none = pa.nulls(count, pa.string())
            rows = {
                "record_id": reports["record_id"],
                "source": pa.array(["synthetic"] * count),
                "text": reports["text"],
                "split": pa.array([TRAIN] * count),
                "group": reports["record_id"],
                "pair": none,
                "marks": pa.nulls(count, MARKS),
                "leak": pa.array([False] * count),
                **{t: reports[t].cast(pa.string()) if t in reports.column_names else none for t in self.config.labels},
            }
            yield pa.table(self.columns(pa.table(rows)) | {"kind": pa.array(["synthetic"] * count)})
