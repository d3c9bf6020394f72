"""Settings of the extractor: the architecture of its network, its decoding, and what a training may set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

from engine.errors import ConfigError
from engine.keys import key
from engine.models.entities import candidates
from engine.models.entities.settings import EntityData, EntityLearning
from engine.models.entities.spans import MAX_WORDS

TAGGER, NAME, HARD, SOFT, HYBRID = "tagger", "name", "hard", "soft", "hybrid"
MODES = (TAGGER, NAME, HARD, SOFT, HYBRID)
STYLES = ("question", "definition", "definition+examples")


@dataclass(frozen=True)
class Architecture:
    """What a training may set of a network, and its checkpoint records.

    Positions of the text begin at `prompt_room`, whatever the prompt's length, so that every prompt encodes a text alike. In the
    lower `share_layers` prompt and text do not see each other: there a text is encoded once for all types, and the prompts once
    per run (DeFormer, Cao et al. 2020, section 3). With `deep`, each layer's soft vectors replace those of the layer before. A
    `rank` of 0 tunes the encoder itself.
    """

    encoder: str = key("pkg:minilm", "pkg:minilm, path:<folder>, or hub:<id>@<commit>, which is fetched once.")
    rank: int = key(
        32,
        "Rank of the adapter on each linear layer of the encoder; 0 tunes the encoder itself (train.rate=2e-5).",
        low=0,
    )
    window: int = key(180, "Tokens of text in one window.", low=8)
    overlap: int = key(64, "Tokens that neighbouring windows share.", low=0)
    mode: str = key(HYBRID, "What stands in front of a text; see docs/models.md.", choices=MODES)
    domain: str = key("general", "Name of the domain that the shared soft vectors belong to.")
    language: str = key("en", "Language of the built-in templates, names and definitions: en or es.")
    style: str = key(STYLES[1], "Style of the built-in templates.", choices=STYLES)
    version: int = key(1, "Which wording of that style.", low=1)
    shared_soft: int = key(10, "Soft vectors of the domain.", low=0)
    type_soft: int = key(5, "Soft vectors of each type.", low=0)
    deep: bool = key(False, "Give every layer of the encoder soft vectors of its own, not only the first.")
    depth: int = key(0, "Encoder layers to keep, counted from the lowest; 0 keeps all.", low=0)
    share_layers: int = key(0, "Lower layers in which prompt and text do not see each other; cheaper.", low=0)
    prompt_room: int = key(96, "Positions reserved for the prompt; the longest template must fit.", low=4)
    freeze_encoder: bool = key(False, "Train prompts and heads only.")
    freeze_heads: bool = key(False, "Keep the heads of model.base as they are.")

    @property
    def is_tagger(self) -> bool:
        return self.mode == TAGGER

    @property
    def decoding_type(self) -> "type[Decoding]":
        """The kind of decoding that the mode has."""
        return TagDecoding if self.is_tagger else Decoding


@dataclass(frozen=True, kw_only=True)
class MrcConfig(Architecture):
    """Architecture of a checkpoint.

    `queries` has the text that asks for each type, in the order of `types`; empty where `mode` has no words. `match_width` is the
    hidden width of the match head. `special` are the ids of [CLS], [SEP], [PAD] and [MASK].

    A span begins at the first piece of a word and ends at the last piece of one; the tokenizer's pre-tokenizer defines words.
    """

    types: tuple[str, ...]
    queries: tuple[str, ...] = ()
    encoder_digest: str = ""
    match_width: int = 128
    special: tuple[int, int, int, int] = (101, 102, 0, 103)
    seed: int = 7

    def __post_init__(self) -> None:
        for name in ("types", "queries", "special"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.mode not in MODES:
            raise ConfigError(f"model.mode: '{self.mode}' is none of {', '.join(MODES)}")
        if not self.types or len(set(self.types)) < len(self.types) or not all(self.types):
            raise ConfigError("model.types: name at least one type, and each only once")
        if self.queries and len(self.queries) != len(self.types):
            raise ConfigError(f"model.queries: {len(self.types)} types need one query each, there are {len(self.queries)}")
        if min(self.shared_soft, self.type_soft, self.rank, self.depth, self.share_layers) < 0:
            raise ConfigError("model: shared_soft, type_soft, rank, depth and share_layers must be at least 0")
        if self.is_soft and not self.soft:
            raise ConfigError(f"model.mode: '{self.mode}' needs soft vectors; set model.shared_soft or model.type_soft above 0")
        if self.deep and not self.is_soft:
            raise ConfigError(f"model.deep: a model of the mode '{self.mode}' has no soft vectors; set it to false")
        if self.window < 2 or not 0 <= self.overlap < self.window:
            raise ConfigError("model.window: must be at least 2, and model.overlap at least 0 and smaller than model.window")
        if self.depth and self.share_layers > self.depth:
            raise ConfigError(f"model.share_layers: {self.share_layers} is more than the {self.depth} layers that are kept")

    @property
    def is_hard(self) -> bool:
        """Whether words stand in front of the text: a template, or the type's name."""
        return self.mode in (NAME, HARD, HYBRID)

    @property
    def is_soft(self) -> bool:
        return self.mode in (SOFT, HYBRID)

    @property
    def soft(self) -> int:
        """Soft vectors in front of a text."""
        return self.shared_soft + self.type_soft if self.is_soft else 0

    @property
    def context_position(self) -> int:
        """The position of a text's first token."""
        return 1 if self.is_tagger else self.prompt_room

    def check_room(self, words: int, name: str, key: str | None = None) -> None:
        """Checks that a prompt fits into the positions reserved for it.

        Args:
            words: word pieces of the prompt, without [CLS] and [SEP]. name: of its type, for the message.
            key: the setting of a run that gave the prompt; None while a model is made, whose `prompt_room` can still change.
        Raises:
            ConfigError: the prompt is too long.
        """
        positions = words + self.soft + 2
        if positions > self.prompt_room:
            less = "a shorter question in model.questions" if words else "fewer vectors in model.shared_soft and model.type_soft"
            raise ConfigError(
                f"{key or 'model.prompt_room'}: the prompt for {name} of {words} word pieces and {self.soft} soft vectors takes "
                f"{positions} positions, there are {self.prompt_room}; "
                f"{'shorten the question' if key else f'raise it, or set {less}'}"
            )


@dataclass(frozen=True, kw_only=True)
class Candidate(candidates.Candidate):
    """A span with the three probabilities of its score. `margin` is how far F lies above that of the same span under the best
    other type. A tagger's has no `match_score` and no margin."""

    start_score: float
    end_score: float
    match_score: float | None

    further = ("start_score", "end_score", "match_score")


@dataclass(frozen=True)
class Decoding(candidates.Decoding):
    """Thresholds of a span's start, end and match, and which spans may overlap (see `decode`)."""

    start: float = 0.5
    end: float = 0.5
    match: float = 0.5
    outside: float = 0.0

    thresholds: ClassVar[Mapping[str, str]] = {name: f"{name}_score" for name in ("start", "end", "match")}


@dataclass(frozen=True)
class TagDecoding(candidates.TagDecoding, Decoding):
    """A tagger's: `match` is the threshold of a span's score, and neither `start` nor `end` is used."""

    thresholds: ClassVar[Mapping[str, str]] = {"match": "score"}


@dataclass(frozen=True)
class DataConfig(EntityData):
    """Annotated texts for training, and what else is learned from."""

    further: tuple[str, ...] = key(
        (),
        "Further types of train to be asked for, in many words, so that the model answers own questions.",
    )
    things: int = key(
        0, "Made-up texts about things of many kinds, such as implants and occupations, to learn to read questions from.", low=0
    )
    tumours: str | None = key(None, "Type that mentions of tumours get, whatever a corpus calls them; null: as they are marked.")
    joined: int = key(
        0, "Words of a training text, made of neighbouring sentences of a corpus or cut from a report; 0: as they are.", low=0
    )
    noise: float = key(0.0, "Share of the training texts that are read with misread letters, as scans have them.", low=0, high=1)
    reports: str | None = key(
        None, "Table with text and split of reports that nobody marked; terms of a list mark them (silver).", path=True
    )
    reports_share: float = key(1.0, "Share of these reports, or of their pieces, to learn from.", low=0.0001, high=1.0)


@dataclass(frozen=True)
class ModelConfig(Architecture):
    """What a training may set: the architecture, where questions come from, which model to continue from, and the decoding."""

    questions: Mapping[str, str] = key({}, "Your own questions for some types, type: text, in place of the templates.")
    ontology: str | None = key(
        None,
        "CSV file with the columns type and definition, or pkg:ontology, the built-in one. Templates are then built from it and "
        "from mentions of the training set, which the checkpoint keeps.",
        path=True,
    )
    mentions: int = key(12, "Most mentions in a template that is built from the ontology.", low=0)
    base: str | None = key(None, "Checkpoint folder to continue from with new prompts.", path=True)
    nested: bool | None = key(
        None, "Spans may overlap, also those of different types; null: if some do in the training set and it is better on valid."
    )
    flat_across_types: bool | None = key(
        None, "Spans of different types may not overlap either; null: if spans may not nest. Only false keeps types independent."
    )

    def architecture(self, types: Sequence[str], seed: int) -> MrcConfig:
        """The configuration of a network for some types, without what `templates.complete_config` adds."""
        values = {field.name: getattr(self, field.name) for field in fields(Architecture)}
        return MrcConfig(types=tuple(types), seed=seed, **values)

    def decodings(self, nested: bool, longest: int = MAX_WORDS) -> list[Decoding]:
        """The decodings among which valid decides, before their thresholds are tuned. A tagger has one tag of a type for each
        word, so its spans never nest.

        Args:
            nested: whether marked mentions overlap in the training set, so that nesting is worth trying where no setting decides.
            longest: words of the longest span.
        """
        choices = [False, True] if nested and not self.is_tagger and not self.flat_across_types else [False]
        if self.nested is not None:
            choices = [self.nested]
        flat, kind = self.flat_across_types, self.decoding_type
        return [kind(nested=each, flat_across_types=not each if flat is None else flat, longest=longest) for each in choices]


@dataclass(frozen=True)
class LearnConfig(EntityLearning):
    """How texts are shown to the learner."""

    negatives: int = key(2, "Types looked for that a window does not contain, for each type that it contains.", low=1)
    soft_rate: float = key(10.0, "Learning rate of soft vectors relative to train.rate.", low=0.001)
