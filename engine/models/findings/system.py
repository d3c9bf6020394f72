"""The base of systems that find findings in image studies."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.models.columns import matrix_column
from engine.models.findings.decide import FindingCalibration, chosen_calibration, contradicts_itself, unclear_reasons
from engine.models.findings.settings import FindingOptions
from engine.models.image_system import ImageSystem
from engine.models.options import NONE
from engine.records import AUTO, FINDINGS, IMAGE, IMAGES, REASONS, REVIEW, findings_fields

if TYPE_CHECKING:
    from torch import Tensor

CALIBRATION = "calibration.json"


@dataclass(frozen=True)
class FindingCheckpoint:
    """A verified checkpoint of findings without its weights; the config has `findings`, their names, and `preprocessing`."""

    folder: Path
    digest: str
    config: Any
    calibration: Mapping[str, FindingCalibration]


def calibration_file(calibration: Mapping[str, FindingCalibration], **values: Any) -> dict[str, Any]:
    """calibration.json for `engine.models.checkpoint`, with further values."""
    return {CALIBRATION: {**values, FINDINGS: {name: fitted.to_json() for name, fitted in calibration.items()}}}


def read_calibration(values: Mapping[str, Any]) -> dict[str, FindingCalibration]:
    """The findings of a calibration.json."""
    return {name: FindingCalibration(**fitted) for name, fitted in values[FINDINGS].items()}


class FindingSystem(ImageSystem):
    """See `engine.models.base.System`.

    A subclass implements `read` (a `FindingCheckpoint`), `build` and `predict`. `details` and `inconsistent` are for systems that
    say more about a study than its findings and patches.
    """

    table, Options = FINDINGS, FindingOptions

    def __init__(self, checkpoint: Any, options: FindingOptions, runtime: Mapping[str, Any]) -> None:
        super().__init__(checkpoint, options, runtime)
        self.names = tuple(self.config.findings)
        self.calibration = chosen_calibration(self.names, checkpoint.calibration, options.thresholds, options.required)

    def predict(self, features: "Tensor") -> "Tensor":
        """Logits [n, findings] from the features [n, width] of studies."""
        raise NotImplementedError

    def details(self, features: np.ndarray, logits: np.ndarray) -> Sequence[Mapping[str, Any]]:
        """Further columns of each study, from its features [n, width] and logits [n, findings]; `labels` has further fields of
        its findings, by name."""
        return [{}] * len(features)

    def inconsistent(self, row: Mapping[str, Any]) -> bool:
        """Whether the parts of a row contradict each other."""
        return contradicts_itself(row["labels"])

    def fields(self) -> list[pa.Field]:
        return findings_fields()

    def known(self) -> Mapping[str, Sequence[str]]:
        return {FINDINGS: list(self.names)}

    def auto(self) -> Mapping[str, Sequence[str]]:
        return {FINDINGS: [name for name in self.names if self.calibration[name].promised]}

    def limits(self) -> Mapping[str, str]:
        without = [name for name in self.names if not self.calibration[name].promised]
        if not without:
            return {}
        line = f"{len(without)} of {len(self.names)} findings have no promise in this model"
        answered = [name for name in without if self.calibration[name].answered]
        never = [name for name in without if not self.calibration[name].answered]
        line += f", so a person must see their positives: {', '.join(answered)}" if answered else ""
        line += f"; never answered, as no threshold could be fitted: {', '.join(never)}" if never else ""
        return {"no_promise": f"{line}."}

    def scores(self, prepared: pa.Table) -> pa.Table:
        """The columns `row` and `findings_logits`, in the order of `known`."""
        logits = np.concatenate([self._answers(part)[1] for part in self._parts(prepared)])
        return pa.table({"row": prepared["row"], f"{FINDINGS}_logits": matrix_column(logits)})

    def rows(self, prepared: pa.Table) -> Iterator[dict[str, Any]]:
        """See `CheckpointSystem`."""
        for part in self._parts(prepared):
            yield from self._rows(part)

    def _parts(self, prepared: pa.Table) -> list[pa.Table]:
        """With `deterministic` every study by itself, as the last bits of a product of matrices depend on their rows."""
        return [prepared.slice(at, 1) for at in range(max(1, len(prepared)))] if self.options.deterministic else [prepared]

    def _rows(self, prepared: pa.Table) -> Iterator[dict[str, Any]]:
        features, logits = self._answers(prepared)
        details = self.details(features, logits)
        rows = [self._row(values, more) for values, more in zip(logits, details, strict=True)]
        evidence = [None] * len(rows) if self.options.evidence == NONE else self._evidence(prepared, rows)
        meta = zip(prepared["row"].to_pylist(), prepared["unread"].to_pylist(), prepared[IMAGES], strict=True)
        for row, regions, (key, unread, images) in zip(rows, evidence, meta, strict=True):
            shown = {field.name: images.values.field(field.name).to_pylist() for field in IMAGE}
            listed = [dict(zip(shown, values, strict=True)) for values in zip(*shown.values(), strict=True)]
            row |= {"row": key, IMAGES: listed, "evidence": regions}
            reasons = unclear_reasons(row["labels"], self.options.required)
            reasons |= {"inconsistent_evidence"} if self.inconsistent(row) else set()
            reasons |= {"image_unreadable"} if unread else set()
            yield row | {"decision": REVIEW if reasons else AUTO, "reasons": [name for name in REASONS if name in reasons]}

    def _answers(self, prepared: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Features [n, width] and logits [n, findings] of the prepared rows."""
        import torch

        with torch.inference_mode():
            features = self.features(prepared)
            logits = self.predict(features).float() if len(features) else torch.zeros(0, len(self.names))
        return features.cpu().numpy(), logits.cpu().numpy()

    def _row(self, logits: np.ndarray, details: Mapping[str, Any]) -> dict[str, Any]:
        further = details.get("labels", {})
        named = zip(self.names, logits.tolist(), strict=True)
        labels = [self.calibration[name].label(name, logit) | further.get(name, {}) for name, logit in named]
        return {**details, "labels": labels}

    def _evidence(self, prepared: pa.Table, rows: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        from engine.models.findings.evidence import evidence

        return evidence(self, prepared, [[self.names.index(name) for name in shown(row["labels"])] for row in rows])


def shown(labels: Sequence[Mapping[str, Any]]) -> list[str]:
    """The findings of a study that evidence is given for: those that are positive, or unclear where clear was promised."""
    return [label["name"] for label in labels if label["pred"] or (label.get("lower") is not None and not label["clear"])]
