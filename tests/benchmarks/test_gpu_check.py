"""How answers are compared, and what stands for a machine without memory; no GPU and no model."""

import gzip

import pyarrow as pa
import pytest
import torch

from engine.benchmarks import gpu_check
from engine.benchmarks.gpu_check import Exhausted, answer_of, difference, key_of

CODED = {"decision": "auto", "site_code": "C50", "site_prob": 0.9, "site_decision": "auto", "n_tokens": 7, "failure": None}
SPAN = {"type": "Cancer", "start": 3, "end": 9, "score": 0.8, "start_score": 0.9, "end_score": 0.7, "match_score": None}
FOUND = {"decision": "auto", "entities": [SPAN, {**SPAN, "start": 20, "end": 24}], "failure": None}


def same(row, other, *unsure):
    """Whether no difference is found, and how far probabilities are apart."""
    found = difference({"a": row}, {"a": other}, {"a": set(unsure)} if unsure else {})
    assert found["rows"] == 1 and found["near"] == bool(unsure) and found["beyond"] == (found["largest"] > 0.02)
    return not found["different"], found["near_differing"], pytest.approx(found["largest"])


def test_what_of_a_row_is_its_answer():
    sure, prob = answer_of(CODED)
    assert sure == {"decision": "auto", "site_code": "C50", "site_decision": "auto", "failure": None}
    assert prob == {("site_code", "prob"): 0.9}
    sure, prob = answer_of({**FOUND, "entities": [SPAN]})
    span = ("Cancer", 3, 9)
    assert sure == {"decision": "auto", span: True, "failure": None}
    assert prob == {(span, "score"): 0.8, (span, "start_score"): 0.9, (span, "end_score"): 0.7}
    assert key_of(["Cancer", 3, 9]) == span and key_of("site_code") == "site_code"
    blank = {**dict.fromkeys(CODED), "failure": {"kind": "missing_text", "detail": ""}}
    assert answer_of(blank)[0]["failure"] == "missing_text" and answer_of(blank)[1] == {}


@pytest.mark.parametrize("changed", [{"site_code": "C34"}, {"site_decision": "review"}, {"decision": "review"}])
def test_a_wrong_code_or_decision_is_found(changed):
    assert same(CODED, {**CODED, **changed}) == (False, 0, 0.0)
    # Only what is unsure itself is let pass.
    assert same(CODED, {**CODED, **changed}, "histology_code") == (False, 0, 0.0)
    assert same(CODED, {**CODED, **changed}, *changed) == (True, 1, 0.0)


def test_a_row_that_fails_is_found():
    assert same(CODED, {**CODED, "failure": {"kind": "model_error", "detail": "x"}}) == (False, 0, 0.0)


def test_probabilities_are_told_apart_where_they_are_sure():
    assert same(CODED, {**CODED, "site_prob": 0.87}) == (True, 0, 0.03)
    assert same(CODED, {**CODED, "site_prob": 0.87}, "site_code") == (True, 0, 0.0)
    assert same(FOUND, {**FOUND, "entities": [{**SPAN, "end_score": 0.75}, FOUND["entities"][1]]}) == (True, 0, 0.05)


@pytest.mark.parametrize("entities", [[SPAN], [*FOUND["entities"], {**SPAN, "start": 4}], [SPAN, {**SPAN, "type": "Disease"}]])
def test_a_span_too_few_too_many_or_of_another_type_is_found(entities):
    assert same(FOUND, {**FOUND, "entities": entities}) == (False, 0, 0.0)
    spans = [("Cancer", 20, 24), ("Cancer", 4, 9), ("Disease", 3, 9)]
    assert same(FOUND, {**FOUND, "entities": entities}, *spans) == (True, 1, 0.0)


class Rows:
    """A system whose run gives back what it gets."""

    table = "rows"

    def run(self, prepared):
        return prepared


def test_memory_that_runs_out_is_made_and_counted():
    system = Exhausted(Rows())
    rows = pa.table({"row": [0, 1, 2, 3]})
    assert system.run(rows) is rows and system.table == "rows" and system.times == 0
    system = Exhausted(Rows(), most=2, never=3)
    assert len(system.run(rows.slice(0, 2))) == 2
    for part in (rows.slice(0, 3), rows.slice(3)):
        with pytest.raises(torch.OutOfMemoryError):
            system.run(part)
    assert system.times == 2


def test_packed_weights_are_unpacked_once(tmp_path):
    (tmp_path / "encoder_0").mkdir()
    packed = tmp_path / "encoder_0" / "model.safetensors.gz"
    packed.write_bytes(gzip.compress(b"weights"))
    for _ in range(2):
        gpu_check.unpack(tmp_path)
        assert packed.with_suffix("").read_bytes() == b"weights"
        packed.write_bytes(b"not looked at again")
    assert sorted(path.name for path in packed.parent.iterdir()) == ["model.safetensors", packed.name]


def test_what_failed_is_seen_in_the_lines():
    found = {"rows": 8, "different": ["a"], "largest": 0.25, "near": 2, "near_differing": 1, "compared": 9, "beyond": 3}
    found |= {"tokens_a_second": 1234.5, "share_of_peak": 0.5, "evidence_costs": 2, "memory_mib": 9}
    assert gpu_check.lines("toy", found | {"checks": {"answers": False, "x": True}}) == [
        "toy:",
        "  8 texts, 1 different; 2 with something near a threshold, of which 1 differ in that; "
        "9 probabilities within 0.2500, 3 beyond 0.02",
        "  1,234 tokens of text a second, 50.0% of the matrix peak, with evidence 2.00 times as long, 9 MiB at most",
        "  FAILED  answers",
        "  ok      x",
    ]
