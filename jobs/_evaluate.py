"""From the settings of `jobs.evaluate` to its table, its report and its last words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engine.errors import ConfigError
from engine.storage import storage_for
from jobs._config import delimiter_of
from jobs._finished import SITE_CLASSIFIER, checkpoint_of

if TYPE_CHECKING:
    from engine.evaluation.evaluate import Evaluation
    from engine.models.site_classifier.checkpoint import Checkpoint
    from engine.pipeline import Summary
    from jobs.evaluate import Config


def model_of(path: str | None, summary: "Summary") -> "Checkpoint | None":
    """The run's model; None where its checkpoint is not at hand.

    Raises:
        ConfigError: the checkpoint that was named is another one.
    """
    if summary.settings["model.system"] != SITE_CLASSIFIER:
        return None
    try:
        return checkpoint_of(path or "shipped", summary)
    except ConfigError:
        # The run may have used a model that is elsewhere, with a head that the one that comes along has not.
        if path is not None:
            raise
        return None


def measured(config: "Config", summary: "Summary", model: "Checkpoint | None") -> "Evaluation":
    """The evaluation; nothing is written."""
    import pyarrow.parquet as pq

    from engine.evaluation.evaluate import evaluate
    from engine.evaluation.gold import GoldConfig, read_gold
    from engine.evaluation.measure import Rounds
    from engine.pages.examples import tasks_of

    if not summary.files:
        raise ConfigError(f"run: {summary.output} has no tables yet; let the run finish first")
    for name in (_table(config), _wrong(config), _report(config)):
        if storage_for(name).stat(name) is not None:
            raise ConfigError(f"output.path: {name} exists; name a new folder")
    with storage_for(summary.files[0]).open(summary.files[0]) as stream:
        tasks = tasks_of(pq.read_schema(stream))
    if not tasks:
        raise ConfigError(f"run: the tables of {summary.output} hold no codes to compare")
    labels = config.labels or {task: task for task in tasks}
    unknown = [task for task in labels if task not in tasks]
    if unknown:
        raise ConfigError(f"labels: the run has no task '{unknown[0]}'; it has {', '.join(tasks)}")
    ours, slices = dict(summary.settings), tuple(config.slices)
    gold = read_gold(
        GoldConfig(
            path=config.gold,
            labels=labels,
            id=config.id or ours.get("input.id"),
            text=config.text,
            source=config.source,
            id_scope=config.id_scope or ("input" if config.source else ours.get("input.id_scope", "input")),
            group=config.group,
            slices=tuple(name for name in slices if name not in _kept(ours)),
            where=config.where,
            spans=config.spans,
            encoding=config.encoding,
            delimiter=delimiter_of(config.delimiter),
            quoting=config.quoting,
            escape=config.escape,
            max_bytes=ours.get("input.max_bytes", 4_194_304),
            names={"path": "gold"},
        )
    )
    known = None if model is None else {task.name: task.labels for task in model.config.tasks}
    rounds = Rounds(config.rounds, config.level, config.seed)
    return evaluate(summary.files, gold, list(labels), slices, known, rounds)


def write(config: "Config", summary: "Summary", evaluation: "Evaluation", model: "Checkpoint | None") -> tuple[str, str, str]:
    """Writes the tables and the report; returns their names."""
    import pyarrow.parquet as pq

    from engine.evaluation.measure import to_table
    from engine.pages.evaluation import write_evaluation_page
    from engine.records import METRICS, check, wrong_schema

    table, wrong, report = _table(config), _wrong(config), _report(config)
    digest = str(summary.settings["model.digest"])
    metrics = check(to_table(evaluation.metrics, summary.run_id, digest), METRICS)
    for name, content in ((table, metrics), (wrong, check(evaluation.wrong, wrong_schema(config.slices)))):
        with storage_for(name).writer(name) as file:
            pq.write_table(content, file, compression="zstd")
    write_evaluation_page(
        report,
        config.title,
        evaluation,
        deciding=_deciding(summary, evaluation.tasks),
        level=config.level,
        auto=None if model is None else _auto(model, summary),
        note=f"run {summary.run_id}, model {digest[:12]}{'' if summary.finished else '; the run is not finished'}",
    )
    return table, wrong, report


def wrong_figures(evaluation: "Evaluation") -> str:
    """How many answers of each task are wrong."""
    from engine.records import AUTO

    answers = Counter(zip(*(evaluation.wrong[name].to_pylist() for name in ("task", "decision")), strict=True))
    every = {task: sum(count for (name, _), count in answers.items() if name == task) for task in evaluation.tasks}
    told = [f"{task} {count:,} ({answers[task, AUTO]:,} coded without a person)" for task, count in every.items()]
    return f"Wrong answers: {', '.join(told)}."


def main_figures(evaluation: "Evaluation", summary: "Summary", level: float) -> str:
    """What a terminal shows."""
    deciding = _deciding(summary, evaluation.tasks)
    counts = evaluation.counts
    lines = [f"{counts['matched']:,} records compared, {counts['rows']:,} rows in the gold table."]
    for task in evaluation.tasks:
        lines.append(f"{task}:" if task in deciding else f"{task} (no part in the decision to code without a person):")
        for name, told in {**_TOLD, **(_DECIDING if task in deciding else _ALONE), **_EVIDENCE}.items():
            metric = evaluation.get(task, name)
            if metric is None or (metric.value is None and not metric.too_few):
                continue
            if metric.value is None:
                lines.append(f"  {told.format(level=f'{level:.0%}'):<40} too few ({metric.n:,})")
                continue
            form = "{:.2f}" if name == "cov_lift" else "{:.1%}"
            spread = "" if metric.low is None else f"  ({form.format(metric.low)} to {form.format(metric.high)})"
            lines.append(f"  {told.format(level=f'{level:.0%}'):<40} {form.format(metric.value):>6}{spread}")
    return "\n".join([*lines, *evaluation.notes])


_TOLD = {"accuracy": "right of all answered", "macro_f1": "macro-F1", "ece": "calibration error"}
_DECIDING = {
    "auto_share": "coded without a person",
    "auto_accuracy": "right of those",
    "auto_accuracy_bound": "  at least, with {level} confidence",
    "review_accuracy": "right suggestion of those to review",
}
_ALONE = {"sure_share": "sure by its own threshold", "sure_accuracy": "right of those"}
_EVIDENCE = {"comprehensiveness_gain": "evidence: comprehensiveness over random", "cov_lift": "evidence: lift on marked words"}


def _kept(settings: Mapping[str, object]) -> Sequence[str]:
    kept = settings.get("input.keep") or ()
    return kept if isinstance(kept, list | tuple) else ()


def _deciding(summary: "Summary", tasks: Sequence[str]) -> Sequence[str]:
    named = summary.settings.get("model.options.tasks")
    return named if isinstance(named, list | tuple) else tasks


def _auto(model: "Checkpoint", summary: "Summary") -> dict[str, list[str]]:
    """The codes of each task that the run could code without a person."""
    from engine.models.site_classifier.checkpoint import TaskCalibration
    from engine.models.site_classifier.decide import DecisionConfig, auto_codes

    options = {name.removeprefix("model.options."): value for name, value in summary.settings.items()}
    thresholds = {name.removeprefix("thresholds."): options[name] for name in options if name.startswith("thresholds.")}
    decision = DecisionConfig(min_support=options.get("min_support", DecisionConfig.min_support), thresholds=thresholds)
    return {
        task.name: auto_codes(task, model.calibration.get(task.name, TaskCalibration()), decision) for task in model.config.tasks
    }


def _table(config: "Config") -> str:
    return f"{config.output.path.rstrip('/')}/metrics/metrics.parquet"


def _wrong(config: "Config") -> str:
    from engine.evaluation.wrong import WRONG

    return f"{config.output.path.rstrip('/')}/{WRONG}"


def _report(config: "Config") -> str:
    return f"{config.output.path.rstrip('/')}/report.html"
