"""What a training was too small or too poor for: the lines that belong beside its figures."""

from collections.abc import Mapping
from typing import Any

from engine.evaluation.calibration import lower_bound
from engine.models.code_calibrating import least_rows
from engine.models.site_classifier.options import Options

# Fewer give an accuracy that may be off by six points and more.
FEW = 200


def cautions(figures: Mapping[str, Any]) -> list[str]:
    """Lines on the figures of a model, as `engine.models.site_classifier.finish` makes them, task by task."""
    return [f"{name}: {line}" for name, task in figures["tasks"].items() for line in _of_task(task)]


def _of_task(task: Mapping[str, Any]) -> list[str]:
    model, fitted, rival = task["model"], task["calibration"], task["baseline"]
    lines = []
    behind = [name for name in ("accuracy", "macro_f1") if rival and model[name] < rival[name]]
    if behind:
        told = " and ".join(f"{name.replace('_f1', '-F1')} {model[name]:.3f} against {rival[name]:.3f}" for name in behind)
        lines.append(
            f"behind the baseline, TF-IDF with logistic regression ({told}): do not use it as it is; more epochs (train.epochs) "
            "or more reports may help"
        )
    n = model["n"]
    if n < FEW:
        bound = lower_bound(round(n * model["accuracy"]), n)
        lines.append(f"{_reports(n, 'test')} show an accuracy of at least {bound:.3f} (95 % confidence), not more")
    if fitted["bound"] is None:
        lines.append(f"{_no_threshold(fitted)}, so every report goes to a person")
    codes, least = task["codes"], Options.min_support
    if codes["supported"] < codes["all"]:
        rare = codes["all"] - codes["supported"]
        which = f"all {rare}" if rare == codes["all"] else f"{rare} of {codes['all']}"
        lines.append(f"{which} codes have fewer than {least} training reports (decision.min_support) and always go to a person")
    return lines


def _no_threshold(fitted: Mapping[str, Any]) -> str:
    promise = f"{100 * fitted['target']:g} % right with {100 * fitted['confidence']:g} % confidence"
    least = least_rows(fitted["target"], fitted["confidence"])
    if fitted["n"] < least:
        are = "is" if fitted["n"] == 1 else "are"
        return f"{_reports(fitted['n'], 'valid')} {are} too few for a threshold: {promise} takes {least} without an error"
    return f"no threshold on the {fitted['n']:,} valid reports keeps {promise}"


def _reports(n: int, split: str) -> str:
    return f"{n:,} {split} report{'s' if n != 1 else ''} with a code"
