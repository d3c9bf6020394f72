"""A driver of an extraction killed, and the same command again."""

import json
import signal

import pytest

from engine.pipeline import status
from tests.models.prompt_mrc.conftest import taught, tiny_learner, write
from tests.models.prompt_mrc.test_run import OPTIONS, TEXTS, check
from tests.pipeline.conftest import write_input
from tests.pipeline.test_run import drive, ended


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_driver_and_the_same_command_again(tmp_path, cluster):
    learner = tiny_learner()
    taught(learner, tmp_path)
    model = write(learner, tmp_path / "model")
    write_input(tmp_path / "in" / "a.jsonl", TEXTS)
    order = {"system": "engine.models.prompt_mrc", "path": str(model), "options": OPTIONS, "runtime": {"threads": 1}}
    order["cluster"] = {"child_memory_gb": 8.0}
    code, _, err = ended(drive(tmp_path, cluster, die="update:2", **order))
    assert code == -signal.SIGKILL, err
    assert 0 < status(str(tmp_path / "out")).shards < status(str(tmp_path / "out")).shards_total
    code, out, err = ended(drive(tmp_path, cluster, **order))
    assert code == 0, err
    assert json.loads(out)["records"] == len(TEXTS) > json.loads(out)["new"]
    check(tmp_path / "out")
    code, out, err = ended(drive(tmp_path, cluster, **order))
    assert (code, json.loads(out)["new"]) == (0, 0), err
