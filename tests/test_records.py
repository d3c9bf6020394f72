import hashlib

import pyarrow as pa
import pytest

from engine.errors import ConfigError, ContractError
from engine.records import check, codes_fields, in_share, records_schema, seed_of, table_schema, tasks_of, text_digest


def test_the_codes_table_begins_with_identity_and_decision_and_ends_with_kept_columns():
    names = table_schema(codes_fields(["site"]), [pa.field("hospital", pa.string())]).names
    assert names[:5] == ["record_id", "decision", "reasons", "phrases", "site_code"]
    assert names[-7:] == ["failure", "source", "position", "source_id", "run_id", "model_digest", "hospital"]


def test_tasks_are_told_by_the_columns():
    assert tasks_of(table_schema(codes_fields(["site", "histology"]))) == ["site", "histology"]
    kept = table_schema(codes_fields(["site"]), [pa.field("old_code", pa.string()), pa.field("old_decision", pa.string())])
    assert tasks_of(kept) == ["site"]


def test_a_kept_column_may_not_have_a_result_columns_name():
    with pytest.raises(ConfigError, match="'decision' is the name of a result column"):
        table_schema(codes_fields(["site"]), [pa.field("decision", pa.string())])


def test_check_takes_the_exact_schema_only():
    schema = pa.schema([pa.field("a", pa.int32(), nullable=False)])
    assert check(pa.table({"a": [1]}, schema=schema), schema).num_rows == 1
    with pytest.raises(ContractError, match="schema differs"):
        check(pa.table({"a": pa.array([1], pa.int64())}), schema)
    with pytest.raises(ContractError, match="nulls"):
        check(pa.Table.from_arrays([pa.array([None], pa.int32())], schema=schema), schema)


def test_kept_columns_travel_in_a_struct():
    assert records_schema([pa.field("h", pa.string())]).field("keep").type == pa.struct([pa.field("h", pa.string())])


def test_the_digest_is_of_the_utf8_bytes():
    assert text_digest("Ä") == hashlib.sha256(b"\xc3\x84").digest()


def test_seeds_depend_on_id_and_purpose_alone():
    assert seed_of("a", "mask") == seed_of("a", "mask")
    assert len({seed_of("a", "mask"), seed_of("a", "audit"), seed_of("b", "mask"), seed_of("am", "ask")}) == 4
    assert 0 <= seed_of("\ud800") < 2**63


def test_a_smaller_share_is_part_of_a_larger_one():
    small, large = ({name for name in map(str, range(300)) if in_share(name, share, "share", 7)} for share in (0.1, 0.5))
    assert small < large and 15 < len(small) < 50 and 120 < len(large) < 180
    assert not in_share("a", 0.0) and in_share("a", 1.0)
