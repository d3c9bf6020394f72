"""The tables between the phases: what tokens say for a type over the training texts, and what each drawn entity's evidence is.

One marked entity of every window of a training text is drawn, anew for each round, and targets are made for a share of the
windows. Both tables come from the network as the phase before left it, and from training texts alone. The global table is after
SP-LIME (Ribeiro et al. 2016, section 4):

    G[u, y] = sum over explanations of type y and words i of token u of a_i n, over (N[u, y] + 10)

with a_i the word's weight (gradient x input), n the words of its window, and N the number of terms.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from engine.explain.explain import explain
from engine.explain.explanation import OK, Explanation
from engine.explain.settings import Settings
from engine.models.base import SideTable
from engine.models.entities.examples import Examples
from engine.models.entities.explainable import Place
from engine.models.entities.spans import spans_within, windows, without_overlaps
from engine.models.examples import read_shard
from engine.models.guided_ner.attributable import Live, SpanModel
from engine.models.guided_ner.begin import begun, facts_of, vocabulary_of
from engine.models.guided_ner.config import LearnConfig
from engine.records import seed_of
from engine.storage import storage_for

TOKENS, TARGETS = "tokens", "targets"
_PARTS, _SHRINK, _COPIES, _TOGETHER = 8, 10.0, 2, 32
_TOKEN_SCHEMA = pa.schema([("token", pa.int32()), ("type", pa.int32()), ("weight", pa.float64()), ("count", pa.int64())])
_TARGET_SCHEMA = pa.schema(
    [
        ("record_id", pa.string()),
        *((name, pa.int32()) for name in ("window", "first", "last", "type")),
        ("weight", pa.list_(pa.float32())),
    ]
)
# Of a window: the first and the last token there and the type of its drawn entity, and the weights of its words.
Target = tuple[int, int, int, np.ndarray]


def tables() -> tuple[SideTable, SideTable]:
    """The tables that a guided phase needs."""
    parts = list(range(_PARTS))
    return (
        SideTable(TOKENS, _TOKEN_SCHEMA, parts, f"{__name__}:token_weights", f"{__name__}:summed"),
        SideTable(TARGETS, _TARGET_SCHEMA, parts, f"{__name__}:fused_targets", f"{__name__}:joined"),
    )


def token_weights(part: int, settings: Mapping[str, Any]) -> pa.Table:
    """Sums of a_i n by token and type over a part of the training texts."""
    rows = []
    for _, place, _, explanation in _explained(part, settings, "gradient_x_input", Settings(residual=False)):
        weights = explanation.weight[place.window.word - place.window.word[0]] * len(explanation.weight)
        rows += [(int(token), place.type, float(weight), 1) for token, weight in zip(place.window.ids, weights, strict=True)]
    columns = zip(*rows, strict=True) if rows else [()] * 4
    table = pa.table([pa.array(column, kind.type) for column, kind in zip(columns, _TOKEN_SCHEMA, strict=True)], _TOKEN_SCHEMA)
    return summed([table], settings)


def summed(parts: Sequence[pa.Table], settings: Mapping[str, Any]) -> pa.Table:
    grouped = pa.concat_tables(parts).group_by(["token", "type"], use_threads=False)
    sums = grouped.aggregate([("weight", "sum"), ("count", "sum")])
    return sums.rename_columns(["token", "type", "weight", "count"]).select(_TOKEN_SCHEMA.names).cast(_TOKEN_SCHEMA)


def fused_targets(part: int, settings: Mapping[str, Any]) -> pa.Table:
    """The weights of the words of each drawn entity of a part of the training texts, by fusion."""
    learn = LearnConfig(**settings["learn"])
    how = Settings(residual=False, fuse=tuple(learn.targets), perturbations=_COPIES, seed=settings["round"])
    rows = [
        (record_id, place.window.start, first, last, place.type, explanation.weight.astype(np.float32))
        for record_id, place, (first, last), explanation in _explained(part, settings, "fused", how, learn.guided)
        if explanation.status == OK
    ]
    return pa.Table.from_pylist([dict(zip(_TARGET_SCHEMA.names, row, strict=True)) for row in rows], _TARGET_SCHEMA)


def joined(parts: Sequence[pa.Table], settings: Mapping[str, Any]) -> pa.Table:
    return pa.concat_tables(parts)


def global_table(path: str, vocabulary: int, types: int) -> torch.Tensor:
    """G [vocabulary, types] from the finished table `tokens`."""
    table, values = _read(path), torch.zeros(vocabulary, types)
    if len(table):
        token, kind, weight, count = (torch.tensor(table[name].to_numpy()) for name in _TOKEN_SCHEMA.names)
        values[token.long(), kind.long()] = (weight / (count + _SHRINK)).float()
    return values


def read_targets(path: str) -> dict[tuple[str, int], Target]:
    """The finished table `targets`, by record and first token of the window."""
    return {
        (row["record_id"], row["window"]): (row["first"], row["last"], row["type"], np.array(row["weight"], np.float32))
        for row in _read(path).to_pylist()
    }


def _explained(
    part: int, settings: Mapping[str, Any], method: str, how: Settings, share: float = 1.0
) -> Iterator[tuple[str, Place, tuple[int, int], Explanation]]:
    """The drawn entities of every eighth training text: record, place, first and last token, explanation."""
    model, drawn = _model(settings), list(_drawn(part, settings, share))
    drawn.sort(key=lambda each: len(each[1].window))
    for at in range(0, len(drawn), _TOGETHER):
        group = drawn[at : at + _TOGETHER]
        names = [f"{record_id} {place.window.start}" for record_id, place, _ in group]
        batch = model.spans([place for _, place, _ in group], names)
        targets = torch.tensor([tokens for *_, tokens in group])
        for (record_id, place, tokens), explanation in zip(group, explain(model, batch, targets, method, how), strict=True):
            yield record_id, place, tokens, explanation


def _drawn(part: int, settings: Mapping[str, Any], share: float) -> Iterator[tuple[str, Place, tuple[int, int]]]:
    examples, config = Examples.from_table(read_shard(settings["examples"], "all")), facts_of(settings)["config"]
    for member in np.flatnonzero(examples.train)[part::_PARTS].tolist():
        tokens, record_id = examples.tokens[member], examples.record_id[member]
        spans, places = without_overlaps(examples.spans[member], across_types=True), _words(tokens.word_of_token)
        for window in windows(member, tokens.ids, tokens.word_of_token, config["window"], config["overlap"]):
            held = spans_within(window, spans)
            seed = seed_of(record_id, "target", window.start, settings["round"], settings["seed"])
            rng = np.random.default_rng(seed)
            if held and rng.random() < share:
                first, last, kind = held[rng.integers(len(held))]
                yield record_id, Place(window, kind, *places), (first, last)


def _words(word_of_token: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words counted instead of placed: examples have no text."""
    start = np.arange(int(word_of_token[-1]) + 1)
    return start, start + 1, np.ones(len(start), bool)


def _model(settings: Mapping[str, Any]) -> SpanModel:
    facts = facts_of(settings)
    network = begun(settings, facts, torch.device("cpu")).eval()
    if TOKENS in settings.get("tables", {}):
        network.glob.data = global_table(settings["tables"][TOKENS], *network.glob.shape)
    return SpanModel(Live(network, vocabulary_of(facts)))


def _read(path: str) -> pa.Table:
    with storage_for(path).open(path) as stream:
        return pq.read_table(stream)
