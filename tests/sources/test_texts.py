"""A folder of texts."""

import errno

import pytest

from engine.errors import ConfigError, InputChanged
from engine.sources import InputConfig, cut, list_files, read
from engine.storage import LocalStorage


def test_every_file_is_a_record_named_by_its_path(tmp_path, load):
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "ü 1.txt").write_bytes(b"a\r\nb\rc\n")
    (tmp_path / "b.TXT").write_bytes("é  🎗".encode())
    loaded = load(tmp_path, id_scope="file")
    assert loaded.ids == ["2024/ü 1.txt", "b.TXT"] == [place[0] for place in loaded.places]
    assert loaded.texts == ["a\r\nb\rc\n", "é  🎗"]
    assert [(s.rows, len(s.slices)) for s in loaded.shards] == [(2, 2)]


def test_shards_are_lists_of_files(tmp_path, load):
    for i in range(10):
        (tmp_path / f"{i}.txt").write_text("x" * 10)
    assert [shard.rows for shard in load(tmp_path, 30).shards] == [3, 3, 3, 1]


def test_a_broken_file_costs_itself_only(tmp_path, load):
    (tmp_path / "a.txt").write_bytes(b"bad \xff")
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.txt").write_bytes(b"x" * 5_000_000)
    (tmp_path / "d.txt").write_bytes(b"x" * 20_000_000)
    (tmp_path / "e.txt").write_bytes(b"fine")
    loaded = load(tmp_path)
    assert loaded.failures == [
        ("invalid_encoding", "utf-8"),
        ("missing_text", ""),
        ("too_large", "bytes=5000000"),
        ("too_large", "bytes=20000000"),
        None,
    ]
    assert loaded.ids == ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt"]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig", "latin-1"])
def test_encodings(tmp_path, load, encoding):
    (tmp_path / "a.txt").write_bytes("Größe".encode(encoding))
    assert load(tmp_path, encoding=encoding).texts == ["Größe"]


@pytest.mark.parametrize(("settings", "key"), [({"keep": ["ward"]}, "input.keep"), ({"id": "id"}, "input.id")])
def test_texts_have_no_columns(tmp_path, load, settings, key):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigError, match=key):
        load(tmp_path, **settings)


def test_a_changed_file_stops_the_run_and_a_locked_one_fails(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a")
    storage, config = LocalStorage(), InputConfig(str(tmp_path), None)
    (shard,) = cut(config, storage, list_files(config, storage), 100)
    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "open", lambda *a, **k: (_ for _ in ()).throw(PermissionError(errno.EACCES, "canary")))
        failures = read(config, storage, shard, [])["failure"].to_pylist()
    assert failures == [{"kind": "unreadable_file", "detail": "PermissionError"}]
    (tmp_path / "a.txt").unlink()
    with pytest.raises(InputChanged, match=r"a\.txt"):
        read(config, storage, shard, [])
