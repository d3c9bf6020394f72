"""What is checked of the system on a GPU, on this processor; no GPU is needed."""

import numpy as np
import pytest

from engine.benchmarks.corpus import Size, as_records, made_up
from engine.benchmarks.gpu_check import answer_of, difference
from engine.models.base import ModelSpec
from engine.models.clear import gpu_check, load
from tests.models.clear import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def system(folder):
    return load(ModelSpec("engine.models.clear", str(folder), {"precision": "fp32", "evidence": "none"}, {"threads": 1}))


@pytest.fixture(scope="module")
def records():
    return as_records(made_up("images", 5, Size(0, 64)))


def test_what_holds_on_a_processor(system, records):
    checks = gpu_check.extra(system, system.prepare(records))
    assert checks == {"evidence of every positive finding": True, "channels_last": True, "concepts add up": True}


def test_a_fault_of_a_device_is_found(system, records, monkeypatch):
    prepared = system.prepare(records)
    calls, kind = [], type(system)
    details, cells = kind.details, kind.cells

    def broken(self, features, logits):
        rows = details(self, features, logits)
        for row in rows:
            row["labels"]["Edema"]["rest"] += 1.0
        return rows

    def layouts(self, pixels):
        calls.append(1)
        return cells(self, pixels) * (len(calls) % 2)

    with monkeypatch.context() as patch:
        patch.setattr(type(system), "details", broken)
        assert not gpu_check.extra(system, prepared)["concepts add up"]
    with monkeypatch.context() as patch:
        patch.setattr(type(system), "cells", layouts)
        assert not gpu_check._channels_last(system, prepared)
    with monkeypatch.context() as patch:
        patch.setattr(type(system), "_evidence", lambda self, prepared, rows: [[] for _ in rows])
        assert not gpu_check.extra(system, prepared)["evidence of every positive finding"]


def test_a_finding_near_its_cut_is_unsure_and_so_is_the_decision(system, records):
    prepared = system.prepare(records)
    rows = system.run(prepared).to_pylist()
    one = rows[2]["labels"][3]
    near = gpu_check.unsure(system, prepared, 0.0)
    assert all(keys == [] for keys in near.values())
    cut = float(np.float32(one["prob"])) + 0.01
    system.calibration[one["name"]] = system.calibration[one["name"]].at(cut)
    near = gpu_check.unsure(system, prepared, 0.02)
    assert {("finding", one["name"]), "decision"} <= set(near[rows[2]["row"]])


def test_findings_are_answers_that_are_compared(system, records):
    rows = {str(row["row"]): row for row in system.run(system.prepare(records)).to_pylist()}
    answers, probs = answer_of(rows["0"])
    assert answers["finding", "Edema"] == (rows["0"]["labels"][4]["pred"], True) and 0 < probs[("finding", "Edema"), "prob"] < 1
    other = {**rows["1"], "labels": [{**label, "pred": 1 - label["pred"]} for label in rows["1"]["labels"]]}
    changed = {**rows, "1": other}
    assert difference(rows, rows, {})["different"] == []
    assert difference(rows, changed, {})["different"] == ["1"]
