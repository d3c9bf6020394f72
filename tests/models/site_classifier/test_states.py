import os
import time
from types import SimpleNamespace

import numpy as np
import pytest

from engine.models.columns import list_values
from engine.models.site_classifier.states import StateFolder, encode, key_of
from tests.models.conftest import TEXTS, coder, records, write_tiny


def prepared(base):
    return base.prepare(records(TEXTS))


def test_a_folder_filled_in_two_goes_holds_the_states_of_one_filled_at_once(tmp_path, monkeypatch):
    base = coder(write_tiny(tmp_path / "base"), method="none")
    table = prepared(base)
    once = encode(base, table, tmp_path / "once")
    monkeypatch.setattr("engine.models.site_classifier.states._PART", 2)
    coded = base.network.encode
    calls = []

    def dies(batch, chunk=0):
        calls.append(batch.row)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return coded(batch, chunk=chunk)

    base.budget = 1
    with monkeypatch.context() as patched:
        patched.setattr(base.network, "encode", dies)
        with pytest.raises(KeyboardInterrupt):
            encode(base, table, tmp_path / "twice")
    calls.clear()
    again = encode(base, table, tmp_path / "twice")
    assert encode(SimpleNamespace(network=base.network), table, tmp_path / "twice").width == once.width == 32
    ids = list_values(table["input_ids"])
    for row in range(len(TEXTS)):
        bounds = [(0, len(ids[row]))]
        assert np.allclose(again.of(row, bounds), once.of(row, bounds), atol=1e-3)


def test_a_text_without_tokens_has_a_first_state_of_nothing(tmp_path):
    again = StateFolder(tmp_path, 32).states([key_of(np.empty(0))], None)
    assert len(again) == 1
    assert np.array_equal(again.of(0, []), np.zeros((1, 32), np.float32))


def test_leftovers_of_a_killed_process_are_removed_and_files_being_written_stay(tmp_path):
    for name in (".part-old.tmp", ".part-new.tmp"):
        (tmp_path / name).mkdir()
    for name in (".basis-1.tmp", ".basis-2.tmp"):
        (tmp_path / name).write_bytes(b"half")
    for name in (".part-old.tmp", ".basis-1.tmp"):
        os.utime(tmp_path / name, (time.time() - 2 * 86400,) * 2)
    StateFolder(tmp_path, 32)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".basis-2.tmp", ".part-new.tmp"]


def test_others_may_read_a_folder_of_states(tmp_path):
    base = coder(write_tiny(tmp_path / "base"), method="none")
    encode(base, prepared(base), tmp_path / "states")
    (part,) = (tmp_path / "states").iterdir()
    assert part.stat().st_mode == (tmp_path / "states").stat().st_mode
