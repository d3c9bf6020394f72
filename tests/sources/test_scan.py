"""Where records begin and end, whatever part of the file is looked at."""

import io
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.sources.dialect import Dialect
from engine.sources.scan import byte_slices, csv_records, lines
from engine.storage import Entry

COMMA = Dialect(b",")


def csv_spans(data, longest=1000, start=0, stop=None, chunk=7):
    spans = csv_records(io.BytesIO(data), start, len(data) if stop is None else stop, COMMA, longest, chunk)
    return [span.error.detail if span.error else span.data for span in spans]


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b"", []),
        (b"a,b", [b"a,b\n"]),
        (b"a,b\r\nc,d\n", [b"a,b\r\n", b"c,d\n"]),
        (b"a\rb\r", [b"a\r", b"b\r"]),
        (b"a\n\n\r\nb\n", [b"a\n", b"b\n"]),
        (b'1,"x\ny"\n2,z\n', [b'1,"x\ny"\n', b"2,z\n"]),
        (b'1,"a ""b"", c"\r\n', [b'1,"a ""b"", c"\r\n']),
        (b'1,5" tall\n2,"" \n', [b'1,5" tall\n', b'2,"" \n']),
        (b'1,"open\n2,b\n', ["quote", b"2,b\n"]),
        (b'1,"open\n2,"shut"\n3,c\n', ["quote", b'2,"shut"\n', b"3,c\n"]),
        (b'1,"a"b"\n2,c\n', ["quote", b"2,c\n"]),
        (b'1,"open', ["quote"]),
        (b'"', ["quote"]),
    ],
)
def test_csv_records(data, records, chunk):
    assert csv_spans(data, chunk=chunk) == records


def test_an_open_quote_costs_one_line_even_where_no_other_quote_follows():
    tail = [b"%d,fine\n" % i for i in range(2, 500)]
    assert csv_spans(b'1,"open\n' + b"".join(tail), longest=200) == ["quote", *tail]


@pytest.mark.parametrize("chunk", [1, 10, 5000])
def test_a_record_longer_than_may_be_held_is_told_by_its_own_bytes(chunk):
    data = b"1," + b"x" * 500 + b"\n2,b\n"
    assert csv_spans(data, longest=100, chunk=chunk) == ["bytes=503", b"2,b\n"]
    data = b'1,"' + b"x\n" * 60 + b'"\n2,b\n'
    assert csv_spans(data, longest=100, chunk=chunk)[:2] == ["quote", b"x\n"]


def test_a_slice_read_alone_gives_what_the_scan_saw():
    data = b'1,"a\nb"\n2,"open\n3,x\n4,"shut"\n5,"""\n6,y\n7,"last'
    whole = list(csv_records(io.BytesIO(data), 0, len(data), COMMA, 1000))
    alone = [span for s in whole for span in csv_records(io.BytesIO(data), s.start, s.stop, COMMA, 1000)]
    assert [(s.start, s.stop, s.data, str(s.error)) for s in alone] == [(s.start, s.stop, s.data, str(s.error)) for s in whole]
    assert whole[0].start == 0 and whole[-1].stop == len(data)


@settings(max_examples=400)
@given(
    data=st.lists(st.sampled_from([b'"', b",", b"\n", b"\r", b'""', b" ", b"a", b"bb"]), max_size=40).map(b"".join),
    longest=st.integers(1, 30),
    chunk=st.integers(1, 50),
)
def test_any_bytes_give_the_same_records_however_they_are_cut_and_buffered(data, longest, chunk):
    def spans(start, stop, chunk):
        found = csv_records(io.BytesIO(data), start, stop, COMMA, longest, chunk)
        return [(s.start, s.stop, s.data, str(s.error)) for s in found]

    whole = spans(0, len(data), 1000)
    assert spans(0, len(data), chunk) == whole
    assert [span for start, stop, *_ in whole for span in spans(start, stop, chunk)] == whole
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(whole))
    between = b"".join(data[a[1] : b[0]] for a, b in itertools.pairwise([(0, 0), *whole, (len(data), len(data))]))
    assert not between.strip(b"\r\n")


@pytest.mark.parametrize(
    ("data", "records"),
    [
        (b"", []),
        (b"a\n\n  \r\nb", [b"a\n", b"b\n"]),
        (b"a\r\nb\n", [b"a\r\n", b"b\n"]),
        (b"a\n" + b"x" * 50 + b"\nb\n", [b"a\n", "bytes=51", b"b\n"]),
        (b"x" * 50, ["bytes=50"]),
        (b"\r", []),
    ],
)
def test_lines(data, records):
    spans = lines(io.BytesIO(data), 0, len(data), 20)
    assert [span.error.detail if span.error else span.data for span in spans] == records


def test_slices_join_records_up_to_the_size_and_never_split_one():
    data = b"aaaa\nbbbb\n\n" + b"c" * 30 + b"\ndd\n"
    spans = lines(io.BytesIO(data), 0, len(data), 100)
    slices = list(byte_slices(spans, "jsonl", Entry("f", len(data), "1"), "f", 0, 10))
    assert [(s.start, s.stop, s.position, s.rows) for s in slices] == [(0, 10, 0, 2), (11, 42, 2, 1), (42, 45, 3, 1)]


def test_no_records_make_one_empty_slice():
    (piece,) = byte_slices([], "csv", Entry("f", 8, "1"), "f", 8, 10)
    assert (piece.rows, piece.start, piece.stop) == (0, 8, 8)
