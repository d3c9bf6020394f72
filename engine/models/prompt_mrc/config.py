"""What an extractor of entities is made of: everything that its weights and its answers depend on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from engine.errors import ConfigError
from engine.keys import MISSING, key

TAGGER, NAME, HARD, SOFT, HYBRID = "tagger", "name", "hard", "soft", "hybrid"
MODES = (TAGGER, NAME, HARD, SOFT, HYBRID)
# Where to calculate; auto is a GPU where there is one.
DEVICES = ("auto", "cpu", "cuda")
STYLES = ("question", "definition", "definition+examples")


@dataclass(frozen=True)
class MrcConfig:
    """Architecture of a checkpoint.

    `mode` says what stands in front of a text: nothing and tags are predicted (`tagger`), the type's name, a hard template, soft
    vectors, or template and vectors (`hybrid`). `queries` has the template's text of each type, in the order of `types`.
    `shared_soft` vectors belong to the domain, `type_soft` to each type. With `deep` each layer of the encoder has its own, which
    take the places of those of the layer before.

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
        if self.deep and not self.is_soft:
            raise ConfigError(f"model.deep: a model of the mode '{self.mode}' has no soft vectors; set it to false")
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


@dataclass(frozen=True)
class DataConfig:
    """Annotated texts for training. `path` is what `engine.sources.labelled.read_documents` reads. `max_tokens` are read of a
    text."""

    path: str = key(
        MISSING,
        "Annotated texts: a file, a folder or a glob of IOB2, BRAT, GENIA XML, or Parquet with tokens and tags or with text and "
        "spans; or a file or glob of CSV or JSONL with text and spans.",
        path=True,
    )
    types: tuple[str, ...] = key((), "Entity types to learn; [] learns all types of the training set.")
    share: float = key(1.0, "Share of the training set to learn from, chosen by id.", low=0.0001, high=1.0)
    eval_share: float = key(1.0, "Share of the validation and test sets to measure on, chosen by id.", low=0.0001, high=1.0)
    cut_share: float = key(
        0.1, "If the corpus lacks a validation or test set, the share of the training set that replaces it.", low=0.01, high=0.5
    )
    max_tokens: int = 16384

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.eval_share <= 1 and 0 < self.cut_share < 1):
            raise ConfigError("data.share and data.eval_share must lie above 0 and at most at 1, data.cut_share between 0 and 1")


@dataclass(frozen=True)
class ModelConfig:
    """What a training may set of a model, see `MrcConfig` and `Decoding`, and what it makes questions of or goes on from."""

    encoder: str = key(MrcConfig.encoder, "pkg:minilm, path:<folder>, or hub:<id>@<revision>, which uses the network.")
    rank: int = key(MrcConfig.rank, "Rank of the adapter on each linear layer of the encoder.", low=1)
    window: int = key(MrcConfig.window, "Tokens of text in one window.", low=8)
    mode: str = key(MrcConfig.mode, "What precedes a text; docs/models.md describes each mode.", choices=MODES)
    domain: str = key(MrcConfig.domain, "Name of the domain that the shared soft vectors belong to.")
    language: str = key(MrcConfig.language, "Language of the built-in templates, names and definitions: en or es.")
    style: str = key(MrcConfig.style, "Style of the built-in templates.", choices=STYLES)
    version: int = key(MrcConfig.version, "Version of the wording of this style.", low=1)
    questions: Mapping[str, str] = key({}, "Your own questions for some types, as {type: text}, in place of the templates.")
    ontology: str | None = key(
        None,
        "CSV file with the columns type and definition, or the built-in pkg:ontology. Templates are then built "
        "from it and from mentions of the training set; the checkpoint holds these mentions.",
        path=True,
    )
    mentions: int = key(12, "Largest number of mentions in a template built with model.ontology.", low=0)
    shared_soft: int = key(MrcConfig.shared_soft, "Soft vectors of the domain.", low=0)
    type_soft: int = key(MrcConfig.type_soft, "Soft vectors of each type.", low=0)
    deep: bool = key(MrcConfig.deep, "Give every layer of the encoder its own soft vectors, not only the first.")
    depth: int = key(MrcConfig.depth, "Number of encoder layers to keep, from the lowest; 0 keeps all.", low=0)
    share_layers: int = key(
        MrcConfig.share_layers, "Number of lower layers in which prompt and text do not see each other, which saves time.", low=0
    )
    overlap: int = key(MrcConfig.overlap, "Tokens that neighbouring windows share.", low=0)
    prompt_room: int = key(MrcConfig.prompt_room, "Positions reserved for the prompt; the longest template must fit.", low=4)
    freeze_encoder: bool = key(MrcConfig.freeze_encoder, "Train only prompts and heads.")
    freeze_heads: bool = key(MrcConfig.freeze_heads, "Leave the heads of model.base as they are.")
    base: str | None = key(None, "Checkpoint folder whose model gets new prompts.", path=True)
    nested: bool | None = key(None, "Whether spans of one type may overlap; null allows it if they do in the training set.")
    flat_across_types: bool = key(False, "Forbid overlap between spans of different types too.")


@dataclass(frozen=True)
class LearnConfig:
    """How texts are shown. The share of masked tokens of a window is `masking` u^2, u uniform.

    `negatives` types that a window lacks are asked for with each that it has. `weights` are those of start, end and match,
    `random_pairs` the match pairs drawn at random. `soft_rate` is the learning rate of soft vectors relative to the others'.
    `budget` is padded tokens a micro-batch.
    """

    masking: float = key(
        0.3,
        "The share of masked tokens in a window is this times u squared, with u drawn uniformly from 0 to 1.",
        low=0.0,
        high=1.0,
    )
    negatives: int = key(
        2, "For each type that a window contains, the number of types looked for that it does not contain.", low=1
    )
    weights: tuple[float, float, float] = (1.0, 1.0, 0.1)
    random_pairs: int = 5
    soft_rate: float = key(10.0, "Learning rate of soft vectors relative to train.rate.", low=0.0)
    budget: int | None = key(
        None,
        "Padded tokens in one forward and backward pass; a step sums the gradients of as many passes as it needs. "
        "null: 8,192 on a GPU and 1,024 on a CPU.",
        low=128,
    )
    seed: int = 7

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        if len(self.weights) != 3 or min(self.weights) < 0 or self.weights[0] + self.weights[1] <= 0:
            raise ConfigError("learn.weights: give three, of start, end and match, none below 0")
        if self.negatives < 1 or self.soft_rate <= 0 or not 0 <= self.masking <= 1:
            raise ConfigError("learn: negatives must be at least 1, soft_rate above 0, masking a share from 0 to 1")
