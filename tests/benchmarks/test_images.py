"""The compute core of systems that read images, at toy size: that it measures what it says, not how fast that is."""

from dataclasses import replace

import numpy as np
import pytest

from engine.benchmarks import alone, images
from engine.benchmarks.config import CORE, EVIDENCE
from engine.benchmarks.corpus import Size, as_records, made_up
from engine.models.base import ModelSpec, load
from engine.models.columns import list_values
from tests.toys import seen


def test_decoding_and_model_apart_and_other_ways_to_run_it(of_images, tmp_path):
    rows = alone.compute_core(of_images, tmp_path, print)
    assert [row.measured for row in rows] == [
        *("decoding and preprocessing", "model, with rows", "compute core, no evidence"),
        *("model, batches of 1", "model, batches of 2", "model, another memory format"),
    ]
    assert {(row.part, row.unit, row.target) for row in rows} == {(CORE, "images/s", None)}
    assert all(row.figure > 0 and row.rival_figure > 0 for row in rows)
    assert {row.rival for row in rows[:3]} == {"naive loop, one image at a time in fp32"}
    assert {row.rival for row in rows[3:]} == {"the model as it runs: batches of 50, channels_last"}
    assert rows[0].setting == "4 synthetic radiographs of 320 pixels, float32, batches of 50, channels_last"


def test_evidence_has_a_price(of_images, tmp_path):
    (row,) = alone.evidence_price(of_images, tmp_path, print)
    assert (row.part, row.measured, row.unit, row.setting) == (
        *(EVIDENCE, "evidence", "ms/record"),
        "3 synthetic radiographs, whole",
    )


def test_the_naive_loop_gives_the_answers_of_the_system(of_images):
    """On images that need no resizing both see the same pixels."""
    system = load(of_images.model)
    table = made_up("images", 3, Size(0, 64))
    logits = np.stack(list_values(system.scores(system.prepare(as_records(table)))["findings_logits"]))
    naive = [images.answer(images.plane(data, system), system)[0] for data in table["image"].to_pylist()]
    assert np.stack(naive) == pytest.approx(logits, abs=1e-4)


def test_any_system_of_images_is_measured(of_images, tmp_path):
    folder = seen.write(tmp_path / "seen")
    toy = replace(of_images, model=ModelSpec("tests.toys.seen", str(folder), {"precision": "fp32"}), batch_sizes=(50,))
    assert [row.measured for row in images.compute_core(toy)][3:] == ["model, another memory format"]
