"""Explains the answers of a finished run: `python -m jobs.explain run=coded output.path=explained explain.sample=200`."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError
from engine.keys import MISSING, compose, extract, key, section
from engine.models.explanations import ExplainOptions
from engine.records import ENTITIES, FINDINGS
from engine.storage import S3Config, use_s3
from jobs._config import Output, cluster_of, runtime_of, sizes_of
from jobs._finished import reading_of_run, spec_of_run, system_of_run
from jobs._front import RESUMES, job
from jobs._ray_job import check_paths
from jobs._run import Running, run_and_tell

if TYPE_CHECKING:
    from engine.pipeline import RunConfig, Summary

SYSTEM = "engine.models.explanations"


@dataclass
class Input:
    path: str | None = key(
        None,
        "The reports: the run's input in a new place, or other files with some of its reports; null reads them "
        "from the same place as the run. They are read with the run's input settings.",
        path=True,
    )


@dataclass
class Model:
    path: str = key("shipped", "Checkpoint that the run used; 'shipped' is the included model.", path=True)


@dataclass
class Explain:
    sample: int | None = key(
        None,
        "Number of the run's records to explain, chosen by id and seed; null explains all. The others become not_applicable.",
        low=1,
    )


@dataclass
class Common:
    run: str = key(
        MISSING,
        "Folder of the finished run, the output.path of jobs.code_reports, jobs.extract_entities or jobs.read_images.",
        path=True,
    )
    output: Output = section(Output)
    input: Input = section(Input)
    model: Model = section(Model)
    explain: Explain = section(Explain)


@job(
    "explain",
    compose(Common, ExplainOptions, Running),
    "Explains the answers of a finished run, or of a sample of it, by one method: one row a record in <output.path>/explanations "
    "with the score of every unit, and measures of the explanation. The same command again continues where it stopped.",
    examples=[
        "run=coded output.path=explained explain.sample=200",
        "run=coded output.path=shap explain.method=kernel_shap explain.units=sentence explain.sample=30 explain.faithfulness=1",
        "run=coded input.path=these.parquet model.path=my_model explain.targets='{site: C50}' output.path=why_not_breast",
    ],
    again=RESUMES,
)
def main(config: Any) -> None:
    """Runs the engine over the run's input and prints the summary."""
    run_and_tell(run_config(config))


def run_config(config: Any) -> "RunConfig":
    """The engine's settings. Input, model and the way of reading are those of the run to explain.

    Raises:
        ConfigError: there is no finished run, or its input or model is missing.
    """
    from engine.explain.cost import usual_bytes
    from engine.models.answered import sample_below
    from engine.models.base import ModelSpec
    from engine.models.explained import load_explained
    from engine.models.options import reads_of
    from engine.pipeline import RunConfig, status
    from engine.pipeline.again import input_of
    from engine.storage import full_path

    s3 = S3Config(**vars(config.storage))
    use_s3(s3)
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
    options = replace(extract(ExplainOptions, config), run=summary.run_id, of=spec.system, options=spec.options, below=below)
    share = 1.0 if below is None else below / 2**63
    # Findings are explained each in passes of its own, as entities are.
    each = summary.table == ENTITIES or (summary.table == FINDINGS and not explain.tasks)
    entities = sum(summary.entities.values()) / answered if each else None
    pair = summary.settings.get("model.options.pair")
    # Of the run's kept columns only the second text of a pair is needed.
    reading = {**reading_of_run(summary), "keep": (pair,) if pair else ()}
    if config.input.path is not None:
        check_paths({"input.path": config.input.path})
    reports, files = input_of(config.run, reading, config.input.path)
    return RunConfig(
        input=reports,
        model=ModelSpec(
            SYSTEM, config.model.path, asdict(options), {**runtime_of(cluster), "answers": [full_path(f) for f in summary.files]}
        ),
        output=config.output.path,
        cluster=cluster_of(cluster),
        files=files,
        usual_bytes=usual_bytes(
            share * _passes(options, entities, len(names)), cluster.gpus_per_actor > 0, reads_of(spec.system)
        ),
        max_failed=config.max_failed,
        s3=s3,
        **sizes_of(cluster, config.output),
    )


def _answered(summary: "Summary") -> int:
    """The number of the run's answers that can be explained."""
    from engine.models.base import module_of

    if module_of(str(summary.settings["model.system"]), "explained") is None:
        raise ConfigError(
            f"run: {summary.output} is a run whose answers cannot be explained; give the folder of one of jobs.code_reports, "
            "jobs.extract_entities or jobs.read_images"
        )
    if not summary.finished:
        raise ConfigError(f"run: {summary.output} is not finished; start its own command again first")
    answered = summary.records - summary.decisions.get("failed", 0)
    if not answered:
        raise ConfigError(f"run: {summary.output} holds no answer to explain, its records have all failed")
    return answered


def _passes(options: ExplainOptions, entities: float | None, names: int) -> float:
    """Passes through the model to explain one record; `entities` is the number per record, None if the table has none."""
    from engine.explain.cost import passes
    from engine.explain.settings import Measures

    # The tasks of a record share its changed copies; entities do not, since each has its own prompt.
    targets, times = (names, 1.0) if entities is None else (1, entities)
    return times * passes(
        options.method, options.settings(), Measures(), targets, options.units, options.faithfulness, options.stability
    )


if __name__ == "__main__":
    main()
