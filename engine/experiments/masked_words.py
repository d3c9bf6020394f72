"""Masked language modelling: an encoder is adapted to texts of a domain, and written as an encoder of its own, `path:<folder>`.

Source: Devlin et al., BERT (NAACL 2019), section 3.1: 15 % of the tokens are asked for, of which 80 % are masked, 10 % replaced
by a random token and 10 % left; the further training on texts of the task's domain: Gururangan et al., Don't Stop Pretraining
(ACL 2020). The head is a linear layer with GELU and layer norm over the tied word embeddings; it is thrown away.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from engine.encoders import attention_for, encoder_folder, load_encoder, load_tokenizer, special_ids
from engine.errors import ConfigError
from engine.experiments.here import trained
from engine.records import seed_of
from engine.storage import whole_file
from engine.text.tokens import tokenize
from engine.text.windows import window_bounds
from engine.training.config import LoopConfig

_ASKED, _MASKED, _OTHER = 0.15, 0.8, 0.1


@dataclass(frozen=True)
class AdaptConfig:
    """How an encoder is adapted: `window` tokens a text piece, one in `held` pieces is for validation."""

    encoder: str = "pkg:minilm"
    window: int = 126
    epochs: float = 2.0
    batch: int = 32
    rate: float = 1e-4
    held: int = 50
    seed: int = 7


class _Head(nn.Module):
    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(width, width), nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, states: Tensor, embeddings: Tensor) -> Tensor:
        return functional.linear(self.norm(functional.gelu(self.dense(states))), embeddings, self.bias)


class MaskedWords:
    """See `engine.training.loop.Learner`. Every parameter of the encoder is trained, in fp32."""

    def __init__(self, config: AdaptConfig, texts: Sequence[str], device: torch.device | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.device = device or torch.device("cpu")
        tokenizer = load_tokenizer(encoder_folder(config.encoder))
        self.special = special_ids(tokenizer)
        self.encoder = load_encoder(config.encoder, torch.float32, attention_for(str(self.device))).to(self.device)
        self.vocabulary = self.encoder.config.vocab_size
        self.head = _Head(self.encoder.config.hidden_size, self.vocabulary).to(self.device)
        tokens = [each.ids for each in tokenize(tokenizer, list(texts), 10**6)]
        self.pieces = [ids[start:stop] for ids in tokens for start, stop in window_bounds(len(ids), config.window)]
        self.train = [number for number in range(len(self.pieces)) if number % config.held]
        self.valid = [number for number in range(len(self.pieces)) if not number % config.held]
        if not self.train or not self.valid:
            raise ConfigError(f"data.path: too few texts to adapt an encoder ({len(self.pieces)} pieces)")

    def parameters(self) -> Mapping[str, Tensor]:
        return {
            f"{part}.{name}": value
            for part, module in (("encoder", self.encoder), ("head", self.head))
            for name, value in module.named_parameters()
        }

    def order(self, epoch: int) -> list[int]:
        return np.random.default_rng([self.config.seed, epoch]).permutation(self.train).tolist()

    def losses(self, examples: Sequence[int], epoch: int) -> Iterator[tuple[Mapping[str, Tensor], int]]:
        ordered = sorted(examples, key=lambda number: len(self.pieces[number]))
        for at in range(0, len(ordered), 8):
            group = ordered[at : at + 8]
            loss, counts, tokens = self._losses(group, epoch)
            yield {"words": (loss / counts).sum()}, tokens

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Mean loss of a hidden token on held-back pieces, the same tokens hidden each time."""
        total = counted = 0.0
        for at in range(0, len(self.valid), 8):
            loss, counts, _ = self._losses(self.valid[at : at + 8], -1)
            total, counted = total + float(loss.sum()), counted + float(counts.sum())
        return {"loss": total / counted}

    def told(self) -> Mapping[str, tuple[float, int]]:
        return {}

    def _losses(self, group: Sequence[int], epoch: int) -> tuple[Tensor, Tensor, int]:
        """Summed losses [pieces] of hidden tokens, how many they are, and tokens read."""
        cls, sep, pad, mask = self.special
        rows = [[cls, *self.pieces[number].tolist(), sep] for number in group]
        width = max(map(len, rows))
        ids = np.full((len(rows), width), pad, np.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        there, asked, shown = ids != pad, np.zeros(ids.shape, bool), ids.copy()
        for at, number in enumerate(group):
            rng = np.random.default_rng(seed_of(str(number), "masked words", epoch, self.config.seed))
            count = len(rows[at]) - 2
            chosen = 1 + rng.choice(count, max(1, round(_ASKED * count)), replace=False)
            fate = rng.random(len(chosen))
            asked[at, chosen] = True
            shown[at, chosen[fate < _MASKED]] = mask
            other = chosen[(fate >= _MASKED) & (fate < _MASKED + _OTHER)]
            shown[at, other] = rng.integers(self.vocabulary, size=len(other))
        hidden, given, real, whole = (torch.from_numpy(each).to(self.device) for each in (asked, shown, there, ids))
        states = self.encoder(input_ids=given, attention_mask=real.long())[0]
        logits = self.head(states[hidden], self.encoder.get_input_embeddings().weight)
        loss = functional.cross_entropy(logits, whole[hidden], reduction="none")
        row = hidden.nonzero()[:, 0]
        total = torch.zeros(len(rows), device=self.device).index_add(0, row, loss)
        return total, torch.bincount(row, minlength=len(rows)).float(), int(there.sum())


def adapt(
    config: AdaptConfig,
    texts: Sequence[str],
    folder: Path,
    work: Path,
    say: Callable[[str], None],
    device: torch.device | None = None,
) -> dict[str, float]:
    """Adapts an encoder and writes it to `folder`, whole; goes on where it stopped. Returns the loss afterwards and, as what it
    fell from, that of a head which has learned nothing yet: not what the encoder knew before.

    Args:
        texts: of the domain, none of them from a test split. work: folder for the state of the training.
    """
    told = folder / "adapted.json"
    if told.is_file():
        return json.loads(told.read_text())
    learner = MaskedWords(config, texts, device)
    before = learner.validate()["loss"]
    loop = LoopConfig(config.epochs, config.batch, config.rate, seed=config.seed, report_every=50, checkpoint_every=200)
    trained(learner, loop, work, lambda row: say(f"step {row['step']} of {row['steps']}, loss {row['loss_words']:.3f}"))
    after = learner.validate()["loss"]
    folder.mkdir(parents=True, exist_ok=True)
    source = encoder_folder(config.encoder)
    learner.encoder.config.save_pretrained(folder)
    shutil.copyfile(source / "tokenizer.json", folder / "tokenizer.json")
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in learner.encoder.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    figures = {"loss_of_new_head": before, "loss_after": after, "pieces": len(learner.pieces)}
    with whole_file(told) as part:
        part.write_text(json.dumps(figures) + "\n")
    return figures
