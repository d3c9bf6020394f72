"""Whether patch evidence lies where radiologists drew boxes of pneumonia, beside chance and the middle of the image.

For each fold a model is written as the product writes it, a probe on concepts that saw no image of the fold's patients, and the
product's own evidence is asked for the fold's images with boxes.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine import sources
from engine.encoders import encoder_digest
from engine.evaluation.findings import Box, box_metrics
from engine.evaluation.metrics import Rounds, mean_metrics
from engine.evaluation.resample import share_interval
from engine.models.base import ModelSpec, load
from engine.models.clear.checkpoint import SYSTEM, write_checkpoint
from engine.models.clear.config import PROBE, Config
from engine.models.clear.fitting import concept_table
from engine.models.clear.space import Space as Served
from engine.models.findings.evidence import evidence
from engine.models.image_system import cell_boxes, flat_images
from engine.records import FINDINGS, IMAGES
from engine.sources import InputConfig
from engine.storage import storage_for
from engine.studies.clear import heads
from engine.studies.clear.folds import parts, space_of
from engine.studies.clear.heads import Part, Space
from engine.studies.clear.radiographs import ENCODER, NIH, PREPROCESSING, Radiographs, frequent, states
from engine.studies.results import Measured, Row
from engine.studies.run import Task
from engine.vision.encoders import image_encoder_digest

LABEL = "Pneumonia"
_BORDER = 0.1


def measure(radiographs: Radiographs, task: Task) -> Measured:
    """The pointing game: the share of images whose strongest patch has its centre in a box."""
    nih = radiographs.nih
    names, _ = frequent(nih.frame["labels"].to_list())
    right = states(nih.frame["labels"].to_list(), names)
    gold = [drawn(row["boxes_1024"], row["scale"]) for row in nih.frame.iter_rows(named=True)]
    boxed = np.array([bool(boxes) for boxes in gold])
    records = _records(radiographs, nih.frame.filter(pl.Series(boxed))["id"].to_list())
    shown: dict[str, list[tuple[float, Box]]] = {}
    cells: dict[str, NDArray] = {}
    for fold in parts(nih.patients, task.arm.seed):
        train, valid = (Part(nih.features[each], right[each]) for each in (fold.train, fold.valid))
        space = space_of(radiographs, nih.take(fold.train), task)
        ids = nih.frame.filter(pl.Series(fold.test & boxed))["id"].to_list()
        of_fold = records.filter(pc.is_in(records["record_id"], pa.array(ids, pa.string())))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            _write(path, radiographs, space, names, train, valid)
            system = load(ModelSpec(SYSTEM, str(path), {"precision": "fp32"}, {"threads": task.threads}))
            prepared = system.prepare(of_fold)
            regions = evidence(system, prepared, [[names.index(LABEL)]] * len(prepared))
            images, _ = flat_images(prepared)
            for id, patches, place in zip(
                prepared["record_id"].to_pylist(), regions, images.field("place").to_pylist(), strict=True
            ):
                shown[id] = [(each["weight"], (each["x0"], each["y0"], each["x1"], each["y1"])) for each in patches]
                cells[id] = cell_boxes({"place": place}, system.preprocessing.side, system.grid)
        task.say(f"evidence of {len(shown)} images")
    ids, patients = nih.frame["id"].to_numpy()[boxed], nih.patients[boxed]
    return Measured(_rows([each for each in gold if each], [shown[id] for id in ids], [cells[id] for id in ids], patients, task))


def _rows(
    gold: Sequence[Sequence[Box]],
    shown: Sequence[Sequence[tuple[float, Box]]],
    cells: Sequence[NDArray],
    patients: NDArray,
    task: Task,
) -> list[Row]:
    rounds = Rounds(task.study.rounds)
    pointed = {metric.metric: metric for metric in box_metrics(gold, shown, patients, rounds)}
    pairs = list(zip(shown, cells, gold, strict=True))
    hits = {
        "evidence": np.array([_inside([max(patches)], boxes) for patches, _, boxes in pairs]),
        "shown": np.array([_inside(patches, boxes) for patches, _, boxes in pairs]),
        "random": np.array([inside(each, boxes).mean() for _, each, boxes in pairs]),
        "centre": np.array([inside(_whole(each), boxes).mean() for _, each, boxes in pairs]),
    }
    # The middle of the image, without a tenth of it at each side.
    middles = [_middle(each) for each in cells]
    outside = {
        "border": np.array([1 - _inside([max(patches)], [middle]) for patches, middle in zip(shown, middles, strict=True)]),
        "border random": np.array([1 - inside(each, [middle]).mean() for each, middle in zip(cells, middles, strict=True)]),
    }
    less = {"random": "evidence", "centre": "evidence", "random shown": "shown"}
    hits |= {f"less {name}": hits[kind] - hits[name.split()[0]] for name, kind in less.items()}
    rows = [Row(name, each.value, each.low, each.high, each.n) for name, each in pointed.items()]
    parts = {name: name if name.startswith("less ") else f"patch={name}" for name in (*hits, *outside)}
    for each in mean_metrics(FINDINGS, hits | outside, patients, rounds):
        low, high = (each.low, each.high) if each.value else share_interval(0, each.n)
        rows.append(Row("hit", each.value, low, high, each.n, parts[each.metric]))
    return [*rows, Row("patients", float(len(set(patients.tolist()))), n=len(gold))]


def drawn(boxes: Sequence[dict], scale: float) -> list[Box]:
    """Boxes of pneumonia, of those drawn in pixels of the source, as left, top, right and bottom in pixels of an image of another
    scale."""
    return [
        tuple(scale * side for side in (box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]))
        for box in boxes
        if box["label"] == LABEL
    ]


def inside(places: NDArray, boxes: Sequence[Box]) -> NDArray:
    """Which centres of places [n, 4] lie in one of some boxes, of those places that the image has."""
    places = places[~np.isnan(places).any(1)]
    x, y = (places[:, 0] + places[:, 2]) / 2, (places[:, 1] + places[:, 3]) / 2
    return np.any([(left <= x) & (x < right) & (top <= y) & (y < bottom) for left, top, right, bottom in boxes], 0)


def _inside(patches: Sequence[tuple[float, Box]], boxes: Sequence[Box]) -> float:
    """The share of some patches whose centres lie in a box."""
    return float(inside(np.array([place for _, place in patches]), boxes).mean())


def _whole(cells: NDArray) -> NDArray:
    return np.concatenate([np.nanmin(cells[:, :2], 0), np.nanmax(cells[:, 2:], 0)])[None]


def _middle(cells: NDArray) -> Box:
    left, top, right, bottom = _whole(cells)[0].tolist()
    width, height = right - left, bottom - top
    return left + _BORDER * width, top + _BORDER * height, right - _BORDER * width, bottom - _BORDER * height


def _records(radiographs: Radiographs, ids: Sequence[str]) -> pa.Table:
    config = InputConfig(f"{radiographs.data}/{NIH}", id="image_id", reads=IMAGES)
    storage = storage_for(config.path)
    files = sources.list_files(config, storage)
    keep = sources.keep_fields(config, storage, files)
    tables = [sources.read(config, storage, shard, keep) for shard in sources.cut(config, storage, files, 64 << 20)]
    records = pa.concat_tables(tables)
    return records.filter(pc.is_in(records["record_id"], pa.array(ids, pa.string())))


def _write(folder: Path, radiographs: Radiographs, space: Space, names: Sequence[str], train: Part, valid: Part) -> None:
    """The model of a fold as a checkpoint."""
    fitted, bank = heads.probe(space, names, train, valid), space.bank
    weights, intercepts = np.zeros((len(names), bank.embeddings.shape[1])), np.zeros(len(names))
    rows = [names.index(name) for name in fitted.labels]
    weights[rows], intercepts[rows] = fitted.weights, fitted.intercepts
    served = Served(
        space.t, space.matrix, np.zeros(space.t.shape[1]), weights.T, intercepts, bank.embeddings.astype(np.float64) @ weights.T
    )
    encoders = (
        ENCODER,
        image_encoder_digest(ENCODER),
        PREPROCESSING,
        radiographs.text,
        encoder_digest(radiographs.text),
        space.t.shape[1],
        128,
        PROBE,
    )
    config = Config(tuple(names), *encoders, {"path": radiographs.openi, "sha256": bank.sha256, **bank.facts})
    tensors = {f"dual.{name}": value for name, value in space.encoder.state_dict().items()}
    write_checkpoint(folder, config, tensors, concept_table(bank, np.arange(len(space.t))), served)
