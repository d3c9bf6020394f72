"""Core and evidence at toy size on a tiny model: that they measure what they say, not how fast that is."""

from dataclasses import replace

from engine.benchmarks import alone
from engine.benchmarks.config import CORE, EVIDENCE
from engine.models.base import ModelSpec, load
from engine.models.options import with_options, without_evidence
from engine.models.run import records_of


def test_compute_core_and_evidence(config, tmp_path):
    rows = alone.compute_core(config, tmp_path, print) + alone.evidence_price(config, tmp_path, print)
    assert [(row.part, row.kind, row.target) for row in rows] == [
        (CORE, "at least", 3.0),
        (CORE, None, None),
        (EVIDENCE, "at most", 2.2),
        (EVIDENCE, "at most", 3.4),
    ]
    assert all(row.figure > 0 and row.rival_figure > 0 for row in rows)
    assert "fp32, batch" in rows[0].rival and "bf16, batch" in rows[1].rival
    assert [row.measured for row in rows[2:]] == ["evidence for 1 task: site", "evidence for 2 tasks: site, histology"]


def test_a_system_that_says_nothing_of_its_own_is_measured_without_a_target(of_entities, tmp_path):
    rows = alone.compute_core(of_entities, tmp_path, print) + alone.evidence_price(of_entities, tmp_path, print)
    assert [(row.part, row.kind, row.target) for row in rows] == [(CORE, None, None)] * 2 + [(EVIDENCE, None, None)]
    assert rows[2].measured == "evidence" and all(row.figure > 0 and row.rival_figure > 0 for row in rows)


def test_a_system_without_encoder_and_evidence_has_nothing_to_compare(config, tmp_path):
    said: list[str] = []
    plain = replace(config, model=ModelSpec("tests.toys.plain"))
    assert alone.compute_core(plain, tmp_path, said.append) == alone.evidence_price(plain, tmp_path, said.append) == []
    assert said == [
        "core: left out, the system has no encoder that a pipeline could have too",
        "evidence: left out, the system gives none",
    ]


def test_without_evidence_there_is_none(spec, entities):
    records = records_of("a", ["carcinoma of the left breast"])
    assert alone.code(load(spec), records)["site_evidence"][0].as_py()
    assert not alone.code(load(without_evidence(spec)), records)["site_evidence"][0].as_py()
    assert without_evidence(entities).options == {"precision": "fp32", "evidence": "none"}
    assert not load(without_evidence(with_options(entities, every=True, spans=1))).options.every
    assert without_evidence(ModelSpec("tests.toys.plain")) == ModelSpec("tests.toys.plain")
