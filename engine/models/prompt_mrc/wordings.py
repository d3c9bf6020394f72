"""Many wordings of what is asked for in training, so that a model reads the question and answers a user's own.

A type of the model is asked for by its query, and at times by another wording, with its soft vectors or with the mean vectors
that a new type has. A further type always has these. Some questions are about things that no text of the corpora has, so that the
model learns to give no answer.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.models.prompt_mrc.config import NAME, MrcConfig
from engine.models.prompt_mrc.network import word_pieces
from engine.models.prompt_mrc.templates import templates
from engine.models.prompt_mrc.things import kinds

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The number of the type whose soft vectors a prompt has, and its word pieces; None for the type's query.
Prompt = tuple[int, tuple[int, ...] | None]

# The kind of a row whose question has no answer.
NOTHING = -1
_ABSENT = (
    *("musical instruments", "football clubs", "buildings", "kinds of weather", "films", "songs", "planets", "rivers and lakes"),
    *("newspapers", "political parties", "holidays", "pieces of furniture", "kitchen tools", "board games", "paintings"),
    *("religions", "battles", "ships", "video games", "books", "mountains", "computer programs", "kings and queens"),
)
_PATTERNS = ("Which {} are named?", "Which {} are mentioned?", "{}", "List the {}.", "What {} does this report name?", "Find {}.")
# How often a type of the model is asked for in other words, and as a new type would be.
_REWORDED, _AS_NEW = 0.3, 0.1
# How often a window is asked for a further type that it contains, for one that it does not, and without an answer.
_PRESENT, _OTHER, _NOTHING = 0.5, 0.2, 0.06
# So many of either kind is a window asked for in which nobody looked for a type of the model.
_ALONE = 2
# Longer wordings would pad all prompts of a batch.
_LONGEST = 36


@dataclass(frozen=True)
class Wordings:
    """The wordings of each type, by number, as word pieces, and those of questions without an answer, under `NOTHING`. Types from
    the number `known` on are further ones."""

    known: int
    pieces: Mapping[int, Sequence[tuple[int, ...]]]

    @classmethod
    def of(cls, config: MrcConfig, further: Sequence[str], tokenizer: "Tokenizer") -> "Wordings":
        """Those of a model's types and of `further` ones, as far as they fit the room for prompts."""
        texts = {number: wordings(name, config.language) for number, name in enumerate((*config.types, *further))}
        texts[NOTHING] = [pattern.format(name) for name in _ABSENT for pattern in _PATTERNS]
        room = min(_LONGEST, config.prompt_room - config.soft - 2)
        pieces = {
            number: [tuple(each) for each in word_pieces(tokenizer, of_type) if len(each) <= room]
            for number, of_type in texts.items()
        }
        return cls(len(config.types), pieces)

    @property
    def longest(self) -> int:
        """Word pieces of the longest wording."""
        return max(len(each) for of_type in self.pieces.values() for each in of_type)

    def drawn(self, present: Collection[int], annotated: Collection[int], alone: bool, rng: np.random.Generator) -> list[int]:
        """Further types that a window is asked for, and `NOTHING` at times.

        Args:
            present: further types that it contains. annotated: those that somebody looked for in it.
            alone: it is asked for no type of the model.
        """
        others = sorted(set(annotated) - set(present))
        if alone:
            return [kind for kinds in (sorted(present), others) for kind in rng.permutation(kinds)[:_ALONE].tolist()]
        drawn = ((sorted(present), _PRESENT), (others, _OTHER), ([NOTHING], _NOTHING))
        return [int(rng.choice(kinds)) for kinds, share in drawn if kinds and rng.random() < share]

    def prompt(self, kind: int, rng: np.random.Generator) -> Prompt:
        """What asks for a type this time."""
        draw = rng.random()
        if 0 <= kind < self.known and draw >= _REWORDED:
            return kind, None
        words = self.pieces[kind][int(rng.integers(len(self.pieces[kind])))]
        return kind if 0 <= kind < self.known and draw >= _AS_NEW else self.known, words


def wordings(name: str, language: str) -> list[str]:
    """The wordings of a type: built-in texts, and its names in some patterns."""
    built_in = {key[2:]: text for key, text in templates().items() if key[:2] == (name, language)}
    names = [text for (style, _), text in built_in.items() if style == NAME]
    names = names or (kinds()[name].names if name in kinds() else [name.replace("_", " ")])
    return [*built_in.values(), *(pattern.format(each) for each in names for pattern in _PATTERNS)]
