"""Explains the answers of a finished run: `python -m jobs.explain run=coded output.path=explained explain.sample=200`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.explain.settings import METHOD_NAMES
from engine.keys import MISSING, key, section
from jobs._config import GIBI, KIBI, Cluster, Output, cluster_of, runtime_of
from jobs._finished import reading_of_run, spec_of_run, system_of_run
from jobs._front import RESUMES, job
from jobs._ray_job import check_paths
from jobs._storage import Storage, s3_of, use

if TYPE_CHECKING:
    from engine.pipeline import RunConfig, Summary

SYSTEM = "engine.models.explanations"
_SETTINGS = ("baseline", "steps", "samples", "perturbations", "perturb_share", "seed")


@dataclass
class Input:
    path: str | None = key(
        None,
        "Where the reports are now: the run's input in a new place, or other files with some of its reports; null is where the "
        "run read them. How they are read is the run's.",
        path=True,
    )


@dataclass
class Model:
    path: str = key("shipped", "Checkpoint that the run used; 'shipped' is the model that comes along.", path=True)


@dataclass
class Explain:
    method: str = key("integrated_gradients", "How answers are explained; one method a run.", choices=METHOD_NAMES)
    sample: int | None = key(
        None,
        "How many of the run's records are explained, chosen by id and seed; null is all. The others are not_applicable.",
        low=1,
    )
    tasks: list[str] = key([], "Tasks to explain, or types of entities; [] is all of the run's.")
    targets: dict[str, str] = key({}, "A code to explain in place of the run's answer, such as {site: C50}; not for entities.")
    units: str = key(
        "word", "What gets a score; lime and kernel_shap take long reports by sentence only.", choices=("word", "sentence")
    )
    spans: int = key(5, "Most selected spans of a target.", low=1, high=50)
    max_units: int = key(512, "Most units kept of a target, the strongest; what they leave is told in weight_dropped.", low=1)
    faithfulness: float = key(
        0.1, "Share of explained records measured by erasing, beside random units; some 60 predictions each.", low=0.0, high=1.0
    )
    stability: float = key(
        0.02, "Share of explained records that are explained again as changed copies, to see what stays.", low=0.0, high=1.0
    )
    erasure: str = key(
        "mask", "What erasing does to a unit when faithfulness is measured; for entities mask alone.", choices=("mask", "delete")
    )
    baseline: str = key("default", "What gradients start from.", choices=("default", "mask", "zero"))
    steps: int = key(50, "Points of integrated gradients.", low=1)
    samples: int = key(0, "Copies for lime and kernel_shap; 0 is four for each unit, at least 64.", low=0)
    perturbations: int = key(8, "Changed copies for stability and for fused.", low=1)
    perturb_share: float = key(0.1, "Share of the units that each copy masks.", low=0.001, high=0.999)
    seed: int = key(0, "Seed of the sample and of every draw.", low=0)


@dataclass
class ExplainCluster(Cluster):
    precision: str = key(
        "fp32",
        "Arithmetic of the encoder; in bf16 gradients are coarse and a close answer may flip.",
        choices=("auto", "fp32", "bf16"),
    )


@dataclass
class Config:
    run: str = key(
        MISSING, "Folder of the finished run, the output.path of jobs.code_reports or jobs.extract_entities.", path=True
    )
    output: Output = section(Output)
    input: Input = section(Input)
    model: Model = section(Model)
    explain: Explain = section(Explain)
    cluster: ExplainCluster = section(ExplainCluster)
    storage: Storage = section(Storage)
    deterministic: bool = key(False, "The same bits whatever the batches and shards: slower, each report goes alone.")
    max_failed: float = key(1.0, "Share of failed records above which a finished run ends with exit code 4.", low=0.0, high=1.0)


@job(
    "explain",
    Config,
    "Explains the answers of a finished run, or of a sample of it, by one method: one row a record in <output.path>/explanations "
    "with the score of every unit, and measures of the explanation. The same command again continues where it stopped.",
    examples=[
        "run=coded output.path=explained explain.sample=200",
        "run=coded output.path=shap explain.method=kernel_shap explain.units=sentence explain.sample=30 explain.faithfulness=1",
        "run=coded input.path=these.parquet model.path=my_model explain.targets='{site: C50}' output.path=why_not_breast",
    ],
    again=RESUMES,
)
def main(config: Config) -> None:
    """Runs the engine over the run's input and tells what came of it."""
    from jobs._run import run_and_tell

    run_and_tell(run_config(config))


def run_config(config: Config) -> "RunConfig":
    """The engine's settings. Input, model and reading are those of the run that is explained.

    Raises:
        ConfigError: there is no finished run, or its input or model is not at hand.
    """
    from engine.explain.cost import usual_bytes
    from engine.models.answered import sample_below
    from engine.models.base import ModelSpec
    from engine.models.explained import load_explained
    from engine.pipeline import RunConfig, status
    from engine.pipeline.again import input_of
    from engine.storage import full_path

    use(config.storage)
    check_paths({"run": config.run, "output.path": config.output.path})
    if config.model.path != "shipped":
        check_paths({"model.path": config.model.path})
    explain, cluster = config.explain, config.cluster
    summary = status(config.run)
    answered = _answered(summary)
    system_of_run(summary, config.model.path)
    spec = spec_of_run(summary, config.model.path)
    names = load_explained(spec, explain.tasks, explain.targets).names
    below = None
    if explain.sample is not None and explain.sample < answered:
        below = sample_below(summary.files, explain.sample, explain.seed)
    settings = {name: getattr(explain, name) for name in _SETTINGS}
    options: dict[str, Any] = {
        "run": summary.run_id,
        "of": spec.system,
        "options": spec.options,
        "method": explain.method,
        "tasks": explain.tasks,
        "targets": explain.targets,
        "units": explain.units,
        "spans": explain.spans,
        "max_units": explain.max_units,
        "below": below,
        "faithfulness": explain.faithfulness,
        "stability": explain.stability,
        "erasure": explain.erasure,
        "settings": settings,
        "precision": cluster.precision,
        "deterministic": config.deterministic,
    }
    share = 1.0 if below is None else below / 2**63
    pair = summary.settings.get("model.options.pair")
    # Of the columns that the run kept only the second text of a pair is needed.
    reading = {**reading_of_run(summary), "keep": (pair,) if pair else ()}
    if config.input.path is not None:
        check_paths({"input.path": config.input.path})
    reports, files = input_of(config.run, reading, config.input.path)
    return RunConfig(
        input=reports,
        model=ModelSpec(
            SYSTEM, config.model.path, options, {**runtime_of(cluster), "answers": [full_path(f) for f in summary.files]}
        ),
        output=config.output.path,
        cluster=cluster_of(cluster),
        files=files,
        shard_bytes=None if cluster.shard_kb is None else cluster.shard_kb * KIBI,
        usual_bytes=usual_bytes(share * _passes(config, settings, summary, len(names)), config.cluster.gpus_per_actor > 0),
        max_failed=config.max_failed,
        memory=int(config.output.memory_gb * GIBI),
        s3=s3_of(config.storage),
    )


def _answered(summary: "Summary") -> int:
    """How many answers of the run there are to explain."""
    from engine.models.explained import can_explain

    if not can_explain(str(summary.settings["model.system"])):
        raise ConfigError(
            f"run: {summary.output} is a run whose answers cannot be explained; give the folder of one of jobs.code_reports or "
            "jobs.extract_entities"
        )
    if not summary.finished:
        raise ConfigError(f"run: {summary.output} is not finished; start its own command again first")
    answered = summary.records - summary.decisions.get("failed", 0)
    if not answered:
        raise ConfigError(f"run: {summary.output} holds no answer to explain, its records have all failed")
    return answered


def _passes(config: Config, settings: dict[str, Any], summary: "Summary", names: int) -> float:
    """Passes of a record through the model that explaining it takes."""
    from engine.explain.cost import passes
    from engine.explain.settings import Measures, Settings

    explain, made = config.explain, Settings(**settings)
    # Tasks of a record share its changed copies, entities do not: each has its own prompt.
    entities = sum(summary.entities.values()) / _answered(summary)
    targets, times = (1, entities) if summary.table == "entities" else (names, 1.0)
    return times * passes(explain.method, made, Measures(), targets, explain.units, explain.faithfulness, explain.stability)


if __name__ == "__main__":
    main()
