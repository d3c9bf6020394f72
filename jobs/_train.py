"""What a user may set for training, key by key, and how it becomes the engine's own settings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from engine.models.prompt_mrc.config import HARD, HYBRID, MODES, SOFT, STYLES, TAGGER
from engine.models.site_classifier.config import BRANCHES, HEADS
from engine.models.site_classifier.rationales.samples import KINDS
from engine.sources.base import DOUBLE, QUOTING
from jobs._ray_job import check_paths
from jobs._storage import Storage

if TYPE_CHECKING:
    from engine.training.fit import FitConfig


SITE, MRC = SYSTEMS = ("engine.models.site_classifier", "engine.models.prompt_mrc")
# Keys that both systems take, and those of prompt_mrc alone; every other one is of the site classifier alone.
_BOTH_KEYS = {"data": ("path", "cut_share"), "model": ("encoder", "rank", "window"), "learn": ("masking", "budget")}
_MRC_KEYS = {
    "data": ("types", "share", "eval_share"),
    "model": (
        *("mode", "domain", "language", "style", "version", "questions", "ontology", "mentions"),
        *("shared_soft", "type_soft", "depth", "share_layers", "deep", "reparameterise", "overlap", "prompt_room"),
        *("freeze_encoder", "freeze_heads", "base", "nested"),
        "flat_across_types",
    ),
    "learn": ("negatives", "soft_rate"),
}


@dataclass
class SiteData:
    path: str = key(MISSING, "Labelled reports: a Parquet, CSV or JSONL file, a folder or a glob.", path=True)
    id: str = key("record_id", "Column with the reports' ids; they seed the sampling of windows and masks.")
    text: str = key("text", "Column with the text.")
    split: str | None = key(
        "split", "Column that says train, valid or test; where there is none, or with null, a hash of data.group cuts them."
    )
    group: str | None = key(
        "patient_id",
        "Column whose values must not cross splits; where there is none, or with null, each report is a patient of its own.",
    )
    labels: dict[str, str] = key(
        {}, "Column with the code, for each task; {} is {site: site, histology: histology}. Those of an experiment stay beside."
    )
    multi_label: list[str] = key([], "Tasks whose column holds a list of codes; each code is then a yes or no of its own.")
    pair: str | None = key(None, "Column with a second text that is read in front of every window, such as a question.")
    leak: str | None = key(None, "Column that is true where the code itself stands in the text; such rows are scored apart.")
    synthetic: int = key(0, "Synthetic reports to add to train, so that rare codes are met at all.", low=0)
    synthetic_seed: int = key(11, "Seed of the synthetic reports.", low=0)
    synthetic_skew: str = key("uniform", "How common the sites are among synthetic reports.", choices=("uniform", "registry"))
    rationales: str | None = key(
        None, "Column with highlights: a list with start and end of each, and label and annotator where they are said."
    )
    rationale_table: str | None = key(
        None, "Parquet file with highlights instead: record_id, start, end, and label and annotator if known.", path=True
    )
    rationale_rule: str | None = key(
        None, "Take data.rationale_table for a rationale bank, and of it what this rule accepts, such as top(0.5)."
    )
    samples: list[str] = key(["rationale"], "Samples that train gets from highlights, beside the reports.", choices=KINDS)
    held: int = key(
        8192,
        "Examples of train in memory at a time, over all workers, and shuffled among each other; the rest is on disk.",
        low=1,
    )
    cut_share: float = key(
        0.1,
        "Share cut off for test, and of the rest for valid, where nothing says the split; of prompt_mrc the share of train that "
        "becomes the split which a corpus lacks.",
        low=0.01,
        high=0.5,
    )
    encoding: str = key("utf-8", "Encoding of CSV and JSONL files.")
    delimiter: str | None = key(None, "What separates columns of CSV; null is a comma, and a tab in .tsv files. \\t is a tab.")
    quoting: str = key(DOUBLE, "Quotes in CSV, as in input.quoting of the jobs.", choices=QUOTING)
    escape: str | None = key(None, "Character that makes a quote, delimiter or line end behind it part of a CSV column.")


@dataclass
class Data(SiteData):
    types: list[str] = key([], "prompt_mrc: entity types to learn; none: all that train has.")
    share: float = key(1.0, "prompt_mrc: share of train to learn from, chosen by id.", low=0.0001, high=1.0)
    eval_share: float = key(1.0, "prompt_mrc: share of valid and of test to measure on, chosen by id.", low=0.0001, high=1.0)


@dataclass
class Output:
    path: str = key(MISSING, "Checkpoint folder to write; the same command again goes on where it stopped.", path=True)


@dataclass
class Model:
    system: str = key("engine.models.site_classifier", "The system to train; model=<name> sets it.", choices=SYSTEMS)
    encoder: str = key("pkg:minilm", "pkg:minilm, path:<folder>, or hub:<id>@<revision>, which uses the network.")
    rank: int = key(32, "Rank of the adapter on each linear layer of the encoder.", low=1)
    window: int = key(126, "Tokens of text in one window.", low=8)
    head: str = key("pooling", "How a report's tokens become one vector; docs/models.md says what each head is.", choices=HEADS)
    pool_heads: int = key(4, "Queries of the head pooling, for each task.", low=1)
    phrase_samples: int = key(3, "Tokens that the head dpla samples for a phrase.", low=1)
    phrase_reach: float = key(4.0, "How far, in tokens, dpla may move a sample; 0 keeps a plain window.", low=0.0)
    branches: list[str] = key(list(BRANCHES), "Branches of dpla.", choices=BRANCHES)
    mode: str = key("hybrid", "prompt_mrc: what stands in front of a text; docs/models.md.", choices=MODES)
    domain: str = key("general", "prompt_mrc: name of the domain that the shared soft vectors belong to.")
    language: str = key("en", "prompt_mrc: language of the templates, names and definitions that come along: en or es.")
    style: str = key("definition", "prompt_mrc: which templates.", choices=STYLES)
    version: int = key(1, "prompt_mrc: which wording of a style.", low=1)
    questions: dict[str, str] = key({}, "prompt_mrc: own questions for some types, type: text, in place of the templates.")
    ontology: str | None = key(
        None,
        "prompt_mrc: CSV file with type and definition, or pkg:ontology, which comes along: templates make themselves from it "
        "and from mentions of train, which the checkpoint then holds.",
        path=True,
    )
    mentions: int = key(12, "prompt_mrc: most mentions in a template that makes itself.", low=0)
    shared_soft: int = key(10, "prompt_mrc: soft vectors of the domain.", low=0)
    type_soft: int = key(5, "prompt_mrc: soft vectors of each type.", low=0)
    deep: bool = key(False, "prompt_mrc: every layer of the encoder gets soft vectors of its own, not the first alone.")
    reparameterise: bool = key(
        False, "prompt_mrc: soft vectors pass a small network while they are trained; the checkpoint keeps what comes out."
    )
    depth: int = key(0, "prompt_mrc: encoder layers that are kept, the lowest; 0: all.", low=0)
    share_layers: int = key(0, "prompt_mrc: lower layers where prompt and text do not see each other; cheaper.", low=0)
    overlap: int = key(64, "prompt_mrc: tokens that neighbouring windows share.", low=0)
    prompt_room: int = key(96, "prompt_mrc: positions that are kept for the prompt, the longest template included.", low=4)
    freeze_encoder: bool = key(False, "prompt_mrc: train prompts and heads alone.")
    freeze_heads: bool = key(False, "prompt_mrc: leave the heads of model.base as they are.")
    base: str | None = key(None, "prompt_mrc: checkpoint folder to go on from with new prompts.", path=True)
    nested: bool | None = key(None, "prompt_mrc: spans of one type may overlap; null goes by train.")
    flat_across_types: bool = key(False, "prompt_mrc: spans of different types may not overlap either.")


@dataclass
class Learn:
    negatives: int = key(2, "prompt_mrc: types that a window lacks and is asked for, for each that it has.", low=1)
    soft_rate: float = key(10.0, "prompt_mrc: learning rate of soft vectors relative to train.rate.", low=0.0)
    windows: int = key(8, "Windows shown of a report and epoch, drawn at random where it has more.", low=1)
    masking: float = key(0.8, "Share of masked tokens is this times u squared, u uniform for each report.", low=0.0, high=1.0)
    smoothing: float = key(0.05, "Label smoothing.", low=0.0, high=0.5)
    weights: dict[str, float] = key({}, "Weight of a task's loss; 1 where none is given.", low=0.0)
    sample_weight: float = key(1.0, "Weight of the loss on samples made from highlights; a report's is 1.", low=0.0)
    ratio: float = key(-1.0, "Samples from highlights for each report and epoch, drawn anew; negative: each of them once.")
    marking: float = key(0.0, "Weight of a second question, which tokens were highlighted; 0 does not ask it.", low=0.0)
    budget: int | None = key(
        None,
        "Padded tokens in one forward and backward pass; a step's gradient is summed over as many as it takes. "
        "null: 8,192, and on a CPU 2,048, of prompt_mrc 1,024.",
        low=128,
    )
    checkpointing: int = key(
        0, "Windows in the encoder at a time, computed again for the gradient: less memory, more time; 0: keep everything.", low=0
    )


@dataclass
class Train:
    epochs: float = key(3.5, "Passes over the training reports.", low=0.01)
    batch: int = key(12, "Reports a step, over all workers.", low=1)
    rate: float = key(1e-3, "Peak learning rate; it rises over warmup and falls to 0.", low=0.0)
    warmup: float = key(0.06, "Share of the steps in which the rate rises.", low=0.0, high=0.9)
    weight_decay: float = key(0.01, "Weight decay.", low=0.0)
    clip: float = key(1.0, "Largest norm of a step's gradient.", low=0.0)
    seed: int = key(7, "Seed of everything random.", low=0)
    checkpoint_every: int = key(100, "Steps between checkpoints.", low=1)
    report_every: int = key(20, "Steps between lines of progress.", low=1)
    patience: int = key(0, "Epochs without a rise of train.watch after which training ends; 0: go on to the end.", low=0)
    watch: str = key("macro_f1", "Figure on valid to watch: macro_f1, or accuracy or macro_f1 of one task, as in accuracy_site.")


@dataclass
class Cluster:
    workers: int = key(1, "Training processes; each gets a share of every step.", low=1)
    gpu: bool = key(False, "One GPU for each worker.")
    threads: int = key(0, "CPU threads of a worker; 0 shares out this machine's cores.", low=0)
    precision: str = key("auto", "Arithmetic of the frozen encoder; auto goes by the hardware.", choices=("auto", "fp32", "bf16"))
    max_failures: int = key(3, "Lost workers that are replaced before the job gives up with exit code 3.", low=0)


@dataclass
class Config:
    data: Data = section(Data)
    output: Output = section(Output)
    model: Model = section(Model)
    learn: Learn = section(Learn)
    train: Train = section(Train)
    cluster: Cluster = section(Cluster)
    storage: Storage = section(Storage)
    baseline: bool = key(True, "Fit TF-IDF with logistic regression on the same reports, for the model card; some minutes.")
    evidence_sample: int = key(100, "Reports of valid, and as many of test, on which evidence methods are compared.", low=1)


def fit_config(config: Config) -> "FitConfig":
    """The engine's settings.

    Raises:
        ConfigError: a path that would vanish with the folder of a Ray job, a figure to watch that nobody measures, or the weight
            of a task that is none.
    """
    from engine.training.data import noted
    from engine.training.fit import FitConfig
    from engine.training.loop import LoopConfig

    cluster = config.cluster
    check_paths({"data.path": config.data.path, "output.path": config.output.path})
    if config.model.system == MRC:
        return _extractor(config)
    data, model, learn = (_own(config, part, _site_keys(config, part)) for part in ("data", "model", "learn"))
    tasks = tasks_of(config.data)
    data = noted({**data, "labels": tasks})
    check_watch(config.train.watch, tasks)
    unknown = sorted(set(config.learn.weights) - set(tasks))
    if unknown:
        raise ConfigError(f"learn.weights: there is no task '{unknown[0]}'; there are {', '.join(tasks)}")
    return FitConfig(
        learner="engine.training.site_classifier:learner",
        settings={"data": data, "model": model, "learn": learn, "precision": cluster.precision, "seed": config.train.seed},
        loop=LoopConfig(**vars(config.train)),
        workers=cluster.workers,
        gpu=cluster.gpu,
        threads=cluster.threads,
        max_failures=cluster.max_failures,
    )


def tasks_of(data: SiteData) -> dict[str, str]:
    """The tasks that a job teaches, each with its column."""
    from engine.training.data import TASKS

    return dict(data.labels or TASKS)


def check_watch(figure: str, tasks: Iterable[str]) -> None:
    """ConfigError if the site classifier does not measure such a figure on valid."""
    figures = ["macro_f1", *(f"{name}_{task}" for task in tasks for name in ("accuracy", "macro_f1"))]
    if figure not in figures:
        raise ConfigError(f"train.watch: '{figure}' is none of {', '.join(figures)}")


def _extractor(config: Config) -> "FitConfig":
    import os

    from engine.storage import full_path
    from engine.training.fit import FitConfig
    from engine.training.loop import LoopConfig

    cluster = config.cluster
    data, model, learn = (_own(config, part, _MRC_KEYS[part] + _BOTH_KEYS[part]) for part in ("data", "model", "learn"))
    _check_used(config)
    base, questions = model.pop("base"), model.pop("questions")
    # They become questions before a training begins.
    del model["ontology"], model["mentions"]
    decoding = {name: model.pop(name) for name in ("nested", "flat_across_types")}
    kinds = config.data.types if len(config.data.types) > 1 else []
    figures = ["f1", "precision", "recall", *(f"f1_{name}" for name in kinds)]
    if config.train.watch not in figures:
        raise ConfigError(f"train.watch: '{config.train.watch}' is none of {', '.join(figures)}")
    return FitConfig(
        learner="engine.training.prompt_mrc:learner",
        settings={
            "data": data,
            "model": model,
            "learn": learn,
            "questions": questions,
            "decoding": decoding,
            "base": full_path(os.path.expanduser(base)) if base and base != "shipped" else base,
            "precision": cluster.precision,
            "seed": config.train.seed,
        },
        loop=LoopConfig(**vars(config.train)),
        workers=cluster.workers,
        gpu=cluster.gpu,
        threads=cluster.threads,
        max_failures=cluster.max_failures,
    )


def _check_used(config: Config) -> None:
    """ConfigError if a key is set that the mode of prompt_mrc, or prompt_mrc at all, has no use for."""
    model, mode = config.model, config.model.mode
    asks, learns = mode in (HARD, HYBRID), mode in (SOFT, HYBRID)
    used = {"style": asks, "version": asks, "ontology": asks, "mentions": asks, "shared_soft": learns, "type_soft": learns}
    used |= {"prompt_room": mode != TAGGER}
    told = f"model.mode={mode} has no use for it; leave it out"
    for name, is_used in used.items():
        if not is_used and getattr(model, name) != getattr(Model, name):
            raise ConfigError(f"model.{name}: {told}")
    if model.nested and mode == TAGGER:
        raise ConfigError(f"model.nested: {told}")
    if model.ontology is None and model.mentions != Model.mentions:
        raise ConfigError(
            "model.mentions: only templates that make themselves have mentions; give model.ontology, or leave it out"
        )
    if model.ontology is not None and (model.style, model.version) != (Model.style, Model.version):
        raise ConfigError("model.style and model.version: with model.ontology templates make themselves; leave these out")
    for name in ("baseline", "evidence_sample"):
        if getattr(config, name) != getattr(Config, name):
            raise ConfigError(f"{name}: model=prompt_mrc has no use for it; leave it out")


def _site_keys(config: Config, part: str) -> list[str]:
    return [name for name in vars(getattr(config, part)) if name not in _MRC_KEYS[part]]


def _own(config: Config, part: str, taken: Sequence[str]) -> dict[str, Any]:
    """The keys of a section that the system in question takes.

    Raises:
        ConfigError: another one was set.
    """
    plain, found = vars(getattr(Config(), part)), {}
    for name, value in vars(getattr(config, part)).items():
        if name in taken:
            found[name] = value
        elif value != plain[name] and name != "system":
            raise ConfigError(f"{part}.{name}: model={config.model.system.rpartition('.')[2]} has no use for it; leave it out")
    found.pop("system", None)
    # What is null among these is left to the learner.
    return {name: value for name, value in found.items() if part != "learn" or value is not None}
