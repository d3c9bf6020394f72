"""From the plain settings of a training to a learner: what stands in front of a text, the network, and the texts as numbers.

The settings are those of `recipe.Settings` with what follows from the texts: `questions` (own texts for some types), `decoding`
(`nested`, None to go by the texts, and `flat_across_types`) and `base`, a checkpoint to go on from, stand beside the sections.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine.encoders import attention_for, encoder_folder, load_tokenizer, pick_precision
from engine.errors import ConfigError
from engine.models.base import Worker
from engine.models.columns import list_values, lists
from engine.models.examples import COMMON
from engine.models.prompt_mrc.build import completed, new_network
from engine.models.prompt_mrc.checkpoint import check_base, continued, read_checkpoint
from engine.models.prompt_mrc.config import Decoding, LearnConfig, MrcConfig
from engine.models.prompt_mrc.corpus import Corpus
from engine.models.prompt_mrc.instances import Marked, Span
from engine.models.prompt_mrc.learner import Examples, MrcLearner, prepare_training
from engine.models.prompt_mrc.network import MrcNetwork
from engine.sources.labelled.splits import TEST
from engine.text.tokens import TokenizedText, tokenize

_INTS = pa.large_list(pa.int32())
_SPAN = pa.struct([(name, pa.int32()) for name in ("first", "last", "type")])
SCHEMA = pa.schema(
    [
        *COMMON,
        pa.field("ids", _INTS),
        pa.field("word_of_token", _INTS),
        pa.field("spans", pa.list_(_SPAN)),
        pa.field("known", pa.list_(pa.int32())),
    ]
)


def learner(settings: Mapping[str, Any], worker: Worker) -> MrcLearner:
    """The network, and all texts of train and valid as numbers."""
    torch.manual_seed(settings["seed"])
    stored = worker.examples(settings["examples"])
    network, _ = network_of(settings, stored.facts["types"], worker.device)
    decoding = decoding_of(settings, stored.facts["nested"])
    return MrcLearner(prepare_training(network), decoded(stored.whole()), learn_of(settings), worker.device, decoding)


def learn_of(settings: Mapping[str, Any]) -> LearnConfig:
    return LearnConfig(**{**settings["learn"], "seed": settings["seed"]})


def config_of(settings: Mapping[str, Any], types: Sequence[str]) -> MrcConfig:
    model = {"types": tuple(types), "seed": settings["seed"], **settings["model"]}
    return completed(MrcConfig(**model), settings.get("questions") or None)


def decoding_of(settings: Mapping[str, Any], nested: bool) -> Decoding:
    """Which spans may stand together, as they do in train if nothing else is said; thresholds not yet tuned."""
    given = dict(settings.get("decoding") or {})
    if given.get("nested") is None:
        given["nested"] = nested and not given.get("flat_across_types")
    return Decoding(**given)


def network_of(
    settings: Mapping[str, Any], types: Sequence[str], device: torch.device
) -> tuple[MrcNetwork, dict[str, torch.Tensor]]:
    """The network that training begins with, and tensors of a base model that its checkpoint needs beside its own."""
    config = config_of(settings, types)
    dtype, attention = pick_precision(settings.get("precision", "auto"), str(device)), attention_for(str(device))
    if not config.rank and not config.freeze_encoder:
        # An encoder whose own weights are tuned moves by less than bf16 can hold.
        dtype = torch.float32
    if not settings.get("base"):
        return new_network(config, dtype, attention), {}
    base = read_checkpoint(settings["base"])
    if base.digest != settings.get("base_digest", base.digest):
        raise ConfigError("model.base: it is not the model that this training began with; bring it back, or choose a new folder")
    return continued(base, config, dtype, attention)


def check(settings: Mapping[str, Any], corpus: Corpus) -> None:
    """Whether a corpus and the settings of a training are usable together; nothing is trained.

    Raises:
        ConfigError: they are not.
    """
    config = config_of(settings, corpus.types)
    for name in settings.get("questions") or {}:
        if not config.is_hard:
            raise ConfigError(f"model.questions: a model of the mode '{config.mode}' asks no questions; leave them out")
        if name not in config.types:
            raise ConfigError(f"model.questions: '{name}' is none of the types to learn, which are {', '.join(config.types)}")
    if settings.get("base"):
        check_base(read_checkpoint(settings["base"]), config)
    elif config.freeze_heads:
        raise ConfigError(
            "model.freeze_heads: there is no model.base whose heads could stay as they are; name one, or leave it out"
        )
    if config.freeze_encoder and config.freeze_heads and not config.is_soft:
        raise ConfigError(
            f"model.freeze_encoder and model.freeze_heads leave a model of the mode '{config.mode}' nothing to learn; "
            "set one of them to false, or model.mode to soft or hybrid"
        )
    new_network(config, torch.float32, attention_for("cpu"))
    learn_of(settings)
    decoding_of(settings, corpus.nested())


def examples_of(corpus: Corpus, config: MrcConfig, max_tokens: int) -> tuple[Examples, Marked]:
    """The corpus as tokens and spans in words, in its order, and what became of the marked spans."""
    documents = corpus.documents
    tokens = tokenize(load_tokenizer(encoder_folder(config.encoder)), [each.text for each in documents], max_tokens)
    examples, spent = _examples(corpus, tokens, config.types)
    numbers = {name: number for number, name in enumerate(config.types)}
    known = [frozenset(numbers[name] for name in corpus.marked[each.dataset] if name in numbers) for each in documents]
    return (examples if all(len(each) == len(numbers) for each in known) else replace(examples, known=known)), spent


def _examples(corpus: Corpus, tokens: Sequence[TokenizedText], types: Sequence[str]) -> tuple[Examples, Marked]:
    documents = corpus.documents
    ids, splits = [each.record_id for each in documents], [each.split or "" for each in documents]
    texts, spans = [each.text for each in documents], [[vars(span) for span in each.spans] for each in documents]
    return Examples.of(ids, texts, tokens, spans, splits, types)


def encoded(examples: Examples, splits: Sequence[str]) -> pa.Table:
    """Examples of train and valid as a table of numbers.

    Args:
        splits: of the examples.
    """
    known = examples.known or [None] * len(splits)
    columns = {
        "record_id": examples.record_id,
        "split": list(splits),
        "sample": [False] * len(splits),
        "ids": lists([each.ids for each in examples.tokens]),
        "word_of_token": lists([each.word_of_token for each in examples.tokens]),
        "spans": [[vars(span) for span in spans] for spans in examples.spans],
        "known": [None if each is None else sorted(each) for each in known],
    }
    table = pa.table(columns, schema=SCHEMA)
    return table.filter(pa.array([split != TEST for split in splits]))


def decoded(table: pa.Table) -> Examples:
    """What `encoded` made, as the learner takes it: of a text's words it knows where they are among the tokens, no more."""
    ids, words = list_values(table["ids"]), list_values(table["word_of_token"])
    none, split = np.empty(0, np.int32), np.array(table["split"].to_pylist())
    readable = np.array([len(each) > 0 for each in ids], dtype=bool)
    known = [None if each is None else frozenset(each) for each in table["known"].to_pylist()]
    return Examples(
        table["record_id"].to_pylist(),
        [TokenizedText(a, b, none, none, none, 0) for a, b in zip(ids, words, strict=True)],
        [[Span(**span) for span in spans] for spans in table["spans"].to_pylist()],
        (split == "train") & readable,
        (split == "valid") & readable,
        None if all(each is None for each in known) else known,
    )
