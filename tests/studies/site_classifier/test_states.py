from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.encoders import load_encoder
from engine.models.columns import list_values
from engine.models.site_classifier.config import HEADS, LearnConfig
from engine.models.site_classifier.head_learner import HeadLearner
from engine.models.site_classifier.learner import Examples
from engine.models.site_classifier.network import SiteNetwork
from engine.studies.site_classifier.states import NoEncoder, ProjectedFolder, first_attention, keys_of, save, windowed, windows
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
        self.folder = ProjectedFolder(folder, self.network.encoder.config.hidden_size, width)
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


def test_the_attention_of_the_first_token_is_that_of_the_network(examples, tmp_path):
    made = shelf(tmp_path / "shelf")
    found = first_attention(tmp_path / "shelf", made.network, examples)
    assert [len(each) for each in found] == [len(ids) for ids in examples.ids]
    (batch, (row,)) = next(iter(windows(made.network, examples, [2])))
    weight = made.network.first_attention(batch)[batch.text.bool()].numpy()
    assert row == 2 and np.allclose(found[2], weight, atol=1e-5)
    again = first_attention(tmp_path / "shelf", None, examples)
    assert all(np.array_equal(a, b) for a, b in zip(found, again, strict=True))


def test_half_an_array_has_no_name(tmp_path, monkeypatch):
    def half(stream, values):
        stream.write(b"half")
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(np, "save", half)
        with pytest.raises(OSError):
            save(tmp_path / "start.npy", np.arange(3))
    assert not list(tmp_path.iterdir())
    save(tmp_path / "start.npy", np.arange(3))
    assert np.load(tmp_path / "start.npy").tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", HEADS)
def test_a_network_without_an_encoder_begins_and_answers_as_the_one_with_it(examples, tmp_path, name):
    full = shelf(tmp_path / "shelf")
    states = full.states(examples)

    def learner(encoder):
        torch.manual_seed(2)
        network = SiteNetwork(replace(full.network.config, head=name), encoder)
        return HeadLearner(network, examples, states, LearnConfig(windows=99), torch.device("cpu"))

    with_it, without = learner(full.network.encoder), learner(NoEncoder(states.width))
    assert set(without.parameters()) == set(with_it.parameters())
    batch, rows = next(with_it._batches([0, 1, 2], 0))
    for task, values in with_it._forward(batch, rows, None).logits.items():
        assert torch.equal(without._forward(batch, rows, None).logits[task], values)
