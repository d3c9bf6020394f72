"""From a finished run and the settings of `jobs.explain` to the engine's own settings."""

from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError, InputChanged
from jobs._config import GIBI, KIBI, cluster_of, runtime_of
from jobs._finished import reading_of_run, spec_of_run, system_of_run
from jobs._ray_job import check_paths
from jobs._storage import s3_of, use

if TYPE_CHECKING:
    from engine.pipeline import RunConfig, Summary
    from engine.sources import InputConfig
    from engine.storage import Entry
    from jobs.explain import Config

SYSTEM = "engine.models.explanations"
# A shard is about so many seconds of work, for bytes of text that go through the encoder once a second, in fp32 on one core; a
# GPU is some fifty times as fast. What the sample leaves out is read all the same.
_SECONDS, _RATE, _GPU, _READING = 20, 8 * KIBI, 50, 0.2


def run_config(config: "Config") -> "RunConfig":
    """The engine's settings. Input, model and reading are those of the run that is explained.

    Raises:
        ConfigError: there is no finished run, or its input or model is not at hand.
    """
    from engine.models.answered import sample_below
    from engine.models.base import ModelSpec
    from engine.models.explained import load_explained
    from engine.pipeline import RunConfig, status
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
    reports, files = _input(config, summary)
    return RunConfig(
        input=reports,
        model=ModelSpec(
            SYSTEM, config.model.path, options, {**runtime_of(cluster), "answers": [full_path(f) for f in summary.files]}
        ),
        output=config.output.path,
        cluster=cluster_of(cluster),
        files=files,
        shard_bytes=None if cluster.shard_kb is None else cluster.shard_kb * KIBI,
        usual_bytes=_usual_bytes(config, share * _passes(config, settings, summary, len(names))),
        max_failed=config.max_failed,
        memory=int(config.output.memory_gb * GIBI),
        s3=s3_of(config.storage),
    )


_SETTINGS = ("baseline", "steps", "samples", "perturbations", "perturb_share", "seed")


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


def _passes(config: "Config", settings: dict[str, Any], summary: "Summary", names: int) -> float:
    """Passes of a record through the model that explaining it takes."""
    from engine.explain.cost import passes
    from engine.explain.settings import Measures, Settings

    explain, made = config.explain, Settings(**settings)
    # Tasks of a record share its changed copies, entities do not: each has its own prompt.
    entities = sum(summary.entities.values()) / _answered(summary)
    targets, times = (1, entities) if summary.table == "entities" else (names, 1.0)
    return times * passes(explain.method, made, Measures(), targets, explain.units, explain.faithfulness, explain.stability)


def _usual_bytes(config: "Config", passes: float) -> int:
    """Text of a shard, so that progress shows, all actors have work, and a lost shard costs seconds."""
    rate = _RATE * (_GPU if config.cluster.gpus_per_actor else 1)
    return max(1, min(KIBI * KIBI, int(_SECONDS * rate / (_READING + passes))))


def _input(config: "Config", summary: "Summary") -> "tuple[InputConfig, list[Entry] | None]":
    """The run's input settings, and the files of its plan where they lie now; None where the user names other reports.

    Of the columns that the run kept only the second text of a pair is needed.

    Raises:
        InputChanged: a file that the run read is gone or is another one now.
    """
    from engine.pipeline import plan
    from engine.pipeline.layout import Layout
    from engine.sources import InputConfig, input_base, survey
    from engine.storage import storage_for

    ours = reading_of_run(summary)
    pair = summary.settings.get("model.options.pair")
    ours["keep"] = (pair,) if pair else ()
    storage, layout = storage_for(config.run), Layout(config.run)
    planned = plan.read(storage, layout).bases[-1]
    if config.input.path is not None:
        check_paths({"input.path": config.input.path})
        given = InputConfig(**{**ours, "path": config.input.path})
        for base in (input_base(given), planned):
            files = plan.files(storage, layout, base)
            known = {entry.path for entry in files}
            if set(files) <= set(survey(given, storage_for(base), known).files):
                return InputConfig(**{**ours, "path": base}), files
        return given, None
    files = plan.files(storage, layout, planned)
    changed = _changed(planned, files)
    if changed:
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputChanged(
            f"input.path: {changed[0].path}{more} is gone or changed since the run read it; restore it, or name the reports "
            "where they lie now"
        )
    return InputConfig(**{**ours, "path": planned}), files


def _changed(base: str, files: "list[Entry]") -> "list[Entry]":
    """Those of the files below a folder that are not there as they were planned."""
    from engine.storage import is_s3, storage_for

    storage = storage_for(base)
    if not is_s3(base):
        return [entry for entry in files if storage.stat(entry.path) != entry]
    # There a question for each file would take longer than a listing.
    there = {entry.path: entry for entry in storage.list(base)}
    return [entry for entry in files if there.get(entry.path) != entry]
