"""A bank of concepts from reports: two side tables, and how a finished bank is read.

`observations`: each report is split into observations, which are counted by report; equal are those that differ in case, white
space and a final stop alone. `concept_bank`: the observations of enough reports, the commonest first, with their embeddings.
`concept_id` is the row. The bank's file says which embedder made it and how well that tells presence from absence.
"""

import hashlib
import json
import pkgutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from engine import __version__, sources
from engine.encoders import encoder_digest
from engine.errors import ConfigError, InputChanged, RowError
from engine.models.base import SideTable
from engine.models.clear.negation import ENOUGH, negation_auc
from engine.models.embedding import embed
from engine.sources.labelled import Labelled
from engine.storage import storage_for
from engine.text.chest.extractor import Extractor, ExtractorConfig

__all__ = ["ENOUGH", "Bank", "bank_table", "observation_table", "read_bank", "unreadable"]

OBSERVATIONS, BANK = "observations", "concept_bank"
_COUNTS = pa.schema([("text", pa.string()), ("n_reports", pa.int64())])
_PIECE_BYTES, _ROWS = 8 << 20, 4096


def observation_table(
    reports: Labelled, splitter: str, extractor: ExtractorConfig | None = None
) -> tuple[SideTable, dict[str, Any]]:
    """The first table and its settings. A row without a text counts the reports that cannot be read.

    Args:
        splitter: `module:function`, called as `function(text) -> list[str]`.
        extractor: a language model that is asked instead.
    Raises:
        ConfigError: there is nothing to read, a column is missing, or there is no such function.
    """
    _function(splitter)
    with reports.renaming():
        config = reports.input()
        storage = storage_for(config.path)
        files = sources.list_files(config, storage)
        sources.keep_fields(config, storage, files)
        parts = [sources.to_json(shard) for shard in sources.cut(config, storage, files, _PIECE_BYTES)]
    asked = {} if extractor is None else {"extractor": asdict(extractor)}
    settings = {"splitter": splitter, "engine": __version__, "input": asdict(config), **asked}
    return SideTable(OBSERVATIONS, _COUNTS, parts, f"{__name__}:count", f"{__name__}:counted"), settings


def count(part: Mapping[str, Any], settings: Mapping[str, Any]) -> pa.Table:
    """The observations of a piece of the reports, each with the number of reports that have it."""
    config = sources.InputConfig(**settings["input"])
    if "extractor" in settings:
        split = Extractor(ExtractorConfig(**settings["extractor"])).observations
    else:
        split = _function(settings["splitter"])
    records = sources.read(config, storage_for(config.path), sources.from_json(part), [])
    numbers: Counter[str | None] = Counter()
    for text in records["text"].to_pylist():
        try:
            numbers.update([None] if text is None else {normal(observation) for observation in split(text)} - {""})
        except RowError:
            # A language model's answer that is no list of texts.
            numbers.update([None])
    return counted([pa.table([list(numbers), list(numbers.values())], _COUNTS)], settings)


def counted(parts: Sequence[pa.Table], settings: Mapping[str, Any]) -> pa.Table:
    grouped = pa.concat_tables(parts).group_by("text", use_threads=False).aggregate([("n_reports", "sum")])
    return grouped.rename_columns(_COUNTS.names).sort_by("text")


def normal(observation: str) -> str:
    """An observation in lower case, with single blanks and without a final stop."""
    return " ".join(observation.lower().split()).rstrip(" .")


def bank_table(observations: str, embedder: str, instruction: str, least: int) -> tuple[SideTable, dict[str, Any]]:
    """The second table and its settings.

    Args:
        observations: path of the first table. least: number of reports that an observation must be in.
    Raises:
        ConfigError: there is no such embedder, or no observation is left.
    """
    texts, numbers = _common(observations, least)
    if not texts:
        raise ConfigError(
            f"no observation is in at least {least:,} of the reports; lower bank.min_reports, or give more reports", "data.path"
        )
    width = embed(texts[:1], embedder, instruction=instruction).shape[1]
    facts = {"embedder": embedder, "embedder_sha256": encoder_digest(embedder), "instruction": instruction}
    area = negation_auc(partial(embed, name=embedder, instruction=instruction))
    fields = [("concept_id", pa.int32()), *_COUNTS, ("embedding", pa.list_(pa.float16(), width))]
    schema = pa.schema(fields, metadata={BANK: json.dumps({**facts, "negation_auc": round(area, 3)})})
    parts = [[start, min(start + _ROWS, len(texts))] for start in range(0, len(texts), _ROWS)]
    rows = "\n".join(f"{number} {text}" for number, text in zip(numbers, texts, strict=True))
    settings = {
        **facts,
        "rows_sha256": hashlib.sha256(rows.encode()).hexdigest(),
        "least": least,
        "runtime": {"observations": observations},
    }
    return SideTable(BANK, schema, parts, f"{__name__}:embedded", f"{__name__}:joined"), settings


def embedded(part: Sequence[int], settings: Mapping[str, Any]) -> pa.Table:
    """Some rows of the bank."""
    start, stop = part
    texts, numbers = (column[start:stop] for column in _common(settings["runtime"]["observations"], settings["least"]))
    vectors = embed(texts, settings["embedder"], instruction=settings["instruction"]).astype(np.float16)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    ids = pa.array(range(start, stop), pa.int32())
    return pa.table([ids, texts, numbers, column], ["concept_id", "text", "n_reports", "embedding"])


def joined(parts: Sequence[pa.Table], settings: Mapping[str, Any]) -> pa.Table:
    return pa.concat_tables(parts)


def unreadable(observations: str) -> int:
    """How many reports the first table could not read."""
    table = _read(observations)
    return sum(table.filter(table["text"].is_null())["n_reports"].to_pylist())


@dataclass(frozen=True)
class Bank:
    """A finished bank of C concepts: `texts`, `n_reports` [C], `embeddings` [C, e] fp16, and the SHA-256 of its file. `facts` are
    `embedder`, `embedder_sha256`, `instruction` and `negation_auc`."""

    texts: list[str]
    n_reports: NDArray
    embeddings: NDArray
    sha256: str
    facts: Mapping[str, Any]

    def embed(self, texts: Sequence[str]) -> NDArray:
        """The embeddings [n, e] of other texts, such as prompts, made as those of the concepts were.

        Raises:
            ConfigError: the embedder is not here, or another one has its name.
        """
        name = self.facts["embedder"]
        if encoder_digest(name) != self.facts["embedder_sha256"]:
            raise ConfigError(f"bank: {name} is not the embedder that made this bank; build the bank again")
        return embed(texts, name, instruction=self.facts["instruction"])


def read_bank(path: str, sha256: str | None = None) -> Bank:
    """A bank from its file.

    Args:
        sha256: what its digest must be.
    Raises:
        ConfigError: it is no bank. InputChanged: it has another digest.
    """
    data = storage_for(path).read(path)
    if data is None:
        raise ConfigError(f"bank: there is no file {path}; make one with jobs.build_concept_bank")
    digest = hashlib.sha256(data).hexdigest()
    if sha256 not in (None, digest):
        raise InputChanged(f"bank: {path} is not the bank that this model was made with (sha256 {digest[:12]}...); bring it back")
    try:
        table = pq.read_table(pa.BufferReader(data))
        facts = json.loads((table.schema.metadata or {})[BANK.encode()])
    except (pa.ArrowInvalid, KeyError):
        raise ConfigError(f"bank: {path} is no bank of concepts; make one with jobs.build_concept_bank") from None
    embeddings = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return Bank(table["text"].to_pylist(), table["n_reports"].to_numpy(), embeddings, digest, facts)


def _common(observations: str, least: int) -> tuple[list[str], list[int]]:
    """The observations of at least so many reports and their numbers, the commonest first, of equals by text."""
    table = _read(observations)
    table = table.filter(table["text"].is_valid()).sort_by([("n_reports", "descending"), ("text", "ascending")])
    numbers = table["n_reports"].to_numpy()
    table = table.slice(0, int((numbers >= least).sum()))
    return table["text"].to_pylist(), table["n_reports"].to_pylist()


def _read(path: str) -> pa.Table:
    with storage_for(path).open(path) as stream:
        return pq.read_table(stream)


def _function(name: str) -> Callable[[str], list[str]]:
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        raise ConfigError(f"there is no function '{name}'; give module:function", "bank.splitter") from None
