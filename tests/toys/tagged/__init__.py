"""A second system of entities: a softmax BIO tagger on a tiny encoder, with one threshold on a span's score."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from engine.encoders import encoder_folder, load_tokenizer, special_ids
from engine.models import checkpoint
from engine.models.entities import candidates
from engine.models.entities.candidates import Candidate
from engine.models.entities.spans import BEGIN, INSIDE, OUTSIDE, runs
from engine.models.entities.system import DECODING, Checkpoint, EntitySystem

ENCODER = "tiny:bert"


@dataclass(frozen=True)
class Config:
    """The tags of the type number t are 1 + 2t (B) and 2 + 2t (I), 0 is that of all others."""

    types: tuple[str, ...]
    window: int = 24
    overlap: int = 12
    language: str = "en"
    special: tuple[int, ...] = (101, 102, 0, 103)


@dataclass(frozen=True)
class Decoding(candidates.Decoding):
    nested: bool = False
    flat_across_types: bool = True
    least: float = 0.5

    thresholds: ClassVar[Mapping[str, str]] = {"least": "score"}
    can_nest = False


class Tagged(EntitySystem):
    span_model_at = f"{__name__}.network:TagModel"

    @classmethod
    def read(cls, path, options):
        stored = checkpoint.read(path, __name__, (DECODING,))
        decoding = Decoding(**stored.values(DECODING)["decoding"])
        return Checkpoint(stored.folder, stored.digest, Config(**stored.config), decoding)

    def build(self, dtype):
        from safetensors.torch import load_file

        from tests.toys.tagged.network import Network

        return checkpoint.fill(Network(self.config, dtype), load_file(self.checkpoint.folder / checkpoint.MODEL), ":")

    def decode(self, windows, outputs, decoding):
        return candidates_in(windows, outputs, self.types, decoding), set()


TABLE, Options, load = Tagged.table, Tagged.Options, Tagged.load


def tags_of(kind):
    return 1 + 2 * kind, 2 + 2 * kind


def candidates_in(windows, logits, types, decoding):
    """The candidates in windows by the logits [W, L, tags] of their tokens; a score is the mean of the tags' probabilities."""
    found = []
    for window, values in zip(windows, logits, strict=True):
        begins, ends = window.words
        probs = values[begins].float().softmax(-1).cpu().numpy()
        for kind in types:
            tags = np.select([probs.argmax(-1) == tag for tag in tags_of(kind)], [BEGIN, INSIDE], OUTSIDE)
            for first, last in runs(tags, window.part[begins], decoding.longest):
                score = float(probs[first : last + 1].max(-1).mean())
                found.append(Candidate.of(window, kind, (int(begins[first]), int(ends[last])), score))
    return list(filter(decoding.passes, found))


def new_config(types):
    return Config(tuple(types), special=special_ids(load_tokenizer(encoder_folder(ENCODER))))


def write(folder, config, tensors, **decoding):
    """A checkpoint whose decoding may differ from the default one."""
    files = {DECODING: {"decoding": asdict(Decoding(**decoding)), "figures": {}}}
    tokenizer = encoder_folder(ENCODER) / checkpoint.TOKENIZER
    checkpoint.write(folder, __name__, asdict(config), tensors, tokenizer, files, "a card\n")
    return folder
