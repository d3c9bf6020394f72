"""Labelled reports for training: one table from the user's files and, where asked for, synthetic reports.

Every example says where it comes from: `kind` is `real` or `synthetic`, or that of a sample made from highlights, and figures are
only ever taken from real ones.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from posixpath import basename

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.sources.base import PARQUET, InputConfig
from engine.sources.files import list_files
from engine.storage import Entry, storage_for
from engine.training.rationales import MARKS, codes, highlights, samples, with_table

SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class DataConfig:
    """Where labelled reports are, and which of their columns hold what.

    `labels` maps a task to its column; the column of a task in `multi_label` holds lists of codes. `pair` names the column with
    the second text of a paired model. `split` names the column with train, valid or test; `group` one whose values (patients)
    never cross splits. `synthetic` adds that many generated reports to train, `synthetic_seed` and `synthetic_skew` say which.

    `rationales` names a column with highlights, `rationale_table` a Parquet file with them; `samples` are the kinds of samples
    that train gets from them, see `engine.training.rationales`.
    """

    path: str
    id: str = "record_id"
    text: str = "text"
    split: str = "split"
    group: str = "patient_id"
    labels: Mapping[str, str] = field(default_factory=lambda: {"site": "site", "histology": "histology"})
    multi_label: Sequence[str] = ()
    pair: str | None = None
    leak: str | None = None
    synthetic: int = 0
    synthetic_seed: int = 11
    synthetic_skew: str = "uniform"
    rationales: str | None = None
    rationale_table: str | None = None
    samples: Sequence[str] = ("rationale",)


def load_examples(config: DataConfig) -> pa.Table:
    """All examples: `record_id`, `source`, `text`, `pair`, `split`, `group`, `kind`, `leak` (bool), `marks` and a column for each
    task.

    A task's column holds a code, or a list of codes where it is multi-label. `marks` are a report's highlights, and train has
    samples made from them; what could not be used says `rejected_rationales`.

    Rows without text or without any label are left out; a null label only means that the row does not teach that task.

    Raises:
        ConfigError: no file or one that is no Parquet, a missing column, an unknown split, or a group that stands in two splits.
    """
    examples, labels = _reports(config), {task: task in config.multi_label for task in config.labels}
    return pa.concat_tables([examples, samples(examples, config.samples, labels)[0]])


def rejected_rationales(config: DataConfig) -> pa.Table:
    """Highlights that teach nothing, and why, as `engine.training.rationales.REJECTED`."""
    examples, labels = _reports(config), {task: task in config.multi_label for task in config.labels}
    found = [samples(examples, config.samples, labels)[1]]
    if config.rationale_table:
        found.append(with_table(examples, config.rationale_table)[1])
    return pa.concat_tables(found)


def _reports(config: DataConfig) -> pa.Table:
    examples = pa.concat_tables([_read(config, file) for file in _files(config)])
    _check_splits(examples)
    if config.rationales and config.rationale_table:
        raise ConfigError("data.rationale_table: highlights stand in data.rationales already; name one of them")
    if config.rationale_table:
        examples = with_table(examples, config.rationale_table)[0]
    if config.synthetic:
        if config.pair or config.multi_label:
            raise ConfigError("data.synthetic: synthetic reports have one code a task and no second text; set it to 0")
        examples = pa.concat_tables([examples, _synthetic(config)])
    labelled = [pc.is_valid(examples[task]) for task in config.labels]
    usable = pc.is_valid(examples["text"])
    for mask in labelled[1:]:
        labelled[0] = pc.or_(labelled[0], mask)
    return examples.filter(pc.and_(usable, labelled[0]))


def label_sets(examples: pa.Table, tasks: Sequence[str]) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """For each task its labels, sorted, from train, and how many real training reports have each."""
    train = examples.filter(pc.equal(examples["split"], "train"))
    real = train.filter(pc.equal(train["kind"], "real"))
    found = {}
    for task in tasks:
        labels = tuple(sorted(set(codes(train[task]))))
        support = Counter(codes(real[task]))
        found[task] = (labels, tuple(support[label] for label in labels))
    return found


def _files(config: DataConfig) -> list[Entry]:
    try:
        return list_files(InputConfig(config.path, None, format=PARQUET), storage_for(config.path))
    except ConfigError as error:
        told = str(error).replace("input.path", "data.path").removesuffix("; set input.format")
        raise ConfigError(told) from None


def _read(config: DataConfig, file: Entry) -> pa.Table:
    wanted = {"record_id": config.id, "text": config.text, "split": config.split, "group": config.group, **config.labels}
    further = (("leak", config.leak), ("pair", config.pair), ("marks", config.rationales))
    wanted |= {key: column for key, column in further if column}
    name = basename(file.path)
    try:
        with storage_for(file.path).open(file.path, file) as stream:
            parquet = pq.ParquetFile(stream)
            known = parquet.schema_arrow.names
            missing = sorted(set(wanted.values()) - set(known))
            if missing:
                raise ConfigError(f"data: {name} has no column {', '.join(missing)}; it has {', '.join(known)}")
            table = parquet.read(columns=sorted(set(wanted.values())))
    except pa.ArrowInvalid:
        raise ConfigError(f"data.path: {name} cannot be read as Parquet; write it again, or leave it out") from None
    types = {"leak": pa.bool_(), **{task: pa.list_(pa.string()) for task in config.multi_label}}
    try:
        columns = {key: table[column].cast(types.get(key, pa.string())) for key, column in wanted.items() if key != "marks"}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise ConfigError(
            f"data: a column of {name} has the wrong type; codes are text, lists of it for data.multi_label"
        ) from None
    columns["marks"] = (
        highlights(table[config.rationales], "data.rationales") if config.rationales else pa.nulls(len(table), MARKS)
    )
    columns.setdefault("leak", pa.array([False] * len(table)))
    columns.setdefault("pair", pa.nulls(len(table), pa.string()))
    columns["source"] = pa.array([name] * len(table))
    columns["kind"] = pa.array(["real"] * len(table))
    return pa.table(columns).select(_columns(config))


def _synthetic(config: DataConfig) -> pa.Table:
    from engine.sources.synthetic import generate

    table = generate(config.synthetic, config.synthetic_seed, skew=config.synthetic_skew)
    count = len(table)
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
        **{
            task: table[task].cast(pa.string()) if task in table.column_names else pa.nulls(count, pa.string())
            for task in config.labels
        },
    }
    return pa.table(columns).select(_columns(config))


def _columns(config: DataConfig) -> list[str]:
    return ["record_id", "source", "text", "split", "group", "kind", "leak", "pair", "marks", *config.labels]


def _check_splits(examples: pa.Table) -> None:
    unknown = sorted(set(examples["split"].to_pylist()) - set(SPLITS), key=str)
    if unknown:
        raise ConfigError(f"data.split: values must be {', '.join(SPLITS)}; found {len(unknown)} others")
    pairs = examples.group_by("group").aggregate([("split", "count_distinct")])
    crossing = pc.sum(pc.greater(pairs["split_count_distinct"], 1)).as_py() or 0
    if crossing:
        raise ConfigError(f"data.group: {crossing} groups stand in more than one split; a patient must not cross splits")
