"""Preparing studies of images, and joining what a network reads in them."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from engine.errors import InputChanged
from engine.models import image_system
from engine.models.base import ModelSpec
from engine.models.run import answer, prepare, probe
from engine.records import IMAGES
from tests.toys import seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return seen.write(tmp_path_factory.mktemp("seen") / "model")


def load(folder, runtime=None, **options):
    return seen.load(ModelSpec("tests.toys.seen", str(folder), {"precision": "fp32", **options}, runtime or {"threads": 1}))


SQUARE, DULL = seen.picture((16, 8, 8, 255)), seen.picture((0, 0, 8, 191))


def frames(*levels):
    import io

    stream = io.BytesIO()
    first, *more = [Image.fromarray(np.full((64, 64), level, np.uint8)) for level in levels]
    first.save(stream, "tiff", save_all=True, append_images=more)
    return stream.getvalue()


def test_a_study_is_its_files_and_their_frames(folder):
    meta, prepared = prepare(load(folder), seen.studies(a=[SQUARE], b=[frames(10, 20), DULL]))
    assert IMAGES not in meta.column_names and prepared["unread"].to_pylist() == [0, 0]
    one, two = prepared[IMAGES].to_pylist()
    assert [(each["source"], each["frame"]) for each in one + two] == [
        ("a-0.png", 0),
        ("b-0.png", 0),
        ("b-0.png", 1),
        ("b-1.png", 0),
    ]
    assert {(each["width"], each["height"], len(each["pixels"])) for each in one + two} == {(64, 64, 64 * 64)}
    assert two[0]["sha256"] == two[1]["sha256"] != two[2]["sha256"]


def test_a_broken_file_costs_itself_and_a_study_of_broken_files_fails_as_the_first(folder):
    big = seen.picture(size=(100, 90))
    records = seen.studies(half=[b"no image", SQUARE], none=[big, b"no image"], empty=[], sound=[SQUARE])
    meta, prepared = prepare(load(folder, max_pixels=64 * 64), records)
    kinds = [failure and failure["kind"] for failure in meta["failure"].to_pylist()]
    assert kinds == [None, "too_many_pixels", "missing_image", None]
    assert prepared.select(["record_id", "unread"]).to_pylist() == [
        {"record_id": "half", "unread": 1},
        {"record_id": "sound", "unread": 0},
    ]
    half, sound = answer(load(folder), prepared, pa.schema([])).to_pylist()
    assert half["labels"] == sound["labels"]
    assert "image_unreadable" in half["reasons"] and "image_unreadable" not in sound["reasons"]
    assert [image["source"] for image in half["images"]] == ["half-1.png"]


def test_a_changed_file_stops_the_run(folder, monkeypatch):
    def changed(file):
        raise InputChanged("a.png has changed")

    monkeypatch.setattr(image_system, "image_bytes", changed)
    with pytest.raises(InputChanged):
        prepare(load(folder), seen.studies(a=[SQUARE]))


def test_one_file_is_in_memory_at_a_time(folder, monkeypatch):
    seen_files, real = [], image_system.image_bytes

    def counted(file):
        seen_files.append(file["source"])
        return real(file)

    monkeypatch.setattr(image_system, "image_bytes", counted)
    prepare(load(folder), seen.studies(a=[SQUARE, DULL], b=[DULL]))
    assert seen_files == ["a-0.png", "a-1.png", "b-0.png"]


def test_features_of_a_study_are_the_mean_of_its_images(folder):
    system = load(folder)
    _, prepared = prepare(system, seen.studies(one=[SQUARE], two=[DULL], both=[SQUARE, DULL]))
    features = system.features(prepared)
    # The brightest cell: (255 - 127) / 128 = 1 and (191 - 127) / 128 = 0.5; the mean is a 64th of it.
    assert torch.allclose(features, torch.tensor([[1, 1 / 64], [0.5, 0.5 / 64], [0.75, 0.75 / 64]]))
    assert [row[0] for row in system.scores(prepared)["findings_logits"].to_pylist()] == pytest.approx([2.0, 0.0, 1.0])


@pytest.mark.parametrize("runtime", [{"batch_images": 1}, {"batch_images": 2}, {"batch_images": 100}])
def test_batches_do_not_change_an_answer(folder, runtime):
    rng = np.random.default_rng(0)
    files = {f"s{n}": [seen.png(rng.integers(0, 255, (64, 64), np.uint8)) for _ in range(1 + n % 3)] for n in range(7)}
    _, prepared = prepare(load(folder), seen.studies(**files))
    expected, rows = (load(folder, values).run(prepared).to_pylist() for values in ({"batch_images": 16}, runtime))
    for one, other in zip(expected, rows, strict=True):
        assert [x["prob"] for x in one["labels"]] == pytest.approx([x["prob"] for x in other["labels"]], abs=1e-6)
    backward = prepared.take(list(range(7))[::-1])
    assert [row["row"] for row in load(folder, runtime).run(backward).to_pylist()] == list(range(7))[::-1]
    assert load(folder, deterministic=True).run(prepared) == load(folder, runtime, deterministic=True).run(prepared)


def test_no_records_give_empty_tables_of_the_same_columns(folder):
    system = load(folder)
    _, some = prepare(system, seen.studies(a=[SQUARE]))
    nothing = system.prepare(seen.studies())
    assert system.run(nothing).schema.equals(system.run(some).schema) and len(system.run(nothing)) == 0
    assert system.scores(nothing).schema.equals(system.scores(some).schema)


def test_the_probe_is_an_image_and_loads_the_weights(folder):
    system = load(folder)
    probe(system, pa.schema([("patient", pa.string())]))
    assert "network" in vars(system)


def test_not_a_number_is_no_answer(folder):
    system = load(folder)
    _, prepared = prepare(system, seen.studies(a=[SQUARE]))
    with torch.no_grad():
        system.network.head.bias.fill_(np.nan)
    (row,) = answer(system, prepared, pa.schema([])).to_pylist()
    assert row["failure"] == {"kind": "model_error", "detail": "NaN in labels"}
