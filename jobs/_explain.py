"""From a finished run and the settings of `jobs.explain` to the engine's own settings."""

from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError, InputChanged
from jobs._config import GIBI, KIBI, cluster_of, runtime_of
from jobs._ray_job import check_paths
from jobs._storage import s3_of, use

if TYPE_CHECKING:
    from engine.pipeline import RunConfig, Summary
    from engine.sources import InputConfig
    from jobs.explain import Config

CODED_BY = "engine.models.site_classifier"
SYSTEM = "engine.models.site_classifier.explanations"
# How much dearer than coding an explanation is, about: shards are smaller by that, so that a lost one costs seconds.
_DEARER = 50


def run_config(config: "Config") -> "RunConfig":
    """The engine's settings. Input, model and reading are those of the run that is explained.

    Raises:
        ConfigError: there is no finished run, or its input or model is not at hand.
    """
    from engine.models.base import ModelSpec
    from engine.models.site_classifier.answered import sample_below
    from engine.pipeline import RunConfig, status
    from engine.storage import full_path

    use(config.storage)
    check_paths({"run": config.run, "output.path": config.output.path})
    if config.model.path != "shipped":
        check_paths({"model.path": config.model.path})
    explain, cluster = config.explain, config.cluster
    summary = status(config.run)
    answered = _answered(summary)
    _check_model(config.model.path, summary)
    below = None
    if explain.sample is not None and explain.sample < answered:
        below = sample_below(summary.files, explain.sample, explain.seed)
    reading = {
        name: summary.settings[f"model.options.{name}"] for name in _READING if f"model.options.{name}" in summary.settings
    }
    options: dict[str, Any] = {
        "run": summary.run_id,
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
        "settings": {name: getattr(explain, name) for name in _SETTINGS},
        "precision": cluster.precision,
        "deterministic": config.deterministic,
        **reading,
    }
    share = 1.0 if below is None else below / 2**63
    return RunConfig(
        input=_input(config, summary),
        model=ModelSpec(
            SYSTEM, config.model.path, options, {**runtime_of(cluster), "answers": [full_path(f) for f in summary.files]}
        ),
        output=config.output.path,
        cluster=cluster_of(cluster),
        shard_bytes=(cluster.shard_kb or max(32, int(1024 / (1 + _DEARER * share)))) * KIBI,
        max_failed=config.max_failed,
        memory=int(config.output.memory_gb * GIBI),
        s3=s3_of(config.storage),
    )


_READING = ("max_tokens", "pair", "head")
_SETTINGS = ("baseline", "steps", "samples", "perturbations", "perturb_share", "seed")


def _answered(summary: "Summary") -> int:
    """How many answers of the run there are to explain."""
    if summary.settings["model.system"] != CODED_BY or summary.table != "codes":
        raise ConfigError(
            f"run: {summary.output} is no run of jobs.code_reports with the site classifier; give the folder of one"
        )
    if not summary.finished:
        raise ConfigError(f"run: {summary.output} is not finished; start its own command again first")
    answered = summary.records - summary.decisions.get("failed", 0)
    if not answered:
        raise ConfigError(f"run: {summary.output} holds no answer to explain, its records have all failed")
    return answered


def _check_model(path: str, summary: "Summary") -> None:
    from engine.models.site_classifier.checkpoint import read_checkpoint

    if read_checkpoint(path, summary.settings.get("model.options.head")).digest != summary.settings["model.digest"]:
        raise ConfigError(
            f"model.path: {path} is not the model of this run (its digest differs); give the checkpoint that it used"
        )


def _input(config: "Config", summary: "Summary") -> "InputConfig":
    """The run's input settings; of the columns that it kept only the second text of a pair is needed."""
    from engine.pipeline import plan
    from engine.pipeline.layout import Layout
    from engine.sources import InputConfig, list_files
    from engine.storage import storage_for

    ours = {name.removeprefix("input."): value for name, value in summary.settings.items() if name.startswith("input.")}
    pair = summary.settings.get("model.options.pair")
    ours["keep"] = (pair,) if pair else ()
    if config.input.path is not None:
        check_paths({"input.path": config.input.path})
        return InputConfig(**{**ours, "path": config.input.path})
    planned = plan.read(storage_for(config.run), Layout(config.run))
    base = _base(planned)
    found = InputConfig(**{**ours, "path": base})
    try:
        same = list_files(found, storage_for(base)) == sorted(planned.files, key=lambda entry: entry.path)
    except (ConfigError, OSError):
        same = False
    if not same:
        raise InputChanged(
            f"input.path: what {base} holds is not what the run read, or the run read only a part of it; name the reports"
        )
    return found


def _base(planned: Any) -> str:
    """The file that a run read, or the folder that all its files lie in."""
    if len(planned.files) == 1:
        return planned.files[0].path
    piece = planned.shards[0].shard.slices[0]
    return piece.file.path.removesuffix(piece.source).rstrip("/") or "/"
