"""From a finished run and the settings of `jobs.explain` to the engine's own settings."""

from typing import TYPE_CHECKING, Any

from engine.errors import ConfigError, InputChanged
from jobs._config import GIBI, KIBI, cluster_of, runtime_of
from jobs._finished import SITE_CLASSIFIER, checkpoint_of, reading_of_run
from jobs._ray_job import check_paths
from jobs._storage import s3_of, use

if TYPE_CHECKING:
    from engine.pipeline import RunConfig, Summary
    from engine.sources import InputConfig
    from engine.storage import Entry
    from jobs.explain import Config

SYSTEM = "engine.models.site_classifier.explanations"
# A shard is about so many seconds of work, for bytes of text that go through the encoder once a second, in fp32 on one core; a
# GPU is some fifty times as fast. What the sample leaves out is read all the same.
_SECONDS, _RATE, _GPU, _READING = 20, 8 * KIBI, 50, 0.2


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
    checkpoint = checkpoint_of(config.model.path, summary)
    below = None
    if explain.sample is not None and explain.sample < answered:
        below = sample_below(summary.files, explain.sample, explain.seed)
    reading = {name: summary.settings[f"model.options.{name}"] for name in _OF_RUN if f"model.options.{name}" in summary.settings}
    settings = {name: getattr(explain, name) for name in _SETTINGS}
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
        "settings": settings,
        "precision": cluster.precision,
        "deterministic": config.deterministic,
        **reading,
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
        usual_bytes=_usual_bytes(config, settings, len(explain.tasks or checkpoint.config.tasks), share),
        max_failed=config.max_failed,
        memory=int(config.output.memory_gb * GIBI),
        s3=s3_of(config.storage),
    )


_OF_RUN = ("max_tokens", "pair", "head")
_SETTINGS = ("baseline", "steps", "samples", "perturbations", "perturb_share", "seed")


def _answered(summary: "Summary") -> int:
    """How many answers of the run there are to explain."""
    if summary.settings["model.system"] != SITE_CLASSIFIER or summary.table != "codes":
        raise ConfigError(
            f"run: {summary.output} is no run of jobs.code_reports with the site classifier; give the folder of one"
        )
    if not summary.finished:
        raise ConfigError(f"run: {summary.output} is not finished; start its own command again first")
    answered = summary.records - summary.decisions.get("failed", 0)
    if not answered:
        raise ConfigError(f"run: {summary.output} holds no answer to explain, its records have all failed")
    return answered


def _usual_bytes(config: "Config", settings: dict[str, Any], tasks: int, share: float) -> int:
    """Text of a shard, so that progress shows, all actors have work, and a lost shard costs seconds."""
    from engine.explain.cost import passes
    from engine.explain.settings import Measures, Settings

    explain = config.explain
    each = passes(explain.method, Settings(**settings), Measures(), tasks, explain.units, explain.faithfulness, explain.stability)
    rate = _RATE * (_GPU if config.cluster.gpus_per_actor else 1)
    return max(1, min(KIBI * KIBI, int(_SECONDS * rate / (_READING + share * each))))


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
