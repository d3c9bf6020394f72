"""The models with which the site classifier is measured."""

import pytest

from engine.models.base import ModelSpec, load
from engine.models.run import records_of, system_of
from engine.models.site_classifier.benchmark import evidence, with_tasks

SYSTEM = "engine.models.site_classifier"


def code(spec, records):
    system = load(spec)
    return system.run(system.prepare(records))


def test_a_model_of_fewer_tasks_gives_the_same_answers(tiny, tmp_path):
    spec = ModelSpec(SYSTEM, str(tiny), {"precision": "fp32"})
    records = records_of("ab", ["carcinoma of the left breast", "the lung is clear"])
    part = code(with_tasks(spec, 1, tmp_path / "one"), records)
    assert "histology_code" not in part.column_names
    assert part["site_prob"].to_pylist() == pytest.approx(code(spec, records)["site_prob"].to_pylist(), abs=1e-6)


def test_evidence_has_a_price_for_one_task_and_for_two(tiny, tmp_path):
    contenders = evidence(ModelSpec(SYSTEM, str(tiny), {"precision": "fp32"}), tmp_path)
    assert {name: price for name, (_, price) in contenders.items()} == {
        "evidence for 1 task: site": 2.2,
        "evidence for 2 tasks: site, histology": 3.4,
    }
    assert [len(system_of(spec).known()) for spec, _ in contenders.values()] == [1, 2]
