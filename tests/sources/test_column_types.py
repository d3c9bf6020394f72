"""Columns passed through: which types hold which values, and what NaN becomes."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.sources.column_types import (
    always_fits,
    cast_column,
    common_type,
    may_fit,
    result_type,
    survives_cast,
    value_type,
    without_nan,
)

NAN = float("nan")
EVERY = [
    *(pa.int8(), pa.uint64(), pa.int64(), pa.float16(), pa.float64(), pa.decimal128(5, 2), pa.decimal256(50, 0), pa.bool_()),
    *(pa.date32(), pa.date64(), pa.timestamp("ns"), pa.timestamp("s", tz="UTC"), pa.time32("s"), pa.time64("ns")),
    *(pa.duration("s"), pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.binary(16), pa.null()),
    *(pa.list_(pa.int8()), pa.large_list(pa.float64()), pa.list_(pa.int8(), 2), pa.map_(pa.string(), pa.int8())),
    *(pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int16()), ("b", pa.string())]), pa.list_(pa.null())),
]


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_a_type_that_holds_another_can_be_cast_from_it(kind):
    held = [other for other in EVERY if always_fits(other, kind)]
    assert kind in held and pa.null() in held
    assert all(pa.array([], other).cast(kind).type == kind for other in held)


@pytest.mark.parametrize(
    ("kind", "other", "always", "ever"),
    [
        (pa.int64(), pa.int32(), True, True),
        (pa.int32(), pa.int64(), False, True),
        (pa.int64(), pa.uint32(), True, True),
        (pa.int64(), pa.uint64(), False, True),
        (pa.uint64(), pa.int8(), False, True),
        (pa.int64(), pa.null(), True, True),
        (pa.string(), pa.large_string(), True, True),
        (pa.large_string(), pa.string(), True, True),
        (pa.string(), pa.float64(), True, True),
        (pa.string(), pa.binary(), False, True),
        (pa.string(), pa.duration("s"), False, True),
        (pa.binary(), pa.string(), True, True),
        (pa.int64(), pa.float64(), False, True),
        (pa.decimal128(5, 2), pa.int64(), False, True),
        (pa.timestamp("us"), pa.timestamp("ns"), False, True),
        (pa.timestamp("us"), pa.date32(), False, True),
        (pa.timestamp("us", tz="UTC"), pa.timestamp("us", tz="Europe/Berlin"), False, True),
        # Nobody said which zone the days of the one are in, nor since when the numbers count.
        (pa.timestamp("us", tz="UTC"), pa.timestamp("us"), False, False),
        (pa.timestamp("us"), pa.int64(), False, False),
        (pa.duration("s"), pa.int64(), False, False),
        (pa.int64(), pa.bool_(), False, False),
        (pa.bool_(), pa.int64(), False, False),
        (pa.list_(pa.string()), pa.list_(pa.null()), True, True),
        (pa.list_(pa.int64()), pa.list_(pa.int8()), True, True),
        (pa.list_(pa.timestamp("s")), pa.list_(pa.int64()), False, False),
        (pa.list_(pa.int64()), pa.int64(), False, False),
        (pa.struct([("a", pa.int8()), ("b", pa.string())]), pa.struct([("a", pa.int8())]), True, True),
        (pa.struct([("a", pa.int8())]), pa.struct([("a", pa.int8()), ("b", pa.string())]), False, False),
    ],
    ids=str,
)
def test_which_types_hold_which(kind, other, always, ever):
    assert (always_fits(other, kind), always or may_fit(other, kind)) == (always, ever)


@pytest.mark.parametrize(
    ("array", "kind", "preserved"),
    [
        (pa.array([1, None, -128]), pa.int8(), True),
        (pa.array([1, None, 128]), pa.int8(), False),
        (pa.array([1.0, None]), pa.int32(), True),
        (pa.array([1.5, None]), pa.int32(), False),
        (pa.array([float("inf")]), pa.int32(), False),
        (pa.array([2**53]), pa.float64(), True),
        (pa.array([2**53 + 1]), pa.float64(), False),
        (pa.array([0.5]), pa.float32(), True),
        (pa.array([0.1]), pa.float32(), False),
        (pa.array([1, 999]), pa.decimal128(5, 2), True),
        (pa.array([1, 1000]), pa.decimal128(5, 2), False),
        (pa.array([0.25, 0.1]), pa.decimal128(5, 2), True),
        (pa.array([0.125]), pa.decimal128(5, 2), False),
        (pa.array([1000], pa.timestamp("ns")), pa.timestamp("us"), True),
        (pa.array([1001], pa.timestamp("ns")), pa.timestamp("us"), False),
        (pa.array([86_400_000_000], pa.timestamp("us")), pa.date32(), True),
        (pa.array([86_400_000_001], pa.timestamp("us")), pa.date32(), False),
        (pa.array(["1", "12"]), pa.int64(), True),
        (pa.array(["01"]), pa.int64(), False),
        (pa.array(["canary"]), pa.int64(), False),
        (pa.array([b"\xff"]), pa.string(), False),
        (pa.array([[1], None, [2, None]]), pa.list_(pa.int8()), True),
        (pa.array([[1], None, [200]]), pa.list_(pa.int8()), False),
        (pa.array([[1], [2, 3]]), pa.string(), False),
        (pa.array([1], pa.duration("s")), pa.string(), False),
    ],
    ids=str,
)
def test_a_value_is_preserved_or_the_cast_is_none(array, kind, preserved):
    assert survives_cast(array, kind) == preserved


@given(st.lists(st.none() | st.floats(width=32) | st.integers(-(2**60), 2**60).map(float)), st.sampled_from(EVERY[:7]))
def test_what_is_preserved_is_equal(values, kind):
    array = without_nan(pa.array(values, pa.float64()))
    if survives_cast(array, kind):
        cast = cast_column(array, pa.field("x", kind)).to_pylist()
        wanted = [None if value is None or math.isnan(value) else value for value in values]
        assert [None if value is None else float(value) for value in cast] == wanted


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (pa.array([1.0, NAN, None]), [1.0, None, None]),
        (pa.array([1.0, NAN, None], pa.float16()), [1.0, None, None]),
        (pa.array([[1.0, NAN], None, [], [NAN]]), [[1.0, None], None, [], [None]]),
        (pa.array([[1.0, NAN], None, []], pa.large_list(pa.float32())), [[1.0, None], None, []]),
        (pa.array([[1.0, NAN], None], pa.list_(pa.float32(), 2)), [[1.0, None], None]),
        (pa.array([{"a": NAN, "b": "x"}, None]), [{"a": None, "b": "x"}, None]),
        (pa.array([{"a": [{"z": NAN}]}, {"a": None}]), [{"a": [{"z": None}]}, {"a": None}]),
        (pa.array([[("a", NAN)], None], pa.map_(pa.string(), pa.float64())), [[("a", None)], None]),
        (pa.array(["nan", None]), ["nan", None]),
    ],
    ids=str,
)
def test_nan_is_null_at_any_depth_of_any_slice(array, wanted):
    twice = pa.concat_arrays([array, array])
    for start in range(len(twice)):
        clean = without_nan(twice.slice(start))
        clean.validate(full=True)
        assert (clean.type, clean.to_pylist()) == (array.type, [*wanted, *wanted][start:])


def test_packed_types_are_unpacked_at_any_depth_and_null_becomes_text_at_last():
    packed = pa.struct([pa.field("a", pa.list_(pa.dictionary(pa.int8(), pa.string())), nullable=False), ("b", pa.null())])
    assert value_type(packed) == pa.struct([("a", pa.list_(pa.string())), ("b", pa.null())])
    assert result_type(value_type(packed)) == pa.struct([("a", pa.list_(pa.string())), ("b", pa.string())])


def test_null_gives_way_to_any_type():
    for kind in EVERY:
        assert common_type("x", pa.null(), kind) == common_type("x", kind, pa.null()) == kind


def test_a_column_without_values_is_null_in_any_type():
    for kind in EVERY:
        assert cast_column(pa.nulls(2, pa.string()), pa.field("x", kind)).equals(pa.nulls(2, kind))


def test_kept_values_that_do_not_fit_are_refused_without_being_quoted():
    with pytest.raises(ConfigError, match="'n' is string in one file, int64 in another") as caught:
        cast_column(pa.array(["canary"]), pa.field("n", pa.int64()))
    assert "canary" not in str(caught.value) and caught.value.__suppress_context__
