"""CSV and TSV as they come out of people's systems."""

import errno

import pytest

from engine.errors import ConfigError, InputChanged, RetryableError
from engine.sources import InputConfig, cut, list_files, read
from engine.storage import LocalStorage

SIZES = pytest.mark.parametrize("shard_bytes", [1, 40, 1 << 20])


@SIZES
def test_text_comes_out_exactly_as_it_stands(tmp_path, load, shard_bytes):
    (tmp_path / "a.csv").write_bytes(
        'id,text,ward\r\n1,"two\r\nlines, ""quoted""",A\r\n2,  double  blanks ,\n3,é🎗\x00x,B'.encode()
    )
    loaded = load(tmp_path / "a.csv", shard_bytes, id="id", keep=["ward"])
    assert loaded.texts == ['two\r\nlines, "quoted"', "  double  blanks ", "é🎗\x00x"]
    assert loaded.ids == ["1", "2", "3"]
    assert [row["keep"]["ward"] for row in loaded.rows] == ["A", "", "B"]


@SIZES
def test_a_broken_row_costs_itself_only(tmp_path, load, shard_bytes):
    lines = [b"id,text", b"1,fine", b"2", b"3,too,many", b'4,"open', b"5,bad \xff byte", b"6,", b",no id", b'7,"last"']
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    loaded = load(tmp_path / "a.csv", shard_bytes, id="id")
    assert loaded.failures == [
        None,
        ("parse_error", "fields=1 expected=2"),
        ("parse_error", "fields=3 expected=2"),
        ("parse_error", "quote"),
        ("invalid_encoding", ""),
        ("missing_text", ""),
        ("parse_error", "missing_id"),
        None,
    ]
    assert loaded.ids == ["1", "a.csv:1", "a.csv:2", "a.csv:3", "5", "6", "a.csv:6", "7"]
    assert loaded.places == [("a.csv", i) for i in range(8)]


def test_an_open_quote_does_not_swallow_a_thousand_rows(tmp_path, load):
    rows = [f"{i},report {i}" for i in range(1000)]
    (tmp_path / "a.csv").write_text('id,text\nx,"open\n' + "\n".join(rows))
    loaded = load(tmp_path / "a.csv", 5000, id="id", max_bytes=100)
    assert loaded.texts == [None, *(f"report {i}" for i in range(1000))]


def test_a_large_text_fails_alone_with_its_id(tmp_path, load):
    big = '"' + "line, one\n" * 500_000 + '"'
    (tmp_path / "a.csv").write_text(f"id,text\n1,a\n2,{big}\n3,c\n")
    loaded = load(tmp_path / "a.csv", id="id")
    assert loaded.ids == ["1", "2", "3"]
    assert loaded.failures == [None, ("too_large", "bytes=5000000"), None]


def test_an_endless_line_fails_alone(tmp_path, load):
    (tmp_path / "a.csv").write_bytes(b"id,text\n1," + b"x" * 3_000_000 + b"\n2,b\n")
    loaded = load(tmp_path / "a.csv", id="id", max_bytes=1000)
    assert loaded.failures == [("too_large", "bytes=3000003"), None]


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", b"\xef\xbb\xbfid,text\n1,\xc3\xbc\n"),
        ("utf-8-sig", b"\xef\xbb\xbfid,text\n1,\xc3\xbc\n"),
        ("utf-8-sig", b"id,text\n1,\xc3\xbc\n"),
        ("cp1252", b"id,text\n1,\xfc\n"),
        ("latin-1", b"id,text\r1,\xfc\r"),
        ("gb18030", "id,text\n1,ü\n".encode("gb18030")),
    ],
)
def test_encodings(tmp_path, load, encoding, data):
    (tmp_path / "a.csv").write_bytes(data)
    loaded = load(tmp_path / "a.csv", id="id", encoding=encoding)
    assert (loaded.ids, loaded.texts) == (["1"], ["ü"])


def test_a_byte_that_cp1252_does_not_know_fails_its_row(tmp_path, load):
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,a\x81b\n2,c\n")
    assert load(tmp_path / "a.csv", id="id", encoding="cp1252").failures == [("invalid_encoding", ""), None]


def test_the_wrong_encoding_for_the_whole_input_is_refused(tmp_path, load):
    (tmp_path / "a.csv").write_bytes("id,text\n1,a\n".encode("utf-16"))
    with pytest.raises(ConfigError, match="first line of the input is not utf-8"):
        load(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="cannot be read in utf-16"):
        load(tmp_path / "a.csv", encoding="utf-16")


def test_a_garbage_file_among_good_ones_is_one_failed_record(tmp_path, load):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00garbage\n" * 50)
    (tmp_path / "b.csv").write_text("id,text\n1,a\n")
    loaded = load(tmp_path, id="id")
    assert loaded.ids == ["a.csv", "1"]
    assert loaded.failures == [("unreadable_file", "header"), None]


def test_delimiters(tmp_path, load):
    (tmp_path / "a.tsv").write_text("id\ttext\n1\ta, b\n")
    (tmp_path / "b.tsv").write_text("id;text\n1;a\tb\n")
    assert load(tmp_path / "a.tsv").texts == ["a, b"]
    assert load(tmp_path / "b.tsv", delimiter=";").texts == ["a\tb"]


def test_files_without_records_are_shards_without_rows(tmp_path, load):
    (tmp_path / "a.csv").write_text("id,text\n")
    (tmp_path / "b.csv").write_text("")
    loaded = load(tmp_path)
    assert [shard.rows for shard in loaded.shards] == [0]
    assert [piece.source for piece in loaded.shards[0].slices] == ["a.csv", "b.csv"]


def test_a_missing_column_in_any_file_is_refused(tmp_path, load):
    (tmp_path / "a.csv").write_text("id,text\n1,a\n")
    (tmp_path / "b.csv").write_text("id,report\n1,a\n")
    with pytest.raises(ConfigError, match=r"b.csv has no column 'text'; it has: id, report"):
        load(tmp_path)


def test_a_file_that_changed_since_the_plan_stops_the_run(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,a\n")
    storage, config = LocalStorage(), InputConfig(str(path), None)
    files = list_files(config, storage)
    shards = list(cut(config, storage, files, 100))
    path.write_text("id,text\n1,b\n2,c\n")
    with pytest.raises(InputChanged, match=r"a\.csv"):
        read(config, storage, shards[0], [])
    with pytest.raises(InputChanged, match=r"a\.csv"):
        list(cut(config, storage, files, 100))


class Locked(LocalStorage):
    """Storage whose files cannot be opened."""

    def __init__(self, number: int) -> None:
        self.number = number

    def open(self, path, expect=None):
        raise OSError(self.number, "canary")


def test_a_file_that_may_not_be_opened_is_one_failed_record(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,a\n")
    storage, config = Locked(errno.EACCES), InputConfig(str(path), None)
    (shard,) = cut(config, storage, list_files(config, storage), 100)
    assert read(config, storage, shard, [])["failure"].to_pylist() == [{"kind": "unreadable_file", "detail": "PermissionError"}]
    path.write_text("id,text\n1,mended\n")
    with pytest.raises(InputChanged):
        read(config, LocalStorage(), shard, [])


def test_a_file_that_was_fine_at_planning_and_cannot_be_opened_now_is_tried_again(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text\n1,a\n")
    config = InputConfig(str(path), None)
    (shard,) = cut(config, LocalStorage(), list_files(config, LocalStorage()), 100)
    with pytest.raises(RetryableError, match="same command again"):
        read(config, Locked(errno.EIO), shard, [])
