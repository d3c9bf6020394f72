import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.encoders import load_encoder
from engine.models.columns import list_values
from engine.models.site_classifier.learner import Examples
from engine.models.site_classifier.shelf import Shelf
from tests.models.conftest import TASKS, TEXTS, coder, records, tiny_config, write_tiny


@pytest.fixture
def examples(tmp_path):
    base = coder(write_tiny(tmp_path / "base"), method="none")
    prepared = base.prepare(records(TEXTS))
    some = np.ones(len(TEXTS), dtype=bool)
    labels = {task.name: np.zeros(len(TEXTS), np.int64) for task in TASKS}
    return Examples(prepared["record_id"].to_pylist(), list_values(prepared["input_ids"]), labels, some, some)


def shelf(folder, width=0):
    return Shelf(folder, tiny_config(), load_encoder("tiny:bert", torch.float32, "eager"), width)


def some(examples, rows):
    return replace(examples, record_id=[f"other{row}" for row in rows], ids=[examples.ids[row] for row in rows])


def whole(taken, examples, row):
    return taken.of(row, [(0, len(examples.ids[row]))])


def test_a_text_is_encoded_once_whatever_its_id(examples, tmp_path, monkeypatch):
    first = shelf(tmp_path / "shelf")
    taken = first.states(some(examples, [0, 3]))
    again = shelf(tmp_path / "shelf")
    encoded = []
    made = Shelf._made
    monkeypatch.setattr(Shelf, "_made", lambda self, texts, members: encoded.append(list(members)) or made(self, texts, members))
    found = again.states(examples)
    assert encoded == [[1, 2, 4]]
    for place, row in ((0, 0), (1, 3)):
        assert np.array_equal(whole(found, examples, row), whole(taken, some(examples, [0, 3]), place))
    again.states(examples, keep=False)
    assert len(encoded) == 1


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
    found = made.first_attention(examples)
    assert [len(each) for each in found] == [len(ids) for ids in examples.ids]
    (batch, (row,)) = next(iter(made._windows(examples, [2])))
    weight = made.network.first_attention(batch)[batch.text.bool()].numpy()
    assert row == 2 and np.allclose(found[2], weight, atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(found, shelf(tmp_path / "shelf").first_attention(examples), strict=True))


def test_what_a_killed_process_left_goes_and_what_is_being_written_stays(tmp_path):
    for name in ("tmp-old", "tmp-new"):
        (tmp_path / name).mkdir()
    for name in ("basis-1.tmp.npy", "basis-2.tmp.npy"):
        (tmp_path / name).write_bytes(b"half")
    for name in ("tmp-old", "basis-1.tmp.npy"):
        os.utime(tmp_path / name, (time.time() - 2 * 86400,) * 2)
    shelf(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["basis-2.tmp.npy", "tmp-new"]


def test_others_may_read_a_shelf(examples, tmp_path):
    shelf(tmp_path / "shelf").states(some(examples, [4]))
    (part,) = (tmp_path / "shelf").iterdir()
    assert part.stat().st_mode == (tmp_path / "shelf").stat().st_mode
