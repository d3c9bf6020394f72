"""Labels of public sets of chest radiographs in one table over the 14 findings of `engine.text.chest`, one row an image.

Each layout is the set as it is published; `chest_terms.csv` says which of its labels states which finding.

* `mimic-cxr-jpg` 2.0.0 (PhysioNet): `mimic-cxr-2.0.0-chexpert.csv` (a row a study; 1, 0, -1 or blank for each finding),
  `-metadata.csv` (a row an image) and, if it is there, `-split.csv`; images in `files/p10/p10000032/s50414267/<dicom_id>.jpg`.
* `chexpert` (Irvin et al., AAAI 2019): `train.csv` and `valid.csv` with `Path`, a row an image, and the findings as above.
* `padchest` (Bustos et al., Medical Image Analysis 2020): one CSV with `Labels`, such as `['cardiomegaly', 'nodule']`. Labels
  such as `unchanged` say that the list is incomplete; then findings that are not listed are not mentioned, else absent.
* `vindr-cxr` 1.0.0 (PhysioNet): `image_labels_<split>.csv` with a row for each image and reader and a vote for each label, and
  `annotations_<split>.csv` with boxes. A finding is 1 by most readers, 0 by none, and otherwise -1.
* `open-i` (Demner-Fushman et al., JAMIA 2016): XML reports with MeSH headings; a finding without its heading is absent.

In the last three Lung Opacity and No Finding also follow from the others, as in `engine.text.chest.labeler`.
"""

import ast
import csv
import gzip
import io
import math
import posixpath
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError, RowError
from engine.keys import closest
from engine.records import FAILURE
from engine.sources.labelled.values import FINDINGS as STATES
from engine.storage import full_path, storage_for
from engine.text.chest import FINDINGS
from engine.text.chest.labeler import NEGATIVE, POSITIVE, UNSURE, implied, stronger

BOXES = pa.list_(
    pa.struct([("name", pa.string()), ("x0", pa.float64()), ("y0", pa.float64()), ("x1", pa.float64()), ("y1", pa.float64())])
)
SCHEMA = pa.schema(
    [
        pa.field("study_id", pa.string(), nullable=False),
        ("patient_id", pa.string()),
        pa.field("image", pa.string(), nullable=False),
        ("split", pa.string()),
        ("findings", STATES),
        ("boxes", BOXES),
        ("failure", FAILURE),
    ]
)
MIMIC, CHEXPERT, PADCHEST, VINDR, OPEN_I = LAYOUTS = ("mimic-cxr-jpg", "chexpert", "padchest", "vindr-cxr", "open-i")
_CELLS = {"": None, "1": POSITIVE, "0": NEGATIVE, "-1": UNSURE}
_INCOMPLETE = frozenset({"exclude", "unchanged", "suboptimal study"})
_PADCHEST_FILES = ("PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv", "PADCHEST_chest_x_ray_images_labels_160K.csv")
# The labels of readers that state a finding.
_VOTED = (
    *("Atelectasis", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema", "ILD", "Infiltration", "Lung Opacity"),
    *("Lung cavity", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Rib fracture", "Lung tumor"),
    "Pneumonia",
)
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_OUTSIDE = "outside the image, empty, or no numbers"

States = dict[str, int]


@dataclass
class Labelled:
    """One image: `findings` by name; `boxes` as (name, x0, y0, x1, y1) in pixels, None where the layout has none; with a
    `failure`, neither counts."""

    study_id: str
    patient_id: str | None
    image: str
    split: str | None = None
    findings: States = field(default_factory=dict)
    boxes: list[tuple[Any, ...]] | None = None
    failure: RowError | None = None


def read_layout(name: str, folder: str) -> pa.Table:
    """The labels of a set in a local or `s3://` folder as a table of `SCHEMA`, in the order of the set's files.

    `image` is relative to the folder. A row with `failure` has neither findings nor boxes: a label that cannot be read
    (`parse_error`), or a box that is empty, no number, or outside the image (`bad_box`; the right and lower edge are known where
    the image is in the folder).

    Raises:
        ConfigError: there is no such layout, or the folder lacks a file or column of it.
    """
    if name not in _READERS:
        raise ConfigError(f"no layout '{name}'{closest(name, LAYOUTS)}; there are {', '.join(LAYOUTS)}", "layout")
    rows = [_row(labelled) for labelled in _READERS[name](_Folder(full_path(folder)))]
    return pa.Table.from_pylist(rows, SCHEMA)


def findings_of(layout: str, labels: Iterable[str], complete: bool = True) -> States:
    """The findings that labels of PadChest, or MeSH headings of Open-i with their qualifiers (`Opacity/lung/base`), state.

    Args:
        complete: whether what is not listed is absent; else it is not mentioned, and No Finding is left out.
    """
    states: States = {finding: NEGATIVE for finding in _mapped(layout)} if complete else {}
    for listed in labels:
        label, *parts = (part.strip().lower() for part in listed.split("/"))
        for term in _terms(layout).get(label, ()):
            if term.part and term.part not in parts:
                continue
            state = UNSURE if "borderline" in parts else term.state
            if stronger(state, states.get(term.finding)):
                states[term.finding] = state
    return _with_implied(states, complete)


@dataclass(frozen=True)
class _Term:
    part: str
    finding: str
    state: int


@cache
def _terms(layout: str) -> Mapping[str, Sequence[_Term]]:
    """The labels of a layout, in lower case, with the findings that they state."""
    terms: dict[str, list[_Term]] = {}
    with resources.files(__package__).joinpath("chest_terms.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["layout"] == layout:
                term = _Term(row["part"], row["finding"], int(row["state"] or POSITIVE))
                terms.setdefault(row["term"].lower(), []).append(term)
    return terms


def _mapped(layout: str) -> list[str]:
    named = {term.finding for terms in _terms(layout).values() for term in terms}
    return [finding for finding in FINDINGS if finding in named]


def _with_implied(states: States, complete: bool) -> States:
    following = {name: state for name, (state, _, _) in implied(states).items()}
    if not complete:
        following.pop("No Finding")
    merged = states | following
    return {finding: merged[finding] for finding in FINDINGS if finding in merged}


class _Folder:
    """The files of a set."""

    def __init__(self, path: str) -> None:
        self.path, self.storage = path, storage_for(path)

    def table(self, names: Sequence[str], columns: Sequence[str], needed: bool = True) -> list[dict[str, str]] | None:
        """The rows of the first of these CSV files that is there, plain or as .gz: all columns, these among them.

        Raises:
            ConfigError: none is there although one is `needed`, or it cannot be read, or lacks a column.
        """
        for name in [f"{name}{ending}" for name in names for ending in ("", ".gz")]:
            path = f"{self.path}/{name}"
            if self.storage.stat(path) is not None:
                return self._rows(path, columns)
        if needed:
            raise ConfigError(f"{self.path} has no {names[0]}; name the folder of the set as it is published", "input.path")
        return None

    def _rows(self, path: str, columns: Sequence[str]) -> list[dict[str, str]]:
        name = posixpath.basename(path)
        try:
            with self.storage.open(path) as file, gzip.open(file) if path.endswith(".gz") else file as plain:
                reader = csv.DictReader(io.TextIOWrapper(plain, encoding="utf-8-sig", newline=""), restval="")
                missing = [column for column in columns if column not in (reader.fieldnames or ())]
                if missing:
                    raise ConfigError(f"{name} has no column {missing[0]}", "input.path")
                return [{**row} for row in reader]
        except (csv.Error, UnicodeDecodeError, gzip.BadGzipFile, EOFError):
            raise ConfigError(f"{name} is no CSV that can be read", "input.path") from None

    def size(self, image: str) -> tuple[int, int] | None:
        """Width and height of a DICOM image, None if it is not in the folder.

        Raises:
            RowError: it is no DICOM image.
        """
        import pydicom
        from pydicom.errors import InvalidDicomError

        try:
            with self.storage.open(f"{self.path}/{image}") as file:
                header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=["Rows", "Columns"])
                return int(header.Columns), int(header.Rows)
        except FileNotFoundError:
            return None
        except (InvalidDicomError, AttributeError, EOFError, TypeError, ValueError) as error:
            raise RowError("not_an_image", type(error).__name__) from None


def _mimic(folder: _Folder) -> Iterator[Labelled]:
    version = "mimic-cxr-2.0.0"
    studies = {row["study_id"]: row for row in folder.table([f"{version}-chexpert.csv"], ["study_id", *FINDINGS])}
    images = folder.table([f"{version}-metadata.csv"], ["dicom_id", "subject_id", "study_id"])
    split = {
        row["dicom_id"]: row["split"] for row in folder.table([f"{version}-split.csv"], ["dicom_id", "split"], needed=False) or ()
    }
    for row in images:
        study, patient, image = row["study_id"], row["subject_id"], row["dicom_id"]
        path = f"files/p{patient[:2]}/p{patient}/s{study}/{image}.jpg"
        # A few studies have no report, and so no labels.
        yield _stated(Labelled(study, patient, path, split.get(image)), studies.get(study, {}))


def _chexpert(folder: _Folder) -> Iterator[Labelled]:
    tables = {split: folder.table([f"{split}.csv"], ["Path", *FINDINGS], split == "train") for split in ("train", "valid")}
    for split, rows in tables.items():
        for row in rows or ():
            # <the set's own folder>/train/patient00001/study1/view1_frontal.jpg
            parts = row["Path"].split("/")
            if len(parts) == 5:
                yield _stated(Labelled("/".join(parts[2:4]), parts[2], "/".join(parts[1:]), split), row)
            else:
                yield Labelled(row["Path"], None, row["Path"], split, failure=RowError("parse_error", "Path has not five parts"))


def _stated(labelled: Labelled, row: Mapping[str, str]) -> Labelled:
    """With the findings of a row that has a column for each."""
    cells = {finding: row.get(finding, "").strip().removesuffix(".0") for finding in FINDINGS}
    unknown = [finding for finding, cell in cells.items() if cell not in _CELLS]
    if unknown:
        labelled.failure = RowError("parse_error", f"{unknown[0]} is none of 1, 0, -1 and blank")
    else:
        states = ((finding, _CELLS[cell]) for finding, cell in cells.items())
        labelled.findings = {finding: state for finding, state in states if state is not None}
    return labelled


def _padchest(folder: _Folder) -> Iterator[Labelled]:
    for row in folder.table(_PADCHEST_FILES, ["ImageID", "ImageDir", "StudyID", "PatientID", "Labels"]):
        labelled = Labelled(row["StudyID"], row["PatientID"], f"{row['ImageDir'].removesuffix('.0')}/{row['ImageID']}")
        try:
            labels = ast.literal_eval(row["Labels"] or "[]")
            if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
                raise ValueError("no list of words")
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            labelled.failure = RowError("parse_error", "Labels is no list of words")
        else:
            words = [label.strip().lower() for label in labels]
            labelled.findings = findings_of(PADCHEST, words, bool(words) and _INCOMPLETE.isdisjoint(words))
        yield labelled


def _vindr(folder: _Folder) -> Iterator[Labelled]:
    for split in ("train", "test"):
        names = [[f"annotations/{name}", name] for name in (f"image_labels_{split}.csv", f"annotations_{split}.csv")]
        # Both or none of the files of a split are there.
        votes = folder.table(names[0], ["image_id", *_VOTED], split == "train")
        marks = folder.table(names[1], ["image_id", "class_name", *_CORNERS], votes is not None)
        readers, drawn = (_by_image(rows or ()) for rows in (votes, marks))
        for image, rows in readers.items():
            labelled = Labelled(image, None, f"{split}/{image}.dicom", split)
            try:
                labelled.findings = _majority(rows)
                labelled.boxes = _boxes(folder, labelled.image, drawn.get(image, ()))
            except RowError as error:
                labelled.failure = error
            yield labelled


def _by_image(rows: Iterable[Mapping[str, str]]) -> dict[str, list[Mapping[str, str]]]:
    images: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        images.setdefault(row["image_id"], []).append(row)
    return images


def _majority(rows: Sequence[Mapping[str, str]]) -> States:
    """The findings by the votes of an image's readers."""
    votes: Counter[str] = Counter()
    for row in rows:
        cells = {label: row[label].strip().removesuffix(".0") for label in _VOTED}
        if not set(cells.values()) <= {"0", "1"}:
            raise RowError("parse_error", "a vote is neither 0 nor 1")
        votes.update({term.finding for label, cell in cells.items() if cell == "1" for term in _terms(VINDR)[label.lower()]})
    states = {
        name: NEGATIVE if not votes[name] else POSITIVE if 2 * votes[name] > len(rows) else UNSURE for name in _mapped(VINDR)
    }
    return _with_implied(states, complete=True)


def _boxes(folder: _Folder, image: str, rows: Sequence[Mapping[str, str]]) -> list[tuple[Any, ...]]:
    """The boxes of findings, each as a reader drew it.

    Raises:
        RowError: one of them is bad.
    """
    named = [(term.finding, row) for row in rows for term in _terms(VINDR).get(row["class_name"].strip().lower(), ())]
    if not named:
        return []
    width, height = folder.size(image) or (math.inf, math.inf)
    boxes, bad = [], 0
    for finding, row in named:
        try:
            x0, y0, x1, y1 = (float(row[corner]) for corner in _CORNERS)
        except ValueError:
            x0 = y0 = x1 = y1 = math.nan
        # A comparison with NaN is false.
        if 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height and math.isfinite(x1 + y1):
            boxes.append((finding, x0, y0, x1, y1))
        else:
            bad += 1
    if bad:
        raise RowError("bad_box", f"{bad} of {len(named)} boxes are {_OUTSIDE}")
    return boxes


def _open_i(folder: _Folder) -> Iterator[Labelled]:
    files = [entry.path for entry in folder.storage.list(folder.path)]
    reports = [path for path in files if path.endswith(".xml")]
    if not reports:
        raise ConfigError(f"{folder.path} has no .xml reports; name the folder of the set as it is published", "input.path")
    images = {posixpath.splitext(posixpath.basename(path))[0]: path for path in files if not path.endswith(".xml")}
    for path in reports:
        try:
            root = ElementTree.fromstring(folder.storage.read(path) or b"")
        except ElementTree.ParseError:
            study = posixpath.splitext(posixpath.basename(path))[0]
            yield Labelled(study, None, posixpath.relpath(path, folder.path), failure=RowError("parse_error", "no XML"))
            continue
        study = next((node.get("id") for node in root.iter("uId")), None) or posixpath.splitext(posixpath.basename(path))[0]
        headings = [node.text or "" for node in root.iter("major")]
        # `No Indexing`: nobody coded the report.
        coded = bool(headings) and "No Indexing" not in headings
        findings = findings_of(OPEN_I, headings) if coded else {}
        for number in (node.get("id", "") for node in root.iter("parentImage")):
            image = posixpath.relpath(images[number], folder.path) if number in images else f"{number}.png"
            yield Labelled(study, None, image, findings=findings)


_READERS: Mapping[str, Callable[[_Folder], Iterator[Labelled]]] = dict(
    zip(LAYOUTS, (_mimic, _chexpert, _padchest, _vindr, _open_i), strict=True)
)


def _row(labelled: Labelled) -> dict[str, Any]:
    failure, boxes = labelled.failure, labelled.boxes
    findings = [{"name": name, "state": state} for name, state in labelled.findings.items()]
    return {
        "study_id": labelled.study_id,
        "patient_id": labelled.patient_id,
        "image": labelled.image,
        "split": labelled.split,
        "findings": None if failure else findings,
        "boxes": None if failure or boxes is None else [dict(zip(BOXES.value_type.names, box, strict=True)) for box in boxes],
        "failure": {"kind": failure.kind, "detail": failure.detail} if failure else None,
    }
