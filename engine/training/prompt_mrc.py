"""Prompt-bioMRC in the training loop: settings to a learner, in each worker, and from its trained weights to a checkpoint."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from engine.encoders import attention_for, encoder_folder, load_tokenizer, pick_precision
from engine.errors import ConfigError
from engine.evaluation.spans import Mention
from engine.models.prompt_mrc.build import completed, new_network
from engine.models.prompt_mrc.checkpoint import check_base, continued, read_checkpoint, trained_tensors
from engine.models.prompt_mrc.config import DEVICES, Decoding, MrcConfig
from engine.models.prompt_mrc.decode import Candidate
from engine.models.prompt_mrc.instances import Marked
from engine.models.prompt_mrc.learner import Examples, LearnConfig, MrcLearner, prepare_training
from engine.models.prompt_mrc.tuning import OFFSETS, floor, settled, tune
from engine.sources.labelled import Broken, Document, Left, from_table, marked_types, read_documents
from engine.sources.labelled.splits import TEST, TRAIN, VALID, drawn, with_splits
from engine.text.tokens import TokenizedText, tokenize
from engine.training.loop import Worker


def device_called(name: str) -> torch.device:
    """Where to calculate: `cpu`, `cuda`, or `auto`, which is a GPU where there is one.

    Raises:
        ConfigError: it is none of these, or there is no GPU.
    """
    if name not in DEVICES:
        raise ConfigError(f"model.device: '{name}' is none of {', '.join(DEVICES)}")
    here = torch.cuda.is_available()
    if name == "cuda" and not here:
        raise ConfigError("model.device: there is no GPU that torch can use here; set it to cpu")
    return torch.device("cuda" if here and name != "cpu" else "cpu")


@dataclass(frozen=True)
class DataConfig:
    """Annotated texts for training. `path` is what `engine.sources.labelled.read_documents` reads.

    `types` are those to learn, all that train has where empty. `share` is the share of train to learn from and `eval_share` that
    of valid and of test to measure on, chosen by id; `cut_share` is cut off train where a corpus lacks a split. `max_tokens` are
    read of a text.
    """

    path: str
    types: Sequence[str] = ()
    share: float = 1.0
    eval_share: float = 1.0
    cut_share: float = 0.1
    max_tokens: int = 16384

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.eval_share <= 1 and 0 < self.cut_share < 1):
            raise ConfigError("data.share and data.eval_share must lie above 0 and at most at 1, data.cut_share between 0 and 1")


@dataclass(frozen=True)
class Corpus:
    """Usable documents with their splits, the types to learn, and by dataset the types that are marked there; which documents are
    `broken`, and how many mentions are `coordinated`, which become no span."""

    documents: list[Document]
    types: tuple[str, ...]
    marked: Mapping[str | None, frozenset[str]]
    broken: Broken
    coordinated: int = 0

    def counts(self) -> dict[str, int]:
        """Documents by dataset and split, and mentions of the types by split."""
        texts = Counter(f"{each.dataset} {each.split}" for each in self.documents)
        mentions = Counter(f"mentions {each.split}" for each in self.documents for span in each.spans if span.type in self.types)
        return dict(sorted(texts.items())) | dict(sorted(mentions.items())) | {"broken": self.broken.count}

    def nested(self) -> bool:
        """Whether marked mentions of one type overlap in train."""
        for document in self.documents:
            ends: dict[str, int] = {}
            for span in document.spans if document.split == TRAIN else ():
                if span.type in self.types and span.start < ends.get(span.type, 0):
                    return True
                ends[span.type] = max(span.end, ends.get(span.type, 0))
        return False


def load_corpus(config: DataConfig, needed: Sequence[str] = (TRAIN, VALID, TEST)) -> Corpus:
    """The documents of a corpus or of several; what belongs to none of the types' datasets is left out.

    Raises:
        ConfigError: more than half of the documents cannot be used, a split is empty, or a type is never marked in train.
    """
    left = Left()
    given = from_table(read_documents(config.path, left))
    broken = Broken.of(given)
    if 2 * broken.count > broken.texts:
        raise ConfigError(
            f"data.path: {broken.lines()[0]}; figures on the rest would say little of the corpus, so mend them or take them out"
        )
    everything = with_splits(given, config.cut_share)
    sound = [each for each in everything if not each.broken]
    asked = [each for each in sound if each.split == TRAIN or TRAIN not in needed]
    learned = {span.type for each in asked for span in each.spans}
    unknown = [name for name in config.types if name not in learned]
    if unknown and asked:
        raise ConfigError(f"data.types: no text of train has a '{unknown[0]}'; it has {', '.join(sorted(learned))}")
    types = tuple(config.types) or tuple(sorted(learned))
    marked = marked_types(sound, types)
    kept = [each for each in sound if marked[each.dataset] and _within(each, config)]
    empty = [split for split in needed if not any(each.split == split for each in (kept if types else sound))]
    if empty or not types:
        theirs = Broken.of([each for each in everything if each.split in empty])
        why = (theirs if theirs.count else broken).lines()[:1]
        raise ConfigError("; ".join([f"data.path: there are no usable texts of {', '.join(empty) or 'any type'}", *why]))
    return Corpus(kept, types, marked, broken, left.count({each.record_id for each in kept}, types))


def corpus_digest(corpus: Corpus) -> str:
    """What tells a corpus from another: its usable texts with all that is marked in them."""
    found = hashlib.sha256()
    for each in corpus.documents:
        found.update(repr((each.record_id, each.dataset, each.split, each.text, each.spans)).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def _within(document: Document, config: DataConfig) -> bool:
    share = config.share if document.split == TRAIN else config.eval_share
    return share >= 1 or drawn(document.record_id, share, "share")


def learner(settings: Mapping[str, Any], worker: Worker) -> MrcLearner:
    """Builds data and network from plain settings: `data`, `model` and `learn` as fields of their dataclasses, `questions` (own
    texts for some types), `decoding` (`nested`, None to go by the data, and `flat_across_types`), `base` (a checkpoint to go on
    from), `precision` and `seed`."""
    return prepared(settings, load_corpus(DataConfig(**settings["data"])), worker)[0]


def check(settings: Mapping[str, Any], corpus: Corpus) -> None:
    """Whether a corpus and the settings of a training, as `learner` takes them, are usable; nothing is trained.

    Raises:
        ConfigError: they are not.
    """
    config = _config(settings, corpus)
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
    LearnConfig(**{**settings["learn"], "seed": settings["seed"]})
    decoding(settings, corpus)


def _config(settings: Mapping[str, Any], corpus: Corpus) -> MrcConfig:
    model = {"types": corpus.types, "seed": settings["seed"], **settings["model"]}
    return completed(MrcConfig(**model), settings.get("questions") or None)


def prepared(settings: Mapping[str, Any], corpus: Corpus, worker: Worker) -> tuple[MrcLearner, dict[str, torch.Tensor]]:
    """The learner on documents that are read already, and tensors of a base model that its checkpoint needs beside its own."""
    torch.manual_seed(settings["seed"])
    base = read_checkpoint(settings["base"]) if settings.get("base") else None
    config = _config(settings, corpus)
    device = str(worker.device)
    dtype, attention = pick_precision(settings.get("precision", "auto"), device), attention_for(device)
    if not config.rank and not config.freeze_encoder:
        # An encoder whose own weights are tuned moves by less than bf16 can hold.
        dtype = torch.float32
    network, kept = (new_network(config, dtype, attention), {}) if base is None else continued(base, config, dtype, attention)
    examples, _ = examples_of(corpus, config, DataConfig(**settings["data"]).max_tokens)
    learn = LearnConfig(**{**settings["learn"], "seed": settings["seed"]})
    return MrcLearner(prepare_training(network), examples, learn, worker.device, decoding(settings, corpus)), kept


def decoding(settings: Mapping[str, Any], corpus: Corpus) -> Decoding:
    """Which spans may stand together; thresholds not yet tuned."""
    given = dict(settings.get("decoding") or {})
    if given.get("nested") is None:
        given["nested"] = corpus.nested() and not given.get("flat_across_types")
    return Decoding(**given)


def examples_of(corpus: Corpus, config: MrcConfig, max_tokens: int) -> tuple[Examples, Marked]:
    """The corpus as tokens and spans in words, in its order, and what became of the marked spans."""
    documents = corpus.documents
    tokens = tokenize(load_tokenizer(encoder_folder(config.encoder)), [each.text for each in documents], max_tokens)
    examples, spent = _examples(corpus, tokens, config.types)
    numbers = {name: number for number, name in enumerate(config.types)}
    known = [frozenset(numbers[name] for name in corpus.marked[each.dataset] if name in numbers) for each in documents]
    return (examples if all(len(each) == len(numbers) for each in known) else replace(examples, known=known)), spent


def spent(settings: Mapping[str, Any], corpus: Corpus) -> Marked:
    """What becomes of the marked spans of a corpus in a training with such settings, before there is one."""
    config = _config(settings, corpus)
    examples, found = examples_of(corpus, config, DataConfig(**settings["data"]).max_tokens)
    return replace(found, overlapping=examples.overlapping(config.possible(decoding(settings, corpus))))


def spent_of(corpus: Corpus, trained: MrcLearner) -> Marked:
    """What became of the marked spans of a learner's corpus."""
    found = _examples(corpus, trained.examples.tokens, trained.network.config.types)[1]
    return replace(found, overlapping=trained.examples.overlapping(trained.decoding))


def _examples(corpus: Corpus, tokens: Sequence[TokenizedText], types: Sequence[str]) -> tuple[Examples, Marked]:
    documents = corpus.documents
    ids, splits = [each.record_id for each in documents], [each.split or "" for each in documents]
    texts, spans = [each.text for each in documents], [[vars(span) for span in each.spans] for each in documents]
    return Examples.of(ids, texts, tokens, spans, splits, types)


def restore(trained: MrcLearner, tensors: Mapping[str, torch.Tensor]) -> None:
    """Puts the weights of a training's state in place."""
    with torch.no_grad():
        for name, value in trained.parameters().items():
            value.copy_(tensors[name])
    trained.network.eval()


def tuned(trained: MrcLearner, most: int = 0) -> float:
    """Sets the learner's thresholds to the best on its validation texts, or `most` of them; returns their exact F1 (in words)."""
    members = trained.held_back(most)
    tried = [trained.decoding]
    if trained.network.config.is_tagger:
        tried = [replace(trained.decoding, outside=each) for each in OFFSETS]
    found = trained.candidates_under(members, [floor(each) for each in tried])
    gold = {(member, span.first, span.last, span.type) for member in members for span in trained.examples.spans[member]}
    best = [
        tune(each, gold, decoding, lambda one: trained.is_known(one.text, one.type))
        for each, decoding in zip(found, tried, strict=True)
    ]
    trained.decoding, score = max(best, key=lambda each: each[1])
    return score


def members_of(corpus: Corpus, split: str) -> list[int]:
    """The numbers of a split's documents."""
    return [number for number, each in enumerate(corpus.documents) if each.split == split]


def marked_mentions(corpus: Corpus, members: Sequence[int], types: Sequence[str]) -> dict[str, list[Mention]]:
    """Gold of some documents by record id, in characters as it was marked."""
    documents = [corpus.documents[member] for member in members]
    return {
        each.record_id: [(span.start, span.end, span.type) for span in each.spans if span.type in types] for each in documents
    }


@dataclass(frozen=True)
class Finding:
    """A found span with the probability it was given."""

    record_id: str
    mention: Mention
    score: float


def findings(trained: MrcLearner, corpus: Corpus, members: Sequence[int]) -> list[Finding]:
    """What a learner finds in some documents, of the types that are marked in their dataset."""
    found = settled(trained.candidates(members, trained.decoding), trained.decoding)
    return [_finding(trained, corpus, each) for each in found if trained.is_known(each.text, each.type)]


def _finding(trained: MrcLearner, corpus: Corpus, each: Candidate) -> Finding:
    words, kind = trained.examples.tokens[each.text], trained.network.config.types[each.type]
    mention = int(words.word_start[each.first]), int(words.word_end[each.last]), kind
    return Finding(corpus.documents[each.text].record_id, mention, each.score)


def by_record(found: Sequence[Finding], record_ids: Sequence[str]) -> dict[str, list[Mention]]:
    """Mentions of each record, none for one without."""
    mentions: dict[str, list[Mention]] = {record_id: [] for record_id in record_ids}
    for each in found:
        mentions[each.record_id].append(each.mention)
    return mentions


def parameters(trained: MrcLearner) -> dict[str, int]:
    """How many numbers the network has, and how many of them are trained."""
    return {
        "total": sum(value.numel() for value in trained.network.parameters()),
        "trained": sum(value.numel() for value in trained.parameters().values()),
    }


def tensors_of(trained: MrcLearner, kept: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the checkpoint of a learner holds."""
    return {**kept, **trained_tensors(trained.network)} if kept else trained_tensors(trained.network)
