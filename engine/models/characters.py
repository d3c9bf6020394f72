"""A tokenizer whose words are single characters, made from texts, and a small encoder for it: Chinese without a hub.

Every character that can be seen is a token and a word, also of Latin runs and numbers, so any span of characters can be found.
Full-width forms and letters of either case are read alike (Unicode NFKC and lower case); offsets stay those of the text.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig, PreTrainedModel

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# A character that is rarer than this in the texts is unknown, so that the model learns what unknown ones mean.
_LEAST = 2
# Blanks, and what cannot be seen: control characters, marks of direction and byte order, joiners.
_NOTHING = r"[\s\p{Cc}\p{Cf}]+"
# Of a configuration that is stored: what depends on where and by what it was written.
_NOT_STORED = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")


def character_tokenizer(texts: Iterable[str]) -> "Tokenizer":
    """The tokenizer of the characters that occur at least twice in the texts."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    counts = Counter(character for text in texts for character in normalizer.normalize_str(text) if not character.isspace())
    known = sorted(character for character, count in counts.items() if count >= _LEAST)
    tokenizer = Tokenizer(models.WordLevel({token: number for number, token in enumerate((*SPECIAL, *known))}, "[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_NOTHING), "removed"), pre_tokenizers.Split(Regex(r"\S"), "isolated")]
    )
    return tokenizer


def small_encoder(tokenizer: "Tokenizer", positions: int) -> dict[str, Any]:
    """The configuration of a small encoder of characters: BERT with four layers of 128 units, some 1.2 million weights."""
    return {
        "model_type": "bert",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 512,
        "max_position_embeddings": positions,
        "pad_token_id": tokenizer.token_to_id("[PAD]"),
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def stored_config(config: "PretrainedConfig") -> dict[str, Any]:
    """A configuration as plain values from which `new_encoder` builds the same architecture, without any path."""
    values = {name: value for name, value in config.to_diff_dict().items() if name not in _NOT_STORED}
    return {**values, "model_type": config.model_type}


def new_encoder(values: Mapping[str, Any], attention: str = "eager") -> "PreTrainedModel":
    """An encoder of this configuration with random weights, in evaluation mode. Draws from torch's global generator."""
    from transformers import AutoConfig, AutoModel

    from engine.encoders import without_pooler

    rest = dict(values)
    config = AutoConfig.for_model(rest.pop("model_type"), **rest)
    return AutoModel.from_config(config, attn_implementation=attention, **without_pooler(config)).eval()
