"""What calibrating a system of codes takes."""

from dataclasses import dataclass

from engine.keys import MISSING, key, section
from engine.models.code_corpus import CodeTexts
from engine.models.options import PromiseSettings


@dataclass(frozen=True)
class Data(CodeTexts):
    path: str = key(
        MISSING,
        "Labelled texts: a Parquet, CSV or JSONL file, a folder or a glob; none that the model learned from.",
        path=True,
    )
    group: str | None = key(None, "Column of the patient, whose texts are held out together.")


@dataclass(frozen=True)
class Settings(PromiseSettings):
    data: Data = section(Data)


class CodeCalibration:
    """See `engine.models.base.Calibration`: that of every system whose base is `CodeSystem`."""

    Settings = Settings
    WORK = "engine.models.code_settled:revise"
