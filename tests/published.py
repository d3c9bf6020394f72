"""Tiny encoders with random weights, in files as people publish them: pickled, with what a slow tokenizer reads."""

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def bert(folder: Path, words: Iterable[str], **save: bool) -> Path:
    """As BioBERT: weights of a pretraining with its heads and LayerNorm's old names, and no tokenizer but vocab.txt."""
    words = [*SPECIAL, *words]
    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=len(words), **SIZES)

    def old(name: str) -> str:
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    _publish(folder, transformers.BertForPreTraining(config), old, **save)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


def words_of(texts: Iterable[str]) -> list[str]:
    """A cased vocabulary that covers some texts: their frequent words, and single characters."""
    counts: dict[str, int] = {}
    for word in re.findall(r"\w+|[^\w\s]", " ".join(texts)):
        counts[word] = counts.get(word, 0) + 1
    letters = sorted({letter for word in counts for letter in word})
    return list(
        dict.fromkeys([*sorted(counts, key=lambda word: -counts[word])[:500], *letters, *(f"##{each}" for each in letters)])
    )


def byte_level(folder: Path, kind: str, texts: Iterable[str], positions: int = 130) -> Path:
    """As Clinical-Longformer (`kind` is Longformer) or a RoBERTa: a masked language model, vocab.json and merges.txt."""
    folder.mkdir(parents=True)
    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(list(texts), vocab_size=600, min_frequency=1, special_tokens=special, show_progress=False)
    tokenizer.save_model(str(folder))
    sizes = {**SIZES, "vocab_size": tokenizer.get_vocab_size(), "max_position_embeddings": positions, "pad_token_id": 1}
    sizes |= {"type_vocab_size": 1, **({"attention_window": 16} if kind == "Longformer" else {})}
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    return _publish(folder, getattr(transformers, f"{kind}ForMaskedLM")(config))


def _publish(folder: Path, model: torch.nn.Module, rename: Callable[[str], str] = str, **save: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    # Published years before the library that reads it.
    values = {name: value for name, value in model.config.to_dict().items() if name not in ("transformers_version", "dtype")}
    (folder / "config.json").write_text(json.dumps(values))
    torch.save({rename(name): value for name, value in model.state_dict().items()}, folder / "pytorch_model.bin", **save)
    return folder
