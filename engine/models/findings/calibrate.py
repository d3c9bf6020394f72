"""Settings for calibrating a system of findings, see `engine.models.base.Calibration`; a system's module `calibrate` exports
them."""

from dataclasses import dataclass
from typing import Any

from engine.keys import MISSING, key, section
from engine.models.findings.fitting import Promise
from engine.models.options import NONE, ImageOptions

WORK = f"{__package__}.revision:revise"


@dataclass(frozen=True)
class Data:
    path: str = key(
        MISSING,
        "Labelled studies: a manifest as Parquet, CSV or JSONL with a column of images and columns of findings. The model must "
        "not have been trained on them. A finding needs at least 59 studies with it and 29 without it for the default promise.",
        path=True,
    )
    image: str = key("image", "Column with the images' paths or bytes.")
    study: str | None = key(None, "Column with the studies' ids, if a study has several images; its rows repeat the findings.")
    id: str | None = key(None, "Column with the images' ids, if each is a study of its own.")
    root: str | None = key(None, "Folder that the images' paths are relative to; null is the manifest's.", path=True)
    findings: dict[str, str] = key(
        {}, "Column with the state of each finding (1, 0, -1 or empty), such as {Edema: edema}; {} takes the findings' names."
    )
    list: str | None = key(None, "Column with lists of name and state, in place of a column for each finding.")
    group: str | None = key(None, "Column with the patient; all studies of a patient are held out together.")


@dataclass(frozen=True)
class Settings:
    data: Data = section(Data)
    sensitivity: float = key(
        Promise.sensitivity,
        "Share of the studies with a finding that must not be called clearly negative, for each finding.",
        low=0.5,
        high=0.9999,
    )
    specificity: float = key(
        Promise.specificity,
        "Share of the studies without a finding that must not be called clearly positive, for each finding.",
        low=0.5,
        high=0.9999,
    )
    confidence: float = key(Promise.confidence, "Confidence with which each of the two must be reached.", low=0.5, high=0.9999)
    folds: int = key(
        5, "Parts that are held out in turn, to show the effect of the calibration on studies that it was not fitted to.", low=2
    )
    max_pixels: int = key(
        ImageOptions.max_pixels, "Most pixels of a file; use the same value as images.max_pixels in your runs.", low=1
    )
    max_frames: int = key(
        ImageOptions.max_frames, "Most frames of a file; use the same value as images.max_frames in your runs.", low=1
    )
    precision: str = key(
        "auto", "Arithmetic of the encoder; use the same value as in your runs.", choices=("auto", "fp32", "bf16")
    )

    def options(self) -> dict[str, Any]:
        """Options of the system to calibrate."""
        return {name: getattr(self, name) for name in ("max_pixels", "max_frames", "precision")} | {"evidence": NONE}

    @property
    def promise(self) -> Promise:
        return Promise(self.sensitivity, self.specificity, self.confidence)
