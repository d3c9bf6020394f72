"""The table that the shipped model is trained on: made radiographs, and the NIH images.

    python -m engine.studies.clear.corpus <folder of the public data> <folder to write>

Reports of made radiographs are synthetic; those of NIH images are silver, written from their labels. Made radiographs teach what
words look like and nothing else: their findings are left out, since a head that learned them answered worse on real images. NIH's
labels are mapped to the findings of CheXpert; a finding that NIH does not label is no finding of the model. By a hash of the
patient half of NIH is train, three tenths valid, two tenths test.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from engine.records import in_share
from engine.sources.labelled.splits import TEST, TRAIN, VALID
from engine.sources.synthetic.radiographs import Radiographs, blocks
from engine.storage import whole_file
from engine.studies.clear.radiographs import NIH, sentences

MADE = 3000
_OPACITY = ("Infiltration", "Consolidation", "Pneumonia", "Edema", "Atelectasis", "Mass", "Nodule")
# Finding -> the labels of NIH that state it. Emphysema, fibrosis and hernia state none, but are no No Finding either.
NIH_LABELS = {
    "Cardiomegaly": ("Cardiomegaly",),
    "Lung Opacity": _OPACITY,
    "Lung Lesion": ("Mass", "Nodule"),
    "Edema": ("Edema",),
    "Consolidation": ("Consolidation",),
    "Pneumonia": ("Pneumonia",),
    "Atelectasis": ("Atelectasis",),
    "Pneumothorax": ("Pneumothorax",),
    "Pleural Effusion": ("Effusion",),
    "Pleural Other": ("Pleural_Thickening",),
    "No Finding": ("No Finding",),
}


def nih(data: str) -> Iterator[dict[str, Any]]:
    """Rows of the NIH images."""
    folder = Path(data, NIH).parent
    for row in pl.read_parquet(Path(data, NIH)).iter_rows(named=True):
        labels, patient = row["finding_labels"], f"nih-{row['patient_id']}"
        states = [{"name": name, "state": int(bool(set(named) & set(labels)))} for name, named in NIH_LABELS.items()]
        yield {
            "record_id": f"nih-{row['image_id']}",
            "patient_id": patient,
            "image": (folder / row["image"]).read_bytes(),
            "report": sentences(labels, row["image_id"]),
            "findings": states,
            "split": TEST if in_share(patient, 0.2, "test") else VALID if in_share(patient, 0.375, "valid") else TRAIN,
            "source": "NIH",
        }


def made(count: int) -> Iterator[dict[str, Any]]:
    """Rows of made radiographs."""
    for table in blocks(Radiographs(seed=11), 0, count):
        for row in table.select(["record_id", "patient_id", "image", "report", "findings"]).to_pylist():
            yield {**row, "findings": [], "split": TRAIN, "source": "made"}


def main(data: str, output: str) -> None:
    """Writes `radiographs.parquet`."""
    rows = [*nih(data), *made(MADE)]
    Path(output).mkdir(parents=True, exist_ok=True)
    with whole_file(Path(output, "radiographs.parquet")) as part:
        pl.DataFrame(rows, schema_overrides={"image": pl.Binary}).write_parquet(part, row_group_size=256)
    print(f"{output}/radiographs.parquet: {len(rows):,} images")


if __name__ == "__main__":
    main(*sys.argv[1:])
