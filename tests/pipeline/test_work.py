import pyarrow as pa
import pytest

from engine.errors import ContractError
from engine.models import run
from engine.models.base import ModelSpec
from engine.models.rows import finish, nan_rows
from engine.pipeline import work
from engine.records import EVIDENCE, FAILURE
from tests.toys.plain import Plain


def coded(one) -> dict[str, dict]:
    tables = [work.code(one.job, one.system, planned.shard) for planned in one.plan.shards]
    return {row["record_id"]: row for row in pa.concat_tables(tables).to_pylist()}


def test_one_row_a_record_with_the_answers_of_its_own_text(bench):
    found = coded(bench({"a": "x", "b": "xx", "c": "xxx"}))
    assert [found[name]["n_tokens"] for name in "abc"] == [1, 2, 3]
    assert [found[name]["decision"] for name in "abc"] == ["auto", "auto", "review"]


@pytest.mark.parametrize("stage", ["prepare", "run"])
def test_a_record_that_raises_fails_alone(bench, stage):
    found = coded(bench({"a": "x", "b": "RAISENOW", "c": "xxx", "d": "y", "e": "z"}, options={"stage": stage}))
    assert found["b"]["failure"] == {"kind": "model_error", "detail": "ValueError"}
    assert found["b"]["decision"] == "failed" and found["b"]["reasons"] == []
    assert found["b"]["site_code"] is None and found["b"]["site_reasons"] is None
    assert [name for name, row in found.items() if row["failure"]] == ["b"]


def test_failures_of_source_and_prepare_keep_their_kind(bench):
    found = coded(bench({"a": "", "b": "TOOLARGE", "c": "xxx"}))
    assert [found[name]["failure"] and found[name]["failure"]["kind"] for name in "abc"] == ["missing_text", "too_large", None]


def test_a_shard_in_which_every_record_failed_still_has_its_rows(bench):
    found = coded(bench({"a": "", "b": " ", "c": "RAISENOW"}))
    assert {row["decision"] for row in found.values()} == {"failed"}


def test_a_nan_is_an_error_of_its_row(bench):
    found = coded(bench({"a": "x", "b": "NANNOW"}))
    assert found["b"]["failure"] == {"kind": "model_error", "detail": "NaN in site_prob"}
    assert found["a"]["failure"] is None


def test_nan_is_found_at_any_depth():
    evidence = [
        None,
        [],
        [{"start": 0, "end": 1, "score": 1.0, "weight": 1.0}],
        [{"start": 0, "end": 1, "score": float("nan"), "weight": 0}],
    ]
    table = pa.table({"row": pa.array([4, 5, 6, 7], pa.int32()), "e": pa.array(evidence, EVIDENCE)})
    assert nan_rows(table) == {7: "e"}


def test_memory_errors_are_told_by_name():
    class OutOfMemoryError(RuntimeError):
        pass

    assert run._failure(OutOfMemoryError())["kind"] == "out_of_memory"
    assert run._failure(MemoryError())["kind"] == "out_of_memory"
    assert run._failure(RuntimeError())["kind"] == "model_error"


class Lossy(Plain):
    def run(self, prepared: pa.Table) -> pa.Table:
        return super().run(prepared).slice(1)


class Doubling(Plain):
    def run(self, prepared: pa.Table) -> pa.Table:
        table = super().run(prepared)
        return pa.concat_tables([table, table])


class Broken(Plain):
    def run(self, prepared: pa.Table) -> pa.Table:
        raise RuntimeError("CANARYPHRASE")


@pytest.mark.parametrize(("system", "words"), [(Lossy, "other records"), (Doubling, "twice"), (Broken, "fails on any record")])
def test_a_system_that_breaks_its_promise_is_loud(bench, system, words):
    one = bench({"a": "x", "b": "xx"})
    one.system = system(ModelSpec("tests.toys.plain"))
    with pytest.raises(ContractError, match=words) as caught:
        coded(one)
    assert "CANARYPHRASE" not in str(caught.value)


def test_rows_are_joined_by_key_and_never_by_position(bench):
    one = bench({"a": "x", "b": "xx", "c": ""})
    meta, prepared = run.prepare(one.system, work.read_shard(one.job, one.plan.shards[0].shard))
    answers = run.answer(one.system, prepared, one.plan.keep)
    forward = finish(one.system, one.plan.keep, one.run_id, meta, answers)
    backward = finish(one.system, one.plan.keep, one.run_id, meta.take([2, 0, 1]), answers.take([1, 0]))
    assert forward.equals(backward)


def test_an_answer_for_a_record_that_failed_before_is_refused(bench):
    one = bench({"a": "x", "b": "xx"})
    meta, prepared = run.prepare(one.system, work.read_shard(one.job, one.plan.shards[0].shard))
    answers = run.answer(one.system, prepared, one.plan.keep)
    failed = pa.array([{"kind": "too_large", "detail": ""}, None], FAILURE)
    meta = meta.set_column(meta.column_names.index("failure"), meta.schema.field("failure"), failed)
    with pytest.raises(ContractError):
        finish(one.system, one.plan.keep, one.run_id, meta, answers)
