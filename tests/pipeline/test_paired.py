"""A model that reads two texts finds the second one among the kept columns, on every way that a record can take."""

import json

import pytest

from engine.models.base import ModelSpec
from engine.models.run import probe
from engine.pipeline import RunConfig, isolate, work
from engine.sources import InputConfig
from tests.models.conftest import tiny_config, write_tiny
from tests.pipeline.conftest import Bench

QUESTIONS = {"a": "which organ", "b": "is it benign or malignant, and how large", "c": "which organ"}


@pytest.fixture
def paired(tmp_path):
    def made(keep=("question",), pair="question", questions=QUESTIONS):
        source = tmp_path / "in.jsonl"
        text = "Right hemicolectomy shows an invasive adenocarcinoma of the ascending colon."
        source.write_text("".join(json.dumps({"id": n, "text": text, "question": q}) + "\n" for n, q in questions.items()))
        model = write_tiny(tmp_path / "model", tiny_config(paired=True))
        spec = ModelSpec("engine.models.site_classifier", str(model), {"pair": pair, "method": "none"})
        return RunConfig(InputConfig(str(source), id="id", keep=keep), spec, str(tmp_path / "out"))

    return made


def probs(table):
    return {row["record_id"]: row["site_prob"] for row in table.to_pylist()}


def test_the_second_text_reaches_the_model(paired):
    bench = Bench(paired())
    probe(bench.system, bench.plan.keep)
    (shard,) = [planned.shard for planned in bench.plan.shards]
    table = work.code(bench.job, bench.system, shard)
    assert [row["failure"] for row in table.to_pylist()] == [None] * 3
    found = probs(table)
    assert found["a"] == pytest.approx(found["c"], abs=1e-6) and abs(found["a"] - found["b"]) > 1e-5
    assert table["question"].to_pylist() == list(QUESTIONS.values())


def test_also_in_a_child_process(paired):
    bench = Bench(paired())
    (shard,) = [planned.shard for planned in bench.plan.shards]
    _, answers = isolate.code_isolated(bench.job, shard)
    alone = {row["row"]: row["site_prob"] for row in answers.to_pylist()}
    together = probs(work.code(bench.job, bench.system, shard))
    assert list(alone.values()) == pytest.approx([together[name] for name in QUESTIONS], abs=1e-5)


def test_a_second_text_may_be_a_number(paired):
    bench = Bench(paired(questions={"a": 12, "b": 7, "c": None}))
    table = work.code(bench.job, bench.system, bench.plan.shards[0].shard)
    assert [row["failure"] and row["failure"]["kind"] for row in table.to_pylist()] == [None, None, "missing_text"]
