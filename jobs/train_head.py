"""Trains further heads for a model: `python -m jobs.train_head model.heads=[dpla] data.path=... output.path=...`."""

import shlex
import sys
from dataclasses import dataclass

from engine.keys import MISSING, key, section
from engine.models.site_classifier.config import BRANCHES, HEADS
from jobs._front import job
from jobs._storage import Storage, use
from jobs._train import SiteData, Train, check_watch, tasks_of


@dataclass
class Model:
    path: str = key("shipped", "Checkpoint folder; it stays as it is. 'shipped' is the model that comes along.", path=True)
    heads: list[str] = key(
        MISSING, "Heads to train, none of them the model's own; docs/models.md says what each is.", choices=HEADS
    )
    pool_heads: int = key(4, "Queries of the head pooling, for each task.", low=1)
    phrase_samples: int = key(3, "Tokens that the head dpla samples for a phrase.", low=1)
    phrase_reach: float = key(4.0, "How far, in tokens, dpla may move a sample; 0 keeps a plain window.", low=0.0)
    branches: list[str] = key(list(BRANCHES), "Branches of dpla.", choices=BRANCHES)


@dataclass
class Output:
    path: str = key(MISSING, "Checkpoint folder to write; the same command again goes on where it stopped.", path=True)


@dataclass
class Learn:
    max_tokens: int = key(1024, "Tokens kept of each training text, from its beginning; about 770 bytes of disk each.", low=16)
    windows: int = key(4, "Windows shown of a text and epoch, drawn at random where it has more.", low=1)
    masking: float = key(0.8, "Share of hidden tokens is this times u squared, u uniform for each text.", low=0.0, high=1.0)
    smoothing: float = key(0.05, "Label smoothing.", low=0.0, high=0.5)
    sample_weight: float = key(1.0, "Weight of the loss on samples made from highlights; a report's is 1.", low=0.0)
    ratio: float = key(-1.0, "Samples from highlights for each report and epoch, drawn anew; negative: each of them once.")
    budget: int = key(8192, "Padded tokens in one forward and backward pass.", low=128)


@dataclass
class HeadTrain(Train):
    epochs: float = key(5.0, "Passes over the training reports.", low=0.01)
    batch: int = key(24, "Reports a step.", low=1)


@dataclass
class Config:
    data: SiteData = section(SiteData)
    output: Output = section(Output)
    model: Model = section(Model)
    learn: Learn = section(Learn)
    train: HeadTrain = section(HeadTrain)
    storage: Storage = section(Storage)
    baseline: bool = key(False, "Fit TF-IDF with logistic regression on the same reports, for the model card; some minutes.")
    evidence_sample: int = key(40, "Reports of valid, and as many of test, on which evidence methods are compared.", low=1)
    batch_tokens: int = key(8192, "Tokens in one forward pass of the encoder, padding included.", low=128)
    threads: int = key(0, "CPU threads; 0 leaves it to torch.", low=0)
    precision: str = key("auto", "Arithmetic of the encoder; as in the runs to come.", choices=("auto", "fp32", "bf16"))
    device: str = key("cpu", "Where the model runs.", choices=("cpu", "cuda"))


@job(
    "train_head",
    Config,
    "Trains further heads for a model, whose encoder stays as it is: every text is encoded once and all heads learn on its token "
    "states. Calibrates them on valid, measures them on test, and writes a new checkpoint folder that has the old head and "
    "these; jobs.code_reports takes one with model.head.",
    examples=[
        "experiment=tcga data.path='<folder>/pathology_tcga/*.parquet' model.heads=[cls,dpla] output.path=heads",
        "model.path=my_model model.heads=[cls,target] data.path=reports.parquet output.path=my_model_2",
    ],
)
def main(config: Config) -> None:
    """Trains, then calibrates and measures."""
    from engine.benchmarks.baseline import baseline_figures
    from engine.models.site_classifier.learner import LearnConfig
    from engine.training.data import DataConfig
    from engine.training.heads import HeadsConfig, train_heads
    from engine.training.loop import LoopConfig

    use(config.storage)
    check_watch(config.train.watch, tasks_of(config.data))
    told = [each for each in sys.argv[1:] if not each.startswith("storage.")]
    model, learn = config.model, dict(vars(config.learn))
    settings = HeadsConfig(
        path=model.path,
        heads=tuple(dict.fromkeys(model.heads)),
        data=DataConfig(**vars(config.data)),
        shape={name: value for name, value in vars(model).items() if name not in ("path", "heads")},
        max_tokens=learn.pop("max_tokens"),
        learn=LearnConfig(**learn, seed=config.train.seed),
        loop=LoopConfig(**vars(config.train)),
        precision=config.precision,
        threads=config.threads,
        batch_tokens=config.batch_tokens,
        device=config.device,
    )
    figures = train_heads(
        settings,
        config.output.path,
        command=f"python -m jobs.train_head {shlex.join(told)}",
        say=lambda line: print(line, file=sys.stderr, flush=True),
        baseline=baseline_figures if config.baseline else None,
        evidence_sample=config.evidence_sample,
    )
    for head, found in figures.items():
        for name, task in found["tasks"].items():
            measured = task["model"]
            shown = f"accuracy {measured['accuracy']:.3f}, macro-F1 {measured['macro_f1']:.3f} on {measured['n']} test reports"
            print(f"{head}: {name}: {shown}")
    print(f"checkpoint: {config.output.path}; to use a head: model.path={config.output.path} model.head={next(iter(figures))}")


if __name__ == "__main__":
    main()
