import os
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.encoders import load_encoder
from engine.models.columns import list_values
from engine.models.site_classifier.learner import Examples
from engine.models.site_classifier.network import SiteNetwork
from engine.models.site_classifier.states import (
    StateFolder,
    _windows,
    encode,
    first_attention,
    key_of,
    keys_of,
    put,
    windowed,
)
from tests.models.conftest import TASKS, TEXTS, coder, records, tiny_config, write_tiny


@pytest.fixture
def examples(tmp_path):
    base = coder(write_tiny(tmp_path / "base"), method="none")
    prepared = base.prepare(records(TEXTS))
    some = np.ones(len(TEXTS), dtype=bool)
    labels = {task.name: np.zeros(len(TEXTS), np.int64) for task in TASKS}
    return Examples(prepared["record_id"].to_pylist(), list_values(prepared["input_ids"]), labels, some, some)


class Shelf:
    """A folder of states and the network that makes them; `encoded` are the texts that it was asked for."""

    def __init__(self, folder, width):
        self.network = SiteNetwork(tiny_config(), load_encoder("tiny:bert", torch.float32, "eager"))
        self.folder = StateFolder(folder, self.network.encoder.config.hidden_size, width)
        self.encoded = []

    def _encode(self, examples):
        return lambda members: self.encoded.append(list(members)) or windowed(self.network, examples, members)

    def states(self, examples, keep=True):
        return self.folder.states(keys_of(examples), self._encode(examples), keep)

    def fit(self, examples):
        self.folder.fit(keys_of(examples), self._encode(examples))


def shelf(folder, width=0):
    return Shelf(folder, width)


def some(examples, rows):
    return replace(examples, record_id=[f"other{row}" for row in rows], ids=[examples.ids[row] for row in rows])


def whole(taken, examples, row):
    return taken.of(row, [(0, len(examples.ids[row]))])


def test_a_text_is_encoded_once_whatever_its_id(examples, tmp_path):
    first = shelf(tmp_path / "shelf")
    taken = first.states(some(examples, [0, 3]))
    again = shelf(tmp_path / "shelf")
    found = again.states(examples)
    assert again.encoded == [[1, 2, 4]]
    for place, row in ((0, 0), (1, 3)):
        assert np.array_equal(whole(found, examples, row), whole(taken, some(examples, [0, 3]), place))
    again.states(examples, keep=False)
    assert len(again.encoded) == 1


def test_states_that_are_not_kept_are_the_same_and_leave_nothing(examples, tmp_path):
    one, other = shelf(tmp_path / "a"), shelf(tmp_path / "b")
    kept, loose = one.states(examples), other.states(examples, keep=False)
    assert [np.array_equal(whole(kept, examples, row), whole(loose, examples, row)) for row in range(5)] == [True] * 5
    assert list((tmp_path / "a").iterdir()) and not list((tmp_path / "b").iterdir())


def test_a_projection_keeps_what_varies_most(examples, tmp_path):
    full, small = shelf(tmp_path / "full"), shelf(tmp_path / "small", 8)
    small.fit(examples)
    states = np.concatenate([whole(full.states(examples), examples, row)[1:] for row in range(5)])
    found = np.concatenate([whole(small.states(examples), examples, row)[1:] for row in range(5)])
    basis = np.load(tmp_path / "small" / "basis.npy")
    assert basis.shape == (32, 8) and np.allclose(basis.T @ basis, np.eye(8), atol=1e-5)
    assert np.allclose(found, states @ basis, atol=0.02)
    # Eight directions drawn at random would keep a quarter.
    assert (found**2).sum() > 0.6 * (states**2).sum()
    assert np.allclose(small.states(examples).mean(1), whole(small.states(examples), examples, 1)[1:].mean(0), atol=1e-6)


def test_the_attention_of_the_first_token_is_that_of_the_network(examples, tmp_path):
    made = shelf(tmp_path / "shelf")
    found = first_attention(tmp_path / "shelf", made.network, examples)
    assert [len(each) for each in found] == [len(ids) for ids in examples.ids]
    (batch, (row,)) = next(iter(_windows(made.network, examples, [2])))
    weight = made.network.first_attention(batch)[batch.text.bool()].numpy()
    assert row == 2 and np.allclose(found[2], weight, atol=1e-5)
    again = first_attention(tmp_path / "shelf", None, examples)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path):
    for name in (".part-old.tmp", ".part-new.tmp"):
        (tmp_path / name).mkdir()
    for name in (".basis-1.tmp", ".basis-2.tmp"):
        (tmp_path / name).write_bytes(b"half")
    for name in (".part-old.tmp", ".basis-1.tmp"):
        os.utime(tmp_path / name, (time.time() - 2 * 86400,) * 2)
    shelf(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".basis-2.tmp", ".part-new.tmp"]


def test_others_may_read_a_shelf(examples, tmp_path):
    shelf(tmp_path / "shelf").states(some(examples, [4]))
    (part,) = (tmp_path / "shelf").iterdir()
    assert part.stat().st_mode == (tmp_path / "shelf").stat().st_mode


def prepared(base):
    return base.prepare(records(TEXTS))


def test_what_the_product_encodes_is_kept_and_a_folder_filled_in_two_goes_is_the_same(tmp_path, monkeypatch):
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
    found = encode(base, table, tmp_path / "twice")
    assert encode(SimpleNamespace(network=base.network), table, tmp_path / "twice").width == once.width == 32
    ids = list_values(table["input_ids"])
    for row in range(len(TEXTS)):
        bounds = [(0, len(ids[row]))]
        assert np.allclose(found.of(row, bounds), once.of(row, bounds), atol=1e-3)


def test_a_text_without_tokens_has_a_first_state_of_nothing(tmp_path):
    base = coder(write_tiny(tmp_path / "base"), method="none")
    found = encode(base, prepared(base), tmp_path / "states", [key_of(np.empty(0))])
    assert len(found) == len(TEXTS) + 1
    assert np.array_equal(found.of(len(TEXTS), []), np.zeros((1, 32), np.float32))


def test_half_an_array_has_no_name(tmp_path, monkeypatch):
    def half(stream, values):
        stream.write(b"half")
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", half)
        with pytest.raises(OSError):
            put(tmp_path / "start.npy", np.arange(3))
    assert not list(tmp_path.iterdir())
    put(tmp_path / "start.npy", np.arange(3))
    assert np.load(tmp_path / "start.npy").tolist() == [0, 1, 2]
