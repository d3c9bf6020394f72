"""The rival of the compute core: `transformers.pipeline` with the same encoder weights, as a user would write it."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.encoders import load_tokenizer
from engine.errors import ContractError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import Pipeline


def cut_texts(texts: Sequence[str], folder: str, max_tokens: int = 512) -> list[str]:
    """Texts cut to at most `max_tokens` tokens, [CLS] and [SEP] included, so that nobody tokenizes what nobody reads."""
    encoded, room = load_tokenizer(Path(folder)).encode_batch(list(texts), add_special_tokens=False), max_tokens - 2
    ends = [None if len(each.ids) <= room else each.offsets[room - 1][1] for each in encoded]
    return [text[:end] for text, end in zip(texts, ends, strict=True)]


def pipeline_of(encoder: "nn.Module", labels: int, folder: str, dtype: "torch.dtype", device: str) -> "Pipeline":
    """A text-classification pipeline whose encoder has the given weights (adapters merged), in the given precision.

    `folder` holds the tokenizer. Attention is the library's default (the fused kernel).
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = copy.deepcopy(encoder.config)
    config.num_labels = labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    weights = {name: value.float() for name, value in encoder.state_dict().items()}
    missing, unexpected = model.base_model.load_state_dict(weights, strict=False)
    if unexpected or any(not name.startswith("pooler.") for name in missing):
        raise ContractError(
            f"the rival does not take the encoder's weights: {len(missing)} missing, {len(unexpected)} unexpected"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return pipeline("text-classification", model=model.to(dtype).eval(), tokenizer=tokenizer, device=device)


def classify(pipe: "Pipeline", texts: Sequence[str], batch_size: int, max_tokens: int = 512) -> list[dict[str, Any]]:
    """The best label of each text, in batches; texts are read up to `max_tokens`."""
    return pipe(list(texts), batch_size=batch_size, truncation=True, max_length=max_tokens)
