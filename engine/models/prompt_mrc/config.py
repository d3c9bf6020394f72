"""What an extractor of entities is made of: everything that its weights and its answers depend on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from engine.errors import ConfigError

TAGGER, NAME, HARD, SOFT, HYBRID = "tagger", "name", "hard", "soft", "hybrid"
MODES = (TAGGER, NAME, HARD, SOFT, HYBRID)
# Where to calculate; auto is a GPU where there is one.
DEVICES = ("auto", "cpu", "cuda")
STYLES = ("question", "definition", "definition+examples")
# Ways of learning soft vectors.
_OF_SOFT = ("deep", "reparameterise")


@dataclass(frozen=True)
class MrcConfig:
    """Architecture of a checkpoint.

    `mode` says what stands in front of a text: nothing and tags are predicted (`tagger`), the type's name, a hard template, soft
    vectors, or template and vectors (`hybrid`). `queries` has the template's text of each type, in the order of `types`.
    `shared_soft` vectors belong to the domain, `type_soft` to each type. With `deep` each layer of the encoder has its own, which
    take the places of those of the layer before. With `reparameterise` they pass a small network while they are trained.

    `window` counts tokens of text a window, `overlap` those that neighbours share. Positions of the text begin at `prompt_room`,
    whatever the prompt's length, so that a text is read alike under every prompt. `depth` is the number of encoder layers that
    are kept (0: all). In the lower `share_layers` prompt and text do not see each other, so that a text is encoded once for all
    types there and the prompts only once a run (DeFormer, Cao et al. 2020, section 3). `rank` is that of the adapter (0: the
    encoder itself is tuned); `freeze_encoder` and `freeze_heads` leave those parts as they are. `prior` is the share of words
    expected to begin an entity of a type, which the heads start from. `max_words` is the longest span. `special` are the ids of
    [CLS], [SEP], [PAD] and [MASK].

    A span begins at a word's first piece and ends at a word's last one, as the tokenizer's pre-tokenizer parts words.
    """

    types: tuple[str, ...]
    queries: tuple[str, ...] = ()
    mode: str = HYBRID
    domain: str = "general"
    language: str = "en"
    style: str = "definition"
    version: int = 1
    shared_soft: int = 10
    type_soft: int = 5
    deep: bool = False
    reparameterise: bool = False
    encoder: str = "pkg:minilm"
    encoder_digest: str = ""
    rank: int = 32
    freeze_encoder: bool = False
    freeze_heads: bool = False
    depth: int = 0
    share_layers: int = 0
    window: int = 180
    overlap: int = 64
    prompt_room: int = 96
    match_width: int = 128
    max_words: int = 30
    prior: float = 0.02
    special: tuple[int, int, int, int] = (101, 102, 0, 103)
    seed: int = 7

    def __post_init__(self) -> None:
        for name in ("types", "queries", "special"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.mode not in MODES:
            raise ConfigError(f"model.mode: '{self.mode}' is none of {', '.join(MODES)}")
        if not self.types or len(set(self.types)) < len(self.types) or not all(self.types):
            raise ConfigError("model.types: name at least one type, each once")
        if self.queries and len(self.queries) != len(self.types):
            raise ConfigError(f"model.queries: {len(self.types)} types need as many, there are {len(self.queries)}")
        if min(self.shared_soft, self.type_soft, self.rank, self.depth, self.share_layers) < 0:
            raise ConfigError("model: shared_soft, type_soft, rank, depth and share_layers must be at least 0")
        if self.is_soft and not self.soft:
            raise ConfigError(f"model.mode: '{self.mode}' needs soft vectors; set model.shared_soft or model.type_soft above 0")
        for name in _OF_SOFT:
            if getattr(self, name) and not self.is_soft:
                raise ConfigError(f"model.{name}: a model of the mode '{self.mode}' has no soft vectors; set it to false")
        if self.window < 2 or not 0 <= self.overlap < self.window:
            raise ConfigError("model.window: must be at least 2, and model.overlap at least 0 and smaller than it")
        if self.depth and self.share_layers > self.depth:
            raise ConfigError(f"model.share_layers: {self.share_layers} is more than the {self.depth} layers that are kept")
        if self.max_words < 1 or self.match_width < 1 or not 0 < self.prior < 1:
            raise ConfigError("model: max_words and match_width must be at least 1, prior a share between 0 and 1")

    @property
    def is_tagger(self) -> bool:
        return self.mode == TAGGER

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
    def room(self) -> int:
        """Word pieces that a prompt may have, beside its soft vectors and two marks."""
        return self.prompt_room - self.soft - 2

    @property
    def context_position(self) -> int:
        """The position that the first token of a text has."""
        return 1 if self.is_tagger else self.prompt_room

    def number(self, name: str) -> int:
        """The place of a type.

        Raises:
            ConfigError: the model has no such type.
        """
        if name not in self.types:
            raise ConfigError(f"the model has no type '{name}'; it has {', '.join(self.types)}")
        return self.types.index(name)

    def possible(self, decoding: "Decoding") -> "Decoding":
        """A decoding as this model can follow it: a tagger has one tag of a type for each word, so its spans never nest."""
        return replace(decoding, nested=False) if self.is_tagger else decoding

    def check_room(self, words: int, name: str, key: str | None = None) -> None:
        """Whether a type's prompt of so many word pieces has room in front of a text.

        Args:
            key: where a user asks a model whose room is as it is; without one the model is about to be made.
        Raises:
            ConfigError: it has not.
        """
        if words > self.room:
            less = "a shorter question in model.questions" if words else "fewer vectors in model.shared_soft and model.type_soft"
            raise ConfigError(
                f"{key or 'model.prompt_room'}: the prompt for {name} of {words} word pieces and {self.soft} soft vectors takes "
                f"{words + self.soft + 2} positions, there are {self.prompt_room}; "
                f"{'shorten the question' if key else f'raise it, or set {less}'}"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values for config.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "MrcConfig":
        """The inverse of `to_json`."""
        return cls(**values)


@dataclass(frozen=True)
class Decoding:
    """Thresholds, and which spans may stand together: `nested` keeps all, else those of one type do not overlap, with
    `flat_across_types` none at all. Of a tagger `match` is the threshold of a span's score, and the others have no effect;
    `outside` is taken from its logits of no mention before tags are chosen, so that it, too, may find more or less."""

    start: float = 0.5
    end: float = 0.5
    match: float = 0.5
    nested: bool = True
    flat_across_types: bool = False
    outside: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 < each < 1 for each in (self.start, self.end, self.match)):
            raise ConfigError("decoding: thresholds must lie between 0 and 1")
        if self.nested and self.flat_across_types:
            raise ConfigError("nested spans and flat_across_types exclude each other; set one of the two to false")

    def to_json(self) -> dict[str, Any]:
        """Plain values for decoding.json."""
        return asdict(self)
