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
    broken = [b"2", b"3,too,many", b"5,bad \xff byte", b"6,", b",no id", b'"7","last"', b'4,"open']
    good = [b"%d,fine" % i for i in range(100, 130)]
    lines = [b"id,text", *(line for each in broken for line in (*good, each))]
    data = b"\n".join(lines)
    (tmp_path / "a.csv").write_bytes(data)
    loaded = load(tmp_path / "a.csv", shard_bytes, id="id")
    assert loaded.failures[30::31] == [
        ("parse_error", "fields=1 expected=2"),
        ("parse_error", "fields=3 expected=2"),
        ("invalid_encoding", ""),
        ("missing_text", ""),
        ("parse_error", "missing_id"),
        None,
        ("parse_error", f"quote, from byte {len(data) - 7} on"),
    ]
    assert loaded.ids[30::31] == ["a.csv:30", "a.csv:61", "5", "6", "a.csv:154", "7", "a.csv:216"]
    assert loaded.texts.count("fine") == 7 * 30
    assert loaded.places == [("a.csv", i) for i in range(7 * 31)]


def test_an_open_quote_among_plain_rows_costs_the_rows_that_could_be_its_text(tmp_path, load):
    rows = [f"{i},report {i}" for i in range(3000)]
    (tmp_path / "a.csv").write_text('id,text\nx,"open\n' + "\n".join(rows))
    loaded = load(tmp_path / "a.csv", 5000, id="id", max_bytes=100)
    assert loaded.texts == [None, *(f"report {i}" for i in range(1000, 3000))]


REPORT = "SPECIMEN: Left breast, core\n7,a line like a record\nGRADE: 2, {}\n"


def quoted(numbers):
    return "".join(f'{i},"{REPORT.format(i)}",A\n' for i in numbers)


@SIZES
@pytest.mark.parametrize(
    ("torn", "lost"),
    [
        (f'x,"3" mass {REPORT}",A\n', 1),
        (f'x,"mass 3"\n{REPORT}",A\n', 1),
        (f'x,"{REPORT},A\n', 2),
        (f'x,{REPORT}",A\n', 2),
        (f'x,"A",{REPORT}",A\n', 1),
        (f"x,{REPORT},A\n", 2),
    ],
)
def test_a_torn_report_costs_itself_and_at_most_a_neighbour(tmp_path, load, shard_bytes, torn, lost):
    (tmp_path / "a.csv").write_text(f"id,text,ward\n{quoted(range(100))}{torn}{quoted(range(100, 200))}")
    loaded = load(tmp_path / "a.csv", shard_bytes, id="id", keep=["ward"])
    assert [failure[0] for failure in loaded.failures if failure] == ["parse_error"]
    assert set(loaded.ids) - {str(i) for i in range(200)} == {row["record_id"] for row in loaded.rows if row["failure"]}
    assert all(text is None or text == REPORT.format(name) for name, text in zip(loaded.ids, loaded.texts, strict=True))
    assert 201 - lost <= len(loaded.ids) <= 201
    (at,) = [i for i, failure in enumerate(loaded.failures) if failure]
    assert loaded.ids[at] == f"a.csv:{at}" and at in (99, 100)


def test_the_rest_of_a_torn_file_is_one_failed_row_that_says_from_where(tmp_path, load):
    start = f"id,text,ward\n{quoted(range(100))}"
    (tmp_path / "a.csv").write_text(start + 'x,"open\n' + REPORT * 50)
    loaded = load(tmp_path / "a.csv", 500, id="id")
    assert loaded.ids == [*(str(i) for i in range(100)), "a.csv:100"]
    assert loaded.failures[-1] == ("parse_error", f"quote, from byte {len(start)} on")


def refusal(tmp_path, load, data, **settings):
    (tmp_path / "a.csv").write_text(data)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "a.csv", id="id", **settings)
    message = str(caught.value)
    assert "\n" not in message and "breast" not in message
    return message


ESCAPED = "id,text\n" + "".join(f'{i},"SPECIMEN: Left breast\nfoo, bar\n\\"well\\", he said\n"\n' for i in range(4))


def test_escaped_quotes_are_refused_with_the_setting_that_reads_them(tmp_path, load):
    message = refusal(tmp_path, load, ESCAPED)
    assert message.startswith("input.path: a.csv, line 2: ") and "'input.escape=\\'" in message
    loaded = load(tmp_path / "a.csv", 1, id="id", escape="\\")
    assert loaded.ids == ["0", "1", "2", "3"]
    assert set(loaded.texts) == {'SPECIMEN: Left breast\nfoo, bar\n"well", he said\n'}


def test_one_escaped_quote_among_the_first_records_is_enough(tmp_path, load):
    rows = [f'{i},"Left breast, {i}"' for i in range(90)]
    rows[70] = '70,"a 3\\" mass, Left breast"'
    assert "a.csv, line 72: " in refusal(tmp_path, load, "\n".join(["id,text", *rows]))


@pytest.mark.parametrize(
    ("rows", "line", "words"),
    [
        (['1,"a"', '2,"breast', "3,b", "4,c"], 3, "the record that begins there, of 2 fields"),
        (['1,mass of 5"', '2,mass of 6"'], 2, "input.quoting=none"),
        (["1,Left breast", "core", "2,Left breast", "biopsy"], 3, "2 fields expected, 1 found"),
        ([f"{i},Left breast, core" for i in range(9)], 2, "2 fields expected, 3 found"),
        (["1;Left breast", "2;Right breast", "3;Left breast, core"], 2, "input.delimiter"),
        (['1,"3" breast"', *(f'{i},"breast"' for i in range(9)), '2,"3" breast"'], 2, "input.escape"),
    ],
)
def test_first_records_that_do_not_fit_are_refused_by_their_line(tmp_path, load, rows, line, words):
    message = refusal(tmp_path, load, "\n".join(["id,text", *rows]))
    assert f"a.csv, line {line}: " in message and words in message


def test_lines_are_counted_whatever_ends_them(tmp_path, load):
    for end in ("\n", "\r\n", "\r"):
        (tmp_path / "a.csv").write_bytes(end.join(["id,text", '1,"a', 'b"', "2", "3", "4,c"]).encode())
        with pytest.raises(ConfigError, match="line 4: 2 fields expected, 1 found"):
            load(tmp_path / "a.csv", id="id")


def test_one_odd_record_among_the_first_is_a_failed_row(tmp_path, load):
    (tmp_path / "a.csv").write_text('id,text\n1,a\n2\n3,c\n4,"open')
    loaded = load(tmp_path / "a.csv", id="id")
    assert loaded.ids == ["1", "a.csv:1", "3", "a.csv:3"]


def test_quotes_as_characters_like_any_other(tmp_path, load):
    (tmp_path / "a.tsv").write_text('id\ttext\n1\t"Left" breast, 5"\n2\t"\n3\tC:\\x\ty\n')
    loaded = load(tmp_path / "a.tsv", 1, id="id", quoting="none", escape=None)
    assert loaded.texts == ['"Left" breast, 5"', '"', None]
    assert loaded.failures[2] == ("parse_error", "fields=3 expected=2")
    loaded = load(tmp_path / "a.tsv", 1, id="id", quoting="none", escape="\\")
    assert loaded.failures[2] == ("parse_error", "fields=3 expected=2")


def test_inches_and_quoted_words_in_a_file_without_quoted_fields(tmp_path, load):
    (tmp_path / "a.csv").write_text('id,text\n1,5" tall\n2,so "called" cyst\n3,said "well"\n')
    assert load(tmp_path / "a.csv", 1, id="id").texts == ['5" tall', 'so "called" cyst', 'said "well"']


@SIZES
def test_row_names_of_r_are_left_out(tmp_path, load, shard_bytes):
    rows = [f'"{i}","A{i}","left, core"' for i in range(1, 300)]
    (tmp_path / "a.csv").write_text("\n".join(['"id","text"', *rows, '"A300","one less"', '"301","A301","x","one more"']))
    loaded = load(tmp_path / "a.csv", shard_bytes, id="id")
    assert loaded.ids == [*(f"A{i}" for i in range(1, 300)), "a.csv:299", "a.csv:300"]
    assert set(loaded.texts[:-2]) == {"left, core"}
    assert [failure[1] for failure in loaded.failures[-2:]] == ["fields=2 expected=3", "fields=4 expected=3"]
    (tmp_path / "a.csv").write_text("id,text\n1,A1,left\n2,A2,right\n")
    assert load(tmp_path / "a.csv", 1, id="id").ids == ["A1", "A2"]


def test_texts_with_a_comma_are_not_taken_for_row_names(tmp_path, load):
    refusal(tmp_path, load, "id,text\n1,left breast, core\n2,right breast, core\n")
    refusal(tmp_path, load, "id,text\n7,left,core\n8,right,core\n")
    (tmp_path / "a.csv").write_text("id,text\n1,left,core\n")
    assert load(tmp_path / "a.csv", id="id").failures == [("parse_error", "fields=3 expected=2")]


@SIZES
def test_a_comma_behind_every_record_is_left_out(tmp_path, load, shard_bytes):
    rows = [f"{i},left {i}," for i in range(150)]
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *rows, "150,left,core", "151,left"]))
    loaded = load(tmp_path / "a.csv", shard_bytes, id="id")
    assert loaded.texts == [*(f"left {i}" for i in range(150)), None, None]
    assert [failure[1] for failure in loaded.failures[-2:]] == ["fields=3 expected=2", "fields=2 expected=3"]


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
