"""Scores rationales out of fold: `python -m jobs.rationale_bank data.path=... data.rationales=... output.path=bank`."""

import sys
from collections import Counter
from dataclasses import asdict, dataclass, replace

from engine.errors import ConfigError
from engine.keys import MISSING, key, section
from engine.models.site_classifier.columns import DataConfig
from engine.models.site_classifier.config import HEADS
from engine.models.site_classifier.rationales.synthetic import MODES
from engine.storage import S3Config, use_s3
from jobs._front import job


@dataclass
class Output:
    path: str = key(MISSING, "Folder for the bank; the same command again goes on where it stopped.", path=True)


@dataclass
class Model:
    path: str = key("shipped", "Checkpoint whose encoder gives the token states; it stays as it is.", path=True)
    plain: bool = key(
        False,
        "Take the checkpoint's encoder as it was before it was trained. Where the checkpoint has learned from these reports, "
        "only then has nothing that scores a report seen it.",
    )
    head: str = key("target", "Head of the models that score, one for each fold.", choices=HEADS)
    max_tokens: int = key(1024, "Tokens read of each text, from its beginning.", low=16)
    precision: str = key("auto", "Arithmetic of the encoder.", choices=("auto", "fp32", "bf16"))
    threads: int = key(0, "CPU threads; 0 leaves it to torch.", low=0)
    device: str = key("cpu", "Where the model runs.", choices=("cpu", "cuda"))


@dataclass
class Train:
    epochs: float = key(5.0, "Passes over the reports of the other folds.", low=0.01)
    batch: int = key(24, "Reports a step.", low=1)
    rate: float = key(1e-3, "Peak learning rate.", low=0.0)
    windows: int = key(4, "Windows shown of a report and epoch, drawn at random where it has more.", low=1)
    seed: int = key(7, "Seed of folds, models and random controls.", low=0)


@dataclass
class Config:
    data: DataConfig = section(DataConfig)
    output: Output = section(Output)
    model: Model = section(Model)
    train: Train = section(Train)
    storage: S3Config = section(S3Config)
    task: str | None = key(None, "Task whose label the rationales are for, one of data.labels; null is the first.")
    folds: int = key(5, "Parts of the training reports; each is scored by a model that has not seen it.", low=2)
    rules: list[str] = key([], "Rules, such as [drop_wrong,top(0.25)]; [] is all of them. Each has a random control.")
    generator: str | None = key(
        None, "What writes rationales beside people's: template, hub:<id>@<revision>, or path:<folder> of a language model."
    )
    generator_mode: str = key("extractive", "Words taken from the report, or a text of the generator's own.", choices=MODES)


@job(
    "rationale_bank",
    Config,
    "Scores the rationales of the training reports by heads that have not learned from the report, and judges them by every rule "
    "and its random control: <output.path>/rationale_bank has a row for each rationale and rule. What cannot be scored has its "
    "reason.",
    examples=[
        "data.path=marked.parquet data.rationales=highlights 'data.labels={site: site}' output.path=bank",
        "data.path=marked.parquet data.rationales=highlights generator=template generator_mode=abstractive output.path=bank",
    ],
)
def main(config: Config) -> None:
    """Scores, judges, and prints what each rule keeps."""
    from engine.models.site_classifier.config import LearnConfig
    from engine.models.site_classifier.corpus import ReportSurvey
    from engine.models.site_classifier.rationales.score import RULES, BankConfig, Marked, score_rationales
    from engine.models.site_classifier.rationales.synthetic import generator
    from engine.training.config import LoopConfig
    from engine.training.folds import out_of_fold

    use_s3(config.storage)
    train, model = config.train, dict(vars(config.model))
    data = config.data
    task = config.task or next(iter(data.labels))
    if task not in data.labels or task in data.multi_label:
        raise ConfigError(f"task: '{task}' must be a task of data.labels that has one code a report")

    def read() -> Marked:
        known = ReportSurvey.of(replace(data, samples=()))
        unknown = Counter(known.rejected["reason"].to_pylist())["unknown_record"]
        return Marked(known.examples(), known.repeats, unknown)

    settings = BankConfig(
        task=task,
        model=model.pop("path"),
        folds=config.folds,
        seed=train.seed,
        rules=tuple(config.rules) or RULES,
        learn=LearnConfig(windows=train.windows),
        loop=asdict(LoopConfig(train.epochs, train.batch, train.rate, seed=train.seed, report_every=10, watch="macro_f1")),
        **model,
    )
    by = None if config.generator is None else generator(config.generator, config.generator_mode)
    _, rows = score_rationales(
        settings, config.output.path, lambda line: print(line, file=sys.stderr, flush=True), read, out_of_fold, by
    )
    print(f"{'source':24}{'rule':26}{'kept':>16}{'sufficiency':>13}{'right alone':>13}{'human words':>13}")
    for row in rows:
        share = f"{row['kept']:,} of {row['n']:,}"
        figures = "".join(f"{_shown(row[name]):>13}" for name in ("sufficiency", "right_alone", "human_coverage"))
        print(f"{row['source']:24}{row['rule']:26}{share:>16}{figures}")
    print(f"bank: {config.output.path}/rationale_bank")


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    main()
