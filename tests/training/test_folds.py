"""Models of folds as the parts of a side table."""

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.training.folds import out_of_fold
from tests.training.test_loop import CONFIG, Line

SCHEMA = pa.schema([pa.field("fold", pa.int64()), pa.field("steps", pa.int64()), pa.field("slope", pa.float64())])


class Part(Line):
    """The line without the points of a fold."""

    def __init__(self, fold, device):
        super().__init__()
        self.kept = [number for number in range(10) if number % 3 != fold]
        self.device = device

    def order(self, epoch):
        return np.random.default_rng([1, epoch]).permutation(self.kept).tolist()


def learner(fold, settings):
    import torch

    return Part(fold, torch.device(settings["runtime"]["device"]))


def answers(learned, curve, fold, settings):
    if fold == settings.get("stop"):
        raise ConfigError("stopped")
    row = {"fold": fold, "steps": curve[-1]["step"], "slope": float(learned.weights["w"].detach())}
    return pa.Table.from_pylist([row], schema=SCHEMA)


def settings(tmp_path, **more):
    named = {"learner": f"{__name__}:learner", "answers": f"{__name__}:answers", "loop": vars(CONFIG)}
    return {**named, "runtime": {"work": str(tmp_path / "work"), "device": "cpu"}, **more}


def test_each_fold_has_a_model_of_its_own_and_the_same_call_reads_what_is_there(tmp_path):
    said = []
    found = out_of_fold("slopes", SCHEMA, [0, 2], settings(tmp_path), str(tmp_path / "out"), said.append)
    assert found.schema.equals(SCHEMA) and found["fold"].to_pylist() == [0, 2]
    # Six and seven points in batches of four, three epochs.
    assert found["steps"].to_pylist() == [6, 6] and len(set(found["slope"].to_pylist())) == 2
    assert said == ["slopes: 1 of 2 parts", "slopes: 2 of 2 parts"]
    again = out_of_fold("slopes", SCHEMA, [0, 2], settings(tmp_path), str(tmp_path / "out"), said.append)
    assert again.equals(found) and len(said) == 2


def test_a_fold_that_is_done_is_not_trained_again(tmp_path):
    for _ in range(2):
        with pytest.raises(ConfigError, match="stopped"):
            out_of_fold("slopes", SCHEMA, [0, 1], settings(tmp_path, stop=1), str(tmp_path / "out"), print)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["fold0", "fold1"]
    states = [path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("state.safetensors")]
    with pytest.raises(ConfigError, match="stopped"):
        out_of_fold("slopes", SCHEMA, [0, 1], settings(tmp_path, stop=1), str(tmp_path / "out"), print)
    assert [path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("state.safetensors")] == states
