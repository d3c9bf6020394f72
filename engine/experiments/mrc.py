"""What the experiments with Prompt-bioMRC share: a corpus by its name, a model trained on it, and its figures as results.

Models are trained in this process by the loop that trains every system; a training that was stopped goes on from its last
checkpoint, and one that is done is read again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import save

from engine.encoders import set_threads
from engine.errors import ConfigError
from engine.evaluation.spans import ALL, Mention, Mentions
from engine.experiments.here import keep_model, kept_model, learned_from, trained
from engine.experiments.in_memory import Outcome, device_called, outcome, parameters, prepared, tensors_of, tuned
from engine.experiments.run import Result, Say
from engine.experiments.significance import difference, over_seeds
from engine.models.prompt_mrc.checkpoint import read_checkpoint, write_checkpoint
from engine.models.prompt_mrc.config import MODES, DataConfig, Decoding
from engine.models.prompt_mrc.corpus import Corpus, load_corpus, marked_mentions, members_of
from engine.models.prompt_mrc.learner import MrcLearner
from engine.models.prompt_mrc.learning import examples_of
from engine.sources.labelled.splits import TEST, TRAIN, VALID
from engine.storage import whole_file
from engine.training.config import LoopConfig
from engine.training.loop import Worker

TUNED = "tuned.json"
MAIN = ("precision", "recall", "f1", "overlap_f1", "iou_f1", "char_f1", "start_accuracy", "end_accuracy", "index_both")
_FOUND = pa.schema(
    [("record_id", pa.string()), ("start", pa.int32()), ("end", pa.int32()), ("type", pa.string()), ("score", pa.float32())]
)


@dataclass(frozen=True)
class MrcRecipe:
    """How an experiment reads and trains; the names and meanings are those of `jobs.train model=prompt_mrc`.

    `path` is a folder with a file `<corpus>.parquet` for each of `corpora`. Thresholds are set on `tuned_texts` of valid, chosen
    by their ids (0: all); nothing else is. `rounds` are drawn for intervals over texts. `device` is auto, cpu or cuda; what auto
    stands for here belongs to the settings, since it decides about the precision. `states` is a folder for what is trained, which
    experiments share (None: with the results).
    """

    many_seeds: ClassVar[bool] = False
    many_corpora: ClassVar[bool] = True

    path: str
    corpora: tuple[str, ...] = ("NCBI-disease",)
    seeds: tuple[int, ...] = (7,)
    encoder: str = "pkg:minilm"
    language: str = "en"
    rank: int = 32
    window: int = 180
    match_width: int = 128
    shared_soft: int = 10
    type_soft: int = 5
    epochs: float = 8.0
    batch: int = 12
    rate: float = 2e-3
    masking: float = 0.3
    share: float = 1.0
    eval_share: float = 1.0
    tuned_texts: int = 1000
    rounds: int = 1000
    threads: int = 0
    states: str | None = None
    precision: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "corpora", tuple(self.corpora))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not self.corpora or not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("data.corpora and sizes.seeds: name at least one of each, each once")
        for key, given, many in (("sizes.seeds", self.seeds, self.many_seeds), ("data.corpora", self.corpora, self.many_corpora)):
            if len(given) > 1 and not many:
                raise ConfigError(f"{key}: this experiment takes one {key.partition('.')[2]}, not {len(given)}; leave one")
        object.__setattr__(self, "device", device_called(self.device).type)

    def values(self) -> dict[str, Any]:
        """The settings that change a result."""
        return {name: value for name, value in asdict(self).items() if name not in ("threads", "states")}

    def file(self, corpus: str) -> str:
        """Where a corpus is."""
        return f"{self.path.rstrip('/')}/{corpus}.parquet"


@dataclass(frozen=True)
class Fitted:
    """A trained model with tuned thresholds, and the corpus it learned. `seconds` an epoch took."""

    learner: MrcLearner
    kept: Mapping[str, torch.Tensor]
    corpus: Corpus
    valid_f1: float
    seconds: float

    def save(self, folder: Path) -> None:
        """As a checkpoint, for `base` of another training."""
        config = self.learner.network.config
        write_checkpoint(folder, config, tensors_of(self.learner, self.kept), self.learner.decoding, "of an experiment\n")


def known_modes(modes: Iterable[str]) -> tuple[str, ...]:
    """The modes as they came.

    Raises:
        ConfigError: one is no mode.
    """
    found = tuple(modes)
    unknown = [mode for mode in found if mode not in MODES]
    if unknown or not found:
        raise ConfigError(f"sizes.modes: '{unknown[0] if unknown else ''}' is none of {', '.join(MODES)}")
    return found


@lru_cache(maxsize=4)
def corpus_of(config: DataConfig, needed: tuple[str, ...] = (TRAIN, VALID, TEST)) -> Corpus:
    """A corpus, kept for the arms that follow."""
    return load_corpus(config, needed)


def settings_of(recipe: MrcRecipe, corpus: str, seed: int, **changes: Any) -> dict[str, Any]:
    """The settings of one training. `changes` are fields of the model's configuration, or `share`, `types`, `questions`, `base`,
    `nested` and `soft_rate`."""
    data = {"path": recipe.file(corpus), "share": changes.pop("share", recipe.share), "eval_share": recipe.eval_share}
    data["types"] = tuple(changes.pop("types", ()))
    rest = {name: changes.pop(name, None) for name in ("questions", "base", "nested")}
    learn = {"masking": recipe.masking}
    if "soft_rate" in changes:
        learn["soft_rate"] = changes.pop("soft_rate")
    model = {name: getattr(recipe, name) for name in ("encoder", "language", "rank", "window", "match_width")}
    model |= {name: getattr(recipe, name) for name in ("shared_soft", "type_soft")}
    return {
        "data": data,
        "model": model | {"domain": corpus} | changes,
        "learn": learn,
        "questions": rest["questions"],
        "base": rest["base"],
        "decoding": {"nested": rest["nested"]},
        "precision": recipe.precision,
        "seed": seed,
    }


def fitted(
    recipe: MrcRecipe, settings: Mapping[str, Any], folder: Path, say: Say, rate: float | None = None, epochs: float = 0
) -> Fitted:
    """Trains in `folder`, or goes on with it, and tunes the thresholds on valid. A model that an experiment with the same folder
    of states trained alike, on the same texts, is taken from there.

    Args:
        rate, epochs: in place of the recipe's.
    """
    learner, kept, corpus = _prepared(recipe, settings)
    loop = LoopConfig(
        epochs=epochs or recipe.epochs,
        batch=recipe.batch,
        rate=rate or recipe.rate,
        seed=settings["seed"],
        report_every=50,
        checkpoint_every=200,
        watch="macro_f1",
        validated=False,
    )
    shared = _shared(recipe, settings, learner, corpus, loop)
    curve = kept_model(learner, shared) if shared else None
    if curve is not None:
        say("trained before")
    else:
        curve = trained(learner, loop, folder, lambda row: say(_line(row)))
        if shared:
            keep_model(learner, curve, shared)
    learner.network.eval()
    score = _tuned(learner, folder, recipe.tuned_texts)
    say(f"valid F1 {score:.3f} after {curve[-1]['epoch']:.1f} epochs")
    return Fitted(learner, kept, corpus, score, _seconds(curve))


def _shared(recipe: MrcRecipe, settings: Mapping[str, Any], learner: MrcLearner, corpus: Corpus, loop: LoopConfig) -> Path | None:
    """The file of a model that was trained like this on these texts, whatever the experiment measures of it."""
    if not recipe.states:
        return None
    config = learner.network.config
    told = {
        "model": config.to_json(),
        "encoder": str(next(learner.network.encoder.parameters()).dtype),
        "learn": asdict(learner.config),
        "loop": asdict(loop),
        "base": read_checkpoint(settings["base"]).digest if settings.get("base") else None,
        "device": recipe.device,
        "known": sorted((str(name), sorted(kinds)) for name, kinds in corpus.marked.items()),
    }
    documents = [corpus.documents[member] for member in members_of(corpus, TRAIN)]
    spans = ([asdict(span) for span in each.spans if span.type in config.types] for each in documents)
    texts = ([each.record_id, each.dataset, each.text, some] for each, some in zip(documents, spans, strict=True))
    return Path(recipe.states) / "prompt_mrc" / f"{learned_from(told, texts)}.safetensors"


def untrained(recipe: MrcRecipe, settings: Mapping[str, Any]) -> Outcome:
    """What a model does on test that nothing was trained of, but its thresholds tuned on valid: a base as it is."""
    learner, _, corpus = _prepared(recipe, settings)
    learner.network.eval()
    tuned(learner, recipe.tuned_texts)
    return outcome(learner, corpus, TEST, recipe.rounds)


def _prepared(recipe: MrcRecipe, settings: Mapping[str, Any]) -> tuple[MrcLearner, dict[str, torch.Tensor], Corpus]:
    use_threads(recipe)
    corpus = corpus_of(DataConfig(**settings["data"]))
    return *prepared(settings, corpus, Worker(device=torch.device(recipe.device))), corpus


def use_threads(recipe: MrcRecipe) -> None:
    """Lets torch have as many threads as the recipe says."""
    set_threads(recipe.threads)


def _seconds(curve: Sequence[Mapping[str, Any]]) -> float:
    """Seconds an epoch: those between the rows, which end before what is done at a row's end."""
    steps = [0, *(row["step"] for row in curve)]
    spent = sum((step - before) / row["steps_per_second"] for before, step, row in zip(steps, steps[1:], curve, strict=False))
    return spent / curve[-1]["epoch"]


def _tuned(learner: MrcLearner, folder: Path, most: int) -> float:
    """Sets the thresholds, once for the trained weights, and returns the F1 on valid; `folder` keeps a note of it."""
    note, begun = folder / TUNED, {"weights": _digest(learner.parameters()), "begun": learner.decoding.to_json()}
    found = json.loads(note.read_text()) if note.is_file() else {}
    if begun.items() <= found.items():
        learner.decoding = Decoding(**found["decoding"])
        return found["valid_f1"]
    score = tuned(learner, most)
    with whole_file(note) as part:
        part.write_text(json.dumps({**begun, "decoding": learner.decoding.to_json(), "valid_f1": score}) + "\n")
    return score


def _digest(tensors: Mapping[str, torch.Tensor]) -> str:
    plain = {name: value.detach().contiguous() for name, value in sorted(tensors.items())}
    return hashlib.sha256(save(plain)).hexdigest()


def measured(model: Fitted, corpus: Corpus | None = None, rounds: int = 1000) -> Outcome:
    """What a model does on the test split, of its own corpus or another one that its learner reads."""
    return outcome(model.learner, corpus or model.corpus, TEST, rounds)


def on_other(model: Fitted, settings: Mapping[str, Any], other: Corpus, decoding: Decoding | None = None) -> MrcLearner:
    """The model's network on another corpus's texts, asked for the types of both; its own thresholds, or those of `decoding`."""
    config = model.learner.network.config
    examples, _ = examples_of(replace(other, types=config.types), config, DataConfig(**settings["data"]).max_tokens)
    own = model.learner
    made = MrcLearner(own.network, examples, own.config, own.device, decoding or own.decoding)
    made.types = [number for number, name in enumerate(config.types) if name in other.types]
    return made


def results_of(found: Outcome, metrics: Sequence[str] = MAIN, by_type: Sequence[str] = ("f1",)) -> list[Result]:
    """Figures over all types, those `by_type` for each, and calibration. `n` are the marked mentions, of all types or of the one;
    of calibration the found ones."""
    figures, results = found.figures, []
    for metric in metrics:
        each = figures.values[metric, ALL]
        results.append(Result(metric, each.value, each.low, each.high, figures.mentions))
    for kind in figures.types if len(figures.types) > 1 else ():
        for metric in by_type:
            each = figures.values[metric, f"type={kind}"]
            results.append(Result(f"{metric}:{kind}", each.value, each.low, each.high, figures.marked[kind]))
    return [*results, Result("ece", found.ece, n=len(found.found)), Result("brier", found.brier, n=len(found.found))]


def cost_of(model: Fitted) -> list[Result]:
    """Trained parameters and seconds an epoch."""
    counted = parameters(model.learner)
    return [
        Result("trained_parameters", counted["trained"]),
        Result("seconds_per_epoch", model.seconds),
        Result("valid_f1", model.valid_f1, note="in words, after tuning the thresholds"),
    ]


def over(values: Mapping[str, Sequence[float]]) -> list[Result]:
    """Means over seeds with Student's intervals, by metric."""
    found = []
    for metric, each in values.items():
        estimate = over_seeds(each)
        found.append(Result(metric, estimate.value, estimate.low, estimate.high, len(each)))
    return found


def keep_found(folder: Path, found: Outcome) -> None:
    """Writes what a model found on test, for comparisons with others."""
    rows = [
        {"record_id": each.record_id, "start": each.mention[0], "end": each.mention[1], "type": each.mention[2]}
        for each in found.found
    ]
    table = [{**row, "score": each.score} for row, each in zip(rows, found.found, strict=True)]
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table, schema=_FOUND), folder / "found.parquet")


def kept_found(folder: Path, record_ids: Iterable[str]) -> dict[str, list[Mention]]:
    """What `keep_found` wrote, by record."""
    found: dict[str, list[Mention]] = {record_id: [] for record_id in record_ids}
    for row in pq.read_table(folder / "found.parquet").to_pylist():
        found[row["record_id"]].append((row["start"], row["end"], row["type"]))
    return found


def less(name: str, gold: Mentions, one: Mentions, other: Mentions, rounds: int) -> list[Result]:
    """F1 less that of another model, the same texts drawn for both."""
    estimate, p = difference(gold, one, other, "", rounds)
    note = f"exact F1 less that of {name}: interval and p over texts, one training each"
    return [
        Result("f1_less", estimate.value, estimate.low, estimate.high, len(gold), note),
        Result("f1_less_p", p, n=len(gold)),
    ]


def gold_of(recipe: MrcRecipe, corpus: str, seed: int = 0, **changes: Any) -> dict[str, list[Mention]]:
    """Marked mentions of a corpus's test texts."""
    found = corpus_of(DataConfig(**settings_of(recipe, corpus, seed, **changes)["data"]))
    return marked_mentions(found, members_of(found, TEST), found.types)


def _line(row: Mapping[str, Any]) -> str:
    figures = [f"{name.removeprefix('valid_')} {row[name]:.3f}" for name in ("valid_f1",) if name in row]
    return ", ".join([f"step {row['step']} of {row['steps']}", f"{row['tokens_per_second']:,.0f} tokens/s", *figures])
