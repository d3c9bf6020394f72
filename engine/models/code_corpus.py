"""Labelled texts for training a system of codes: text, a code for each task, and split.

Texts are read a few hundred at a time. `Survey` counts in advance what training must know about all of them, so that only labels
and counts stay in memory.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from operator import or_
from typing import Any, ClassVar, Self

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.models import code_columns
from engine.models.code_columns import SPLITS, CodeData, Splits, files_of, reader_of
from engine.models.code_examples import Encoding, Tokenize
from engine.models.code_system import CodeConfig, new_config
from engine.models.code_task import Task
from engine.models.examples import Preparation
from engine.models.options import TextOptions
from engine.models.repeats import Repeats
from engine.sources.base import Shard
from engine.sources.labelled.splits import TEST, TRAIN, VALID
from engine.sources.labelled.table import unreadable
from engine.storage import Entry, full_path, s3_config


@dataclass
class Survey:
    """Labelled texts, and what is known about all of them after reading.

    The `kind` of a text is `real`, or a system's name for texts that it generates. `counts` has the number of texts by kind and
    split, `labelled` the number of texts with a label by task and split. `repeats` has the texts of valid and test, which must
    not be in an earlier split too; `repeated` counts the texts that are left out for this reason, by their split. `lacking` has
    the optional columns that are missing in the files. `broken` counts unreadable rows by reason, `blank` the labelled rows whose
    text is blank or too large.
    """

    config: CodeData
    repeats: Repeats | None = None
    lacking: Sequence[str] = ()
    counts: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    blank: int = 0
    labelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    _train: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _real: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _splits: Splits = field(default_factory=Splits)

    @classmethod
    def of(cls, config: CodeData) -> Self:
        """Reads all texts twice: only the first reading shows which texts are in several splits.

        Raises:
            ConfigError: no file or an unreadable one, a missing column, a text without an id, an unknown split, or a group in two
                splits.
        """
        survey = cls(config)
        survey.repeats = Repeats.of(survey.texts())
        survey.lacking = code_columns.lacking_of(config)
        for table in survey.texts():
            survey.see(table)
        return survey

    @property
    def tasks(self) -> dict[str, bool]:
        """The tasks, with whether a text may have several codes."""
        return {task: task in self.config.multi_label for task in self.config.labels}

    @property
    def labels(self) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
        """For each task the sorted labels of train, and the number of real training texts with each label."""
        labels = {task: tuple(sorted(self._train[task])) for task in self.tasks}
        return {task: (names, tuple(self._real[task][name] for name in names)) for task, names in labels.items()}

    def files(self) -> list[Entry]:
        """The files of the input, as they are now."""
        return files_of(self.config)

    def pieces(self) -> Iterator[Any]:
        """The input in order, cut into pieces; no piece spans several files."""
        for file in files_of(self.config):
            yield from reader_of(self.config, file)[0].pieces()

    def examples(self, splits: Sequence[str] = SPLITS) -> pa.Table:
        """All texts of these splits: `record_id`, `source`, `text`, `pair`, `split`, `group`, `kind`, and a column for each task:
        a code, or a list of codes if the task is multi-label.

        Rows without text or without any label are left out; a row with a null label is not used for that task.
        """
        names = pa.array(splits, pa.string())
        return pa.concat_tables([table.filter(pc.is_in(table["split"], names)) for table in self.texts()])

    def texts(self) -> Iterator[pa.Table]:
        """All texts, a few hundred at a time, without texts that are also in a later split; checks the splits at the end."""
        self.broken, self.blank, self.repeated, self._splits = Counter(), 0, Counter(), Splits()
        usable = 0
        for piece in self.pieces():
            for table in self.read(piece):
                usable += len(table)
                yield table
        self._splits.check()
        if not usable:
            raise ConfigError("data.path: no report has a text and a label; check data.text and data.labels")

    def read(self, piece: Any) -> Iterator[pa.Table]:
        """The texts of a piece, a few hundred at a time, without texts that are also in a later split."""
        for table in self.usable(piece):
            kept = self.repeats.without_repeats(table) if self.repeats else table
            self.repeated.update(table["split"].to_pylist())
            self.repeated.subtract(kept["split"].to_pylist())
            yield kept

    def usable(self, piece: Shard) -> Iterator[pa.Table]:
        """The rows of a piece with a text and a label."""
        labelled = reduce(or_, (pc.field(task).is_valid() for task in self.config.labels))
        for table in self._rows(piece):
            self._splits.see(table)
            table = table.filter(labelled)
            self.blank += table["text"].null_count
            table = table.filter(pc.field("text").is_valid())
            if table["record_id"].null_count:
                raise ConfigError("data.id: a report has no id; fill the column, or name another")
            yield table

    def _rows(self, piece: Shard) -> Iterator[pa.Table]:
        """The readable rows of a piece."""
        file = piece.slices[0].file
        reader, lacking = reader_of(self.config, file)
        for table in reader.read(piece):
            failed = table.filter(pc.field("failure").is_valid())
            if len(failed):
                kinds = pc.struct_field(failed["failure"], "kind").to_pylist()
                if "unreadable_file" in kinds:
                    raise unreadable(file.path, piece.slices[0].format)
                self.broken.update(kinds)
                table = table.filter(pc.field("failure").is_null())
            yield pa.table(self.columns(table) | code_columns.completed(table, lacking, self.config.cut_share))

    def columns(self, table: pa.Table) -> dict[str, Any]:
        """The columns of `examples`, from the rows of a file."""
        names = ("record_id", "source", "split", "group", "pair", *self.config.labels)
        text, kind = table["text"].cast(pa.string()), pa.array(["real"] * len(table))
        return {**{name: table[name] for name in names}, "text": text, "kind": kind}

    def see(self, texts: pa.Table) -> None:
        """Adds texts to the counts."""
        counted = texts.group_by(["kind", "split"]).aggregate([([], "count_all")]).to_pylist()
        self.counts.update({f"{row['kind']} {row['split']}": row["count_all"] for row in counted})
        for task in self.tasks:
            splits = texts["split"].filter(pc.is_valid(texts[task])).to_pylist()
            self.labelled.update((task, split) for split in splits)
        train = texts.filter(pc.equal(texts["split"], TRAIN))
        real = train.filter(pc.equal(train["kind"], "real"))
        for task in self.tasks:
            self._train[task].update(codes(train[task]))
            self._real[task].update(codes(real[task]))

    def lines(self) -> list[str]:
        """Progress lines: what replaces missing columns, and how many texts are left out."""
        lines = code_columns.lacking_lines(self.config, self.lacking, self.counts)
        reasons = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.broken.items()))
        lines += [f"left out because they cannot be read: {reasons}"] if reasons else []
        lines += [f"left out because the text is blank or over the size limit: {self.blank:,}"] if self.blank else []
        repeated = ", ".join(f"{count:,} of {split}" for split, count in sorted(self.repeated.items()) if count)
        return lines + ([f"left out because the same text is in a later split: {repeated}"] if repeated else [])

    def require(self) -> None:
        """Checks, before anything is trained, that every split can serve its purpose.

        Raises:
            ConfigError: a split has no texts, or no text with a label of one of the tasks.
        """
        present = {name.split()[1] for name in self.counts}
        if not set(SPLITS) <= present:
            if "split" in self.lacking:
                raise ConfigError(
                    f"data.path: {sum(self.counts.values()):,} reports are too few for valid and test; give more, or set "
                    "data.cut_share=0.3"
                )
            raise ConfigError(
                f"data.split: needs reports of train, valid and test; there are only {', '.join(sorted(present))}; "
                "data.split=null splits them anew"
            )
        for task in self.tasks:
            for split in SPLITS:
                if not self.labelled[task, split] or (split == TRAIN and not self._train[task]):
                    raise ConfigError(f"data.labels: no report of {split} has a code of {task}; label some, or leave it out")


def codes(column: pa.ChunkedArray) -> list[str]:
    """All codes in the column of a task, whether it has codes or lists of codes."""
    return (pc.list_flatten(column) if pa.types.is_list(column.type) else column).drop_null().to_pylist()


@dataclass
class LabelledTexts:
    """See `engine.models.base.Corpus`. `survey_class` reads the texts; a system may override it."""

    survey_class: ClassVar[type[Survey]] = Survey

    settings: Mapping[str, Any]
    data: CodeData
    given: Any
    survey: Survey

    @classmethod
    def of(cls, settings: Mapping[str, Any], data: CodeData) -> Self:
        """Reads all texts.

        Raises:
            ConfigError: see `Survey.of` and `Survey.require`.
        """
        files, survey = _file_list(cls.survey_class(data)), cls.survey_class.of(data)
        survey.require()
        return cls(settings, data, files, survey)

    @cached_property
    def config(self) -> CodeConfig:
        tasks = [Task(name, *self.survey.labels[name], many) for name, many in self.survey.tasks.items()]
        return new_config(tasks, self.settings["model"])

    def changed(self) -> bool:
        return _file_list(self.survey) != self.given

    def lines(self) -> list[str]:
        return self.survey.lines()

    @property
    def encoding(self) -> Encoding:
        return Encoding(self.config, self.settings["model"]["encoder"], TextOptions.max_tokens)

    def preparation(self) -> Preparation:
        pieces, encoding = list(self.survey.pieces()), self.encoding
        return Preparation(
            pieces=pieces,
            work=Tokenize(self.survey_class(self.data, self.survey.repeats).read, encoding, replace(s3_config(), proven=True)),
            schema=encoding.schema,
            given=list(map(repr, pieces)),
            facts={"config": self.config.to_json()},
            held=self.data.held,
        )

    @cached_property
    def _held_back(self) -> pa.Table:
        return self.survey.examples((VALID, TEST))

    def part(self, split: str) -> pa.Table:
        """The texts of valid or test, see `Survey.examples`."""
        return self._held_back.filter(pc.equal(self._held_back["split"], split))


def load_texts(settings: Mapping[str, Any]) -> LabelledTexts:
    """Reads the texts at `data.path`.

    Raises:
        ConfigError: no task is named, or a task has only one code; or see `LabelledTexts.of`.
    """
    path = full_path(os.path.expanduser(settings["data"]["path"]))
    settings = {**settings, "data": {**settings["data"], "path": path}}
    if not settings["data"].get("labels"):
        raise ConfigError("data.labels: name the column of at least one task, such as {site: site_code}")
    corpus = LabelledTexts.of(settings, CodeData(**settings["data"]))
    for task, labels in corpus.config.labels.items():
        if len(labels) < 2:
            raise ConfigError(f"data.labels.{task}: the texts of train have {len(labels)} codes; at least two are needed")
    return corpus


def _file_list(survey: Survey) -> list[list[Any]]:
    """Path, size and version of each file of the input, to notice a change."""
    return [[file.path, file.size, file.version] for file in survey.files()]
