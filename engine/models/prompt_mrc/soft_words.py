"""The words whose embeddings lie nearest to learned vectors: a diagnostic of prompts, and no explanation of what they do."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from engine.models.prompt_mrc.network import MrcNetwork

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SOFT_WORDS = pa.schema(
    [
        pa.field("type", pa.string()),
        pa.field("vector", pa.int32(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("word", pa.string(), nullable=False),
        pa.field("cosine", pa.float32(), nullable=False),
    ]
)
# [PAD], [unused7], <s>: no words.
_MARK = re.compile(r"\[[^]]+\]|<[^>]+>")


@torch.no_grad()
def soft_words(network: MrcNetwork, tokenizer: "Tokenizer", count: int = 5) -> pa.Table:
    """The `count` nearest word pieces of each vector, the domain's (`type` null) and then each type's, a `SOFT_WORDS` table.

    Of deep prompts those at the input are meant, since further layers read no words.
    """
    shared, own = network.soft.vectors()
    width = network.soft.width
    pieces = {number: piece for piece, number in tokenizer.get_vocab().items() if not _MARK.fullmatch(piece)}
    table = network.encoder.get_input_embeddings().weight
    numbers = sorted(number for number in pieces if number < len(table))
    rows = []
    for name, vectors in zip((None, *network.config.types), (shared, *own), strict=True):
        for vector, near in enumerate(nearest(vectors[:, :width], table[numbers], count)):
            for rank, (at, cosine) in enumerate(near, 1):
                word = pieces[numbers[at]]
                rows.append({"type": name, "vector": vector, "rank": rank, "word": word, "cosine": cosine})
    return pa.Table.from_pylist(rows, schema=SOFT_WORDS)


def nearest(vectors: Tensor, table: Tensor, count: int) -> Sequence[Sequence[tuple[int, float]]]:
    """Row and cosine of the `count` rows of `table` [V, d] nearest to each of `vectors` [n, d], the first of equal ones first."""
    unit = functional.normalize(table.float(), dim=-1)
    cosines = functional.normalize(vectors.float(), dim=-1) @ unit.T
    order = cosines.argsort(dim=-1, descending=True, stable=True)[:, :count]
    return [list(zip(at.tolist(), row[at].tolist(), strict=True)) for at, row in zip(order, cosines, strict=True)]
