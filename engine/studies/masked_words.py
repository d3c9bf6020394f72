"""Fits an encoder of its own: an encoder is adapted to texts of a domain by masked language modelling.

    masked_words.texts: [<file>, ...]    Parquet files below data.path: distinct texts in a column tokens (joined by blanks),
                                         sentences (joined) or text; rows of test, or of valid in a file without test, left out
    masked_words.most: 20000             texts, the first by their hash
    masked_words.<field>                 of `AdaptConfig`

The fitted folder is an encoder: `model.encoder: {after: <study>, at: "path:{folder}"}`.

Source: Devlin et al., BERT (NAACL 2019), section 3.1: 15 % of the tokens are asked for, of which 80 % are masked, 10 % replaced
by a random token and 10 % left; the further training on texts of the task's domain: Gururangan et al., Don't Stop Pretraining
(ACL 2020). The head is a linear layer with GELU and layer norm over the tied word embeddings; it is thrown away.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from engine.encoders import attention_for, encoder_digest, encoder_folder, load_encoder, load_tokenizer, set_threads, special_ids
from engine.errors import ConfigError
from engine.records import seed_of
from engine.sources.parquet import read_table
from engine.storage import whole_file
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.studies.settings import options
from engine.text.tokens import tokenize
from engine.text.windows import window_bounds
from engine.training.config import LoopConfig
from engine.training.here import train_here
from engine.training.loop import Worker

FIGURES = "adapted.json"
_ASKED, _MASKED, _OTHER = 0.15, 0.8, 0.1
_NOTES = {
    "loss_after": "mean loss of a hidden token on held-back texts",
    "loss_of_new_head": "the same before training, with a head that has learned nothing: not what the encoder knew",
}


@dataclass(frozen=True)
class AdaptConfig:
    """How an encoder is adapted: to `most` texts of the files `texts`, in pieces of `window` tokens, one in `held` of them for
    validation."""

    texts: tuple[str, ...]
    most: int = 20000
    encoder: str = "pkg:minilm"
    window: int = 126
    epochs: float = 2.0
    batch: int = 32
    rate: float = 1e-4
    held: int = 50
    seed: int = 7


@dataclass(frozen=True)
class Adapted:
    """An encoder's folder, and the losses before and after."""

    folder: Path
    identity: str
    figures: Mapping[str, float]


def fit(task: Task) -> Adapted:
    """The adapted encoder: the one that is there, or one adapted now; a training that was stopped goes on.

    Raises:
        ConfigError: a setting is unknown, or the texts are too few.
    """
    set_threads(task.threads)
    config = options(AdaptConfig, task, "masked_words", seed=task.arm.seed)
    texts = domain_texts([f"{task.data.rstrip('/')}/{file}" for file in config.texts], config.most)
    learned = json.dumps([{**asdict(config), "texts": texts}, encoder_digest(config.encoder)])
    identity = hashlib.sha256(learned.encode()).hexdigest()[:32]
    home = task.models / "masked_words" / identity
    if not (home / "encoder" / FIGURES).is_file():
        learner = MaskedWords(config, texts, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        before = learner.validate()["loss"]
        loop = LoopConfig(config.epochs, config.batch, config.rate, seed=config.seed, report_every=50, checkpoint_every=200)
        work = home / "training"
        worker = Worker(report=lambda row, _: task.say(f"step {row['step']} of {row['steps']}, loss {row['loss_words']:.3f}"))
        train_here(learner, loop, worker, work)
        figures = {"loss_of_new_head": before, "loss_after": learner.validate()["loss"], "pieces": len(learner.pieces)}
        learner.write(home / "encoder", figures)
        shutil.rmtree(work)
    return Adapted(home / "encoder", identity, json.loads((home / "encoder" / FIGURES).read_text()))


def measure(model: Adapted, task: Task) -> Measured:
    """The losses; the first is that of a head that has learned nothing."""
    return Measured([Row(name, value, note=_NOTES.get(name, "")) for name, value in model.figures.items()])


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
            raise ConfigError(f"masked_words.texts: too few texts to adapt an encoder ({len(self.pieces)} pieces)")

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

    def further_figures(self) -> Mapping[str, tuple[float, int]]:
        return {}

    def write(self, folder: Path, figures: Mapping[str, float]) -> None:
        """Writes the encoder as a folder, and the figures last."""
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder.config.save_pretrained(folder)
        shutil.copyfile(encoder_folder(self.config.encoder) / "tokenizer.json", folder / "tokenizer.json")
        tensors = {name: value.detach().cpu().contiguous().clone() for name, value in self.encoder.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with whole_file(folder / FIGURES) as part:
            part.write_text(json.dumps(figures) + "\n")

    def _losses(self, group: Sequence[int], epoch: int) -> tuple[Tensor, Tensor, int]:
        """Summed losses [pieces] of hidden tokens, how many they are, and tokens read."""
        cls, sep, pad, mask = self.special
        rows = [[cls, *self.pieces[number].tolist(), sep] for number in group]
        width = max(map(len, rows))
        ids = np.full((len(rows), width), pad, np.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        is_token, is_target, inputs = ids != pad, np.zeros(ids.shape, bool), ids.copy()
        for at, number in enumerate(group):
            rng = np.random.default_rng(seed_of(str(number), "masked words", epoch, self.config.seed))
            count = len(rows[at]) - 2
            chosen = 1 + rng.choice(count, max(1, round(_ASKED * count)), replace=False)
            fate = rng.random(len(chosen))
            is_target[at, chosen] = True
            inputs[at, chosen[fate < _MASKED]] = mask
            other = chosen[(fate >= _MASKED) & (fate < _MASKED + _OTHER)]
            inputs[at, other] = rng.integers(self.vocabulary, size=len(other))
        targets, masked, real, whole = (torch.from_numpy(array).to(self.device) for array in (is_target, inputs, is_token, ids))
        states = self.encoder(input_ids=masked, attention_mask=real.long())[0]
        logits = self.head(states[targets], self.encoder.get_input_embeddings().weight)
        loss = functional.cross_entropy(logits, whole[targets], reduction="none")
        row = targets.nonzero()[:, 0]
        total = torch.zeros(len(rows), device=self.device).index_add(0, row, loss)
        return total, torch.bincount(row, minlength=len(rows)).float(), int(is_token.sum())


def domain_texts(files: Sequence[str], most: int) -> list[str]:
    """Distinct texts of some Parquet files, rows to be tested on left out, the first `most` by their hash.

    Raises:
        ConfigError: a file cannot be read, or has no texts in a column of a usual name.
    """
    texts: set[str] = set()
    for file in files:
        table = read_table(file, f"masked_words.texts: {file} cannot be read as Parquet")
        column = next((name for name in ("tokens", "sentences", "text") if name in table.column_names), None)
        if column is None:
            raise ConfigError(f"masked_words.texts: {file} has no column tokens, sentences or text")
        if "split" in table.column_names:
            tested = "test" if "test" in set(table["split"].to_pylist()) else "valid"
            table = table.filter(pc.not_equal(table["split"], tested))
        for value in table[column].to_pylist():
            text = value if isinstance(value, str) else " ".join(value or ())
            if text.strip():
                texts.add(text)
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())[:most]
