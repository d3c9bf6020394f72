"""Packed tables give the records of the plain ones, and damage costs what lies behind it."""

import gzip
import hashlib
import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError, InputChanged
from engine.sources import InputConfig, cut, keep_fields, list_files, read
from engine.sources.packed import CODECS, open_file
from engine.storage import LocalStorage, storage_for

PACKINGS = [".gz", ".zst"]


def packed(data, ending):
    if ending == ".gz":
        return gzip.compress(data)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def spoiled(data, ending):
    """Packed, and damaged so late that every byte of it can be unpacked."""
    whole = packed(data, ending)
    return whole[:-4] if ending == ".gz" else whole + b"garbage"


def unpacks(data, ending):
    try:
        with pa.CompressedInputStream(pa.BufferReader(bytes(data)), CODECS[ending]) as stream:
            return bool(stream.read())
    except OSError:
        return False


def lines(count, start=0):
    rows = ({"id": i, "text": f"report {i} " + "word " * (i * 7919 % 50)} for i in range(start, start + count))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def table(count):
    rows = "".join(f'{i},"report {i},\n' + "word " * (i * 7919 % 50) + '",h\r\n' for i in range(count))
    return b"\xef\xbb\xbfid,text,hospital\r\n" + rows.encode()


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.csv", table(500)),
        ("a.tsv", table(500).replace(b",", b"\t")),
        ("a.jsonl", lines(500)),
        ("a.NDJSON", lines(500)),
        ("a.csv", b""),
        ("a.csv", b"id,text\n"),
        ("a.jsonl", b"\n \n"),
    ],
)
@pytest.mark.parametrize("shard_bytes", [1, 2000, 1 << 20])
def test_a_packed_file_has_the_records_of_the_plain_one(tmp_path, load, name, data, packing, shard_bytes):
    (tmp_path / "plain").mkdir()
    (tmp_path / "packed").mkdir()
    (tmp_path / "plain" / name).write_bytes(data)
    (tmp_path / "packed" / (name + packing)).write_bytes(packed(data, packing))
    plain, found = load(tmp_path / "plain", id="id"), load(tmp_path / "packed", shard_bytes, id="id")
    assert found.texts == plain.texts and found.ids == plain.ids and found.failures == plain.failures
    assert [position for _, position in found.places] == [position for _, position in plain.places]
    assert {source for source, _ in found.places} <= {name + packing}
    if shard_bytes == 2000 and plain.rows:
        assert len(found.shards) > 5


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_stands_before_damage_is_read_and_the_rest_is_one_failed_record(tmp_path, load, packing):
    data = lines(3000)
    whole = packed(data, packing)
    (tmp_path / ("a.jsonl" + packing)).write_bytes(whole[: len(whole) * 2 // 3])
    for shard_bytes in (3000, 1 << 20):
        found = load(tmp_path, shard_bytes, id="id")
        sound = found.rows[:-1]
        assert 500 < len(sound) < 3000
        assert [row["record_id"] for row in sound] == [str(i) for i in range(len(sound))]
        assert not any(row["failure"] for row in sound)
        assert all(row["text"] == json.loads(line)["text"] for row, line in zip(sound, data.splitlines(), strict=False))
        last = found.rows[-1]
        assert (last["record_id"], last["position"]) == ("a.jsonl" + packing, len(sound))
        assert last["failure"]["kind"] == "unreadable_file" and last["failure"]["detail"].startswith("damaged after byte ")


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize(
    ("row", "tail"), [("{0},{0},report {0}\n", ""), ('"{0}",{0},"report {0}"\n', '"x",1,"a "torn" report"\nof many lines\n')]
)
def test_in_a_damaged_file_row_names_and_tears_are_what_they_are_in_a_plain_one(tmp_path, load, packing, row, tail):
    """Records that still wait for a proof, and a tear that has no end yet, are not lost to the damage behind them."""
    data = ("id,text\n" + "".join(row.format(i) for i in range(1, 151)) + tail).encode()
    (tmp_path / "a.csv").write_bytes(data)
    (tmp_path / f"a.csv{packing}").write_bytes(spoiled(data, packing))
    plain, found = load(tmp_path / "a.csv", id="id"), load(tmp_path / f"a.csv{packing}", id="id")
    assert found.texts[:150] == [f"report {i}" for i in range(1, 151)]
    assert found.failures == [*plain.failures, ("unreadable_file", f"damaged after byte {len(data)}")]
    assert ["from byte" in failure[1] for failure in found.failures[150:]] == ([True, False] if tail else [False])
    assert [position for _, position in found.places] == list(range(len(found.places)))


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_a_plain_file_is_refused_for_a_packed_one_is_too_unless_it_is_damaged(tmp_path, load, packing):
    data = b"id,text\n" + b'1,"a \\"small\\" one"\n' * 20
    path = tmp_path / f"a.csv{packing}"
    wrong = data.replace(b"text", b"word")
    for each, message in ((data, rf"a\.csv\{packing}, line 2: .*input\.escape="), (wrong, "no column 'text'")):
        path.write_bytes(packed(each, packing))
        with pytest.raises(ConfigError, match=message):
            load(path)
        path.write_bytes(spoiled(each, packing))
        assert load(path).failures[-1][0] == "unreadable_file"
    path.write_bytes(packed(data, packing))
    assert set(load(path, escape="\\").texts) == {'a "small" one'}


@settings(max_examples=60, deadline=None)
@given(packing=st.sampled_from(PACKINGS), at=st.floats(0, 1), lost=st.booleans(), shard_bytes=st.sampled_from([200, 1 << 20]))
def test_damage_anywhere_costs_no_exception_and_no_record_before_it(load, packing, at, lost, shard_bytes):
    whole = bytearray(packed(table(300), packing))
    at = int(at * (len(whole) - 1))
    if lost:
        del whole[at:]
    else:
        whole[at : at + 30] = b"\xff" * len(whole[at : at + 30])
        # Without a check, as Arrow writes Zstandard, some of it unpacks, and is another file.
        assume(not unpacks(whole, packing))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"a.csv{packing}").write_bytes(whole)
        found = load(folder, shard_bytes, id="id")
    if lost and at:
        assert found.failures[-1][0] == "unreadable_file"
        assert [row["record_id"] for row in found.rows[:-1]] == [str(i) for i in range(len(found.rows) - 1)]


@pytest.mark.parametrize("packing", PACKINGS)
def test_damage_takes_no_whole_record_with_it(tmp_path, packing):
    data = lines(40_000)
    path = tmp_path / ("a.jsonl" + packing)
    path.write_bytes(spoiled(data, packing))
    storage = LocalStorage()
    config = InputConfig(str(path), "id")
    shards = list(cut(config, storage, list_files(config, storage), 1 << 20))
    assert sum(shard.rows for shard in shards) == 40_001


def test_a_packed_file_that_is_none_is_one_failed_record(tmp_path, load):
    (tmp_path / "a.csv.gz").write_bytes(b"id,text\n1,plain after all\n")
    (tmp_path / "b.csv").write_text("id,text\n1,sound\n")
    found = load(tmp_path, id="id")
    assert found.failures == [("unreadable_file", "damaged after byte 0"), None]


def test_members_that_were_packed_one_by_one_are_one_file(tmp_path, load):
    for packing in PACKINGS:
        (tmp_path / f"a.jsonl{packing}").write_bytes(packed(lines(10), packing) + packed(lines(10, 10), packing))
    assert load(tmp_path, id="id").ids == [str(i) for i in range(20)] * 2


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_bomb_is_cut_and_its_record_fails_without_being_held(tmp_path, packing):
    import tracemalloc

    path = tmp_path / ("a.jsonl" + packing)
    path.write_bytes(packed(b'{"id": 1, "text": "' + b"a" * (60 << 20) + b'"}\n' + lines(3000), packing))
    assert path.stat().st_size < 1 << 20
    storage, config = LocalStorage(), InputConfig(str(path), "id", max_bytes=1000)
    files = list_files(config, storage)
    tracemalloc.start()
    shards = list(cut(config, storage, files, 100_000))
    tables = [read(config, storage, shard, []) for shard in shards]
    held = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert held < 20 << 20
    assert sum(found.num_rows for found in tables) == 3001 and len(shards) > 2
    assert tables[0]["failure"][0].as_py()["kind"] == "too_large"


def test_a_packed_file_is_cut_into_few_slices_however_small_the_shards(tmp_path):
    rows = ({"id": i, "text": hashlib.sha256(str(i).encode()).hexdigest()} for i in range(20_000))
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(packed("".join(json.dumps(row) + "\n" for row in rows).encode(), ".gz"))
    storage, config = LocalStorage(), InputConfig(str(path), "id")
    assert len(list(cut(config, storage, list_files(config, storage), 1))) <= 64


def test_seeking_back_and_on_finds_the_same_bytes(tmp_path):
    data = lines(9000)
    for packing in PACKINGS:
        path = tmp_path / f"a{packing}"
        path.write_bytes(packed(data, packing))
        storage = LocalStorage()
        with open_file(storage, storage.stat(str(path))) as stream:
            for start, size in ((0, 3), (200_000, 70_000), (5, 10), (len(data) - 1, 100), (len(data) + 9, 1)):
                stream.seek(start)
                assert stream.read(size) == data[start : start + size]


@pytest.mark.parametrize("name", ["a.csv.bz2", "a.jsonl.zip", "a.parquet.gz", "a.txt.gz", "a.csv.xz"])
def test_what_cannot_be_unpacked_as_it_is_read_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    (tmp_path / "b.csv").write_text("id,text\n")
    with pytest.raises(ConfigError, match=f"{name} is packed; unpack it first"):
        list_files(InputConfig(str(tmp_path), None), LocalStorage())
    if not name.startswith("a.csv"):
        assert len(list_files(InputConfig(str(tmp_path), None, format="csv"), LocalStorage())) == 1


@pytest.mark.parametrize("packing", PACKINGS)
def test_packed_files_on_an_object_store(bucket, packing):
    storage, path = storage_for(bucket), f"{bucket}/in/a.jsonl{packing}"
    storage.create(path, packed(lines(2000), packing))
    config = InputConfig(f"{bucket}/in", "id", keep=("id",))
    files = list_files(config, storage)
    keep = keep_fields(config, storage, files)
    shards = list(cut(config, storage, files, 20_000))
    assert len(shards) > 3
    ids = [i for shard in shards for i in read(config, storage, shard, keep)["record_id"].to_pylist()]
    assert ids == [str(i) for i in range(2000)]
    with storage.writer(path) as file:
        file.write(packed(lines(2001), packing))
    with pytest.raises(InputChanged, match=r"a\.jsonl"):
        read(config, storage, shards[0], keep)
