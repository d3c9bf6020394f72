"""Sentence embeddings: the mean of an encoder's last states over the tokens, of length 1.

Source: Reimers and Gurevych, Sentence-BERT (EMNLP 2019), section 3. An encoder that was trained to be read at its first or last
token gives poorer vectors here than its authors published.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine import encoders

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import PreTrainedModel


def embed(texts: Sequence[str], name: str = "pkg:minilm", batch: int = 64, instruction: str = "") -> NDArray:
    """The embeddings [n, e] of texts, float32 of length 1, computed in fp32.

    Args:
        name: of the encoder, see `engine.encoders`; it stays in memory, by its digest, for the next call.
        instruction: put in front of each text. Texts that are to be compared need the same one.
    Raises:
        ConfigError: there is no such encoder.
    """
    import torch

    model, tokenizer = _loaded(name, encoders.encoder_digest(name))
    codes = tokenizer.encode_batch([instruction + text for text in texts])
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    order = np.argsort([len(code.ids) for code in codes], kind="stable")
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        width = len(codes[rows[-1]].ids)
        ids, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
        for at, row in enumerate(rows):
            length = len(codes[row].ids)
            ids[at, :length], mask[at, :length] = torch.tensor(codes[row].ids), 1
        with torch.inference_mode():
            vectors[rows] = mean_pooled(model(input_ids=ids, attention_mask=mask)[0], mask).numpy()
    return vectors


def mean_pooled(states: "Tensor", mask: "Tensor") -> "Tensor":
    """Embeddings [n, d] of length 1: the mean of states [n, tokens, d] over the tokens of a mask [n, tokens]."""
    from torch.nn import functional

    total = (states * mask.unsqueeze(-1)).sum(1)
    return functional.normalize(total / mask.sum(1, keepdim=True))


@lru_cache(maxsize=2)
def _loaded(name: str, digest: str) -> "tuple[PreTrainedModel, Tokenizer]":
    """An encoder and its tokenizer; with another digest it is another encoder."""
    import torch

    tokenizer = encoders.load_tokenizer(encoders.encoder_folder(name))
    tokenizer.enable_truncation(encoders.positions(encoders.encoder_config(name)))
    return encoders.load_encoder(name, torch.float32, encoders.attention_for("cpu")), tokenizer
