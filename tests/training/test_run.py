"""Where a training writes: its claim, its own files, and the checkpoint that is there whole or not at all."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

import engine.training.run
from engine.errors import ConfigError, InputChanged
from engine.models.base import recipe
from engine.models.site_classifier import finish
from engine.models.site_classifier.build import learner
from engine.models.site_classifier.checkpoint import read_checkpoint
from engine.storage import storage_for
from engine.training.config import LoopConfig
from engine.training.examples import write_examples
from engine.training.fit import STATE
from engine.training.loop import Worker
from engine.training.run import train_system
from tests.models.conftest import write_tiny
from tests.models.site_classifier.test_corpus import write
from tests.store import error

SYSTEM = "engine.models.site_classifier"
TOLD, SAID = [], []


@pytest.fixture
def place(request, tmp_path, monkeypatch):
    """An output, locally and on S3, with fitting and measuring cut short."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    TOLD.clear()
    SAID.clear()

    def fit(config, work, progress, remote):
        TOLD.append("fit")
        (work / "_last").mkdir(parents=True)
        (work / "_last" / STATE).write_bytes(b"state")
        if remote is not None:
            assert storage_for(remote).create(f"{remote}/{STATE}", b"state")

    def finish(how, corpus, state, made, **more):
        TOLD.append("finish")
        assert state == b"state"
        write_tiny(made)
        figures = {"digest": read_checkpoint(str(made)).digest, "tasks": {}}
        (made / "figures.json").write_text(json.dumps(figures))
        return figures

    monkeypatch.setattr(engine.training.run, "fit", fit)
    monkeypatch.setattr(engine.training.run, "_state", lambda files: (files.last(0) / STATE).read_bytes())
    monkeypatch.setattr(engine.training.run, "finish", finish)
    return f"{request.getfixturevalue('bucket')}/model" if request.param == "s3" else str(tmp_path / "model")


both = pytest.mark.parametrize("place", ["local", "s3"], indirect=True)


def reports(tmp_path, **columns):
    labels = {"site": ["C18", "C34", "C18", "C34", "C18"], "histology": ["8140/3"] * 5}
    return write(tmp_path, **{**labels, "text": list("abcde"), **columns})


def trained(tmp_path, output, more=None, columns=None, **loop):
    path = tmp_path / "reports.parquet"
    if not path.exists():
        reports(tmp_path, **(columns or {}))
    return train_system(SYSTEM, settings_of(path, more), output, loop=LoopConfig(**loop), command="", say=SAID.append)


def settings_of(path, more=None):
    data = {"path": str(path), "labels": {"site": "site", "histology": "histology"}, **(more or {})}
    return {"data": data, "model": {"encoder": "tiny:bert", "rank": 2}, "learn": {}, "precision": "fp32", "seed": 7}


@both
def test_an_input_that_has_changed_is_refused_whatever_is_done_already(place, tmp_path, monkeypatch):
    def dies(*given, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine.training.run, "finish", dies)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path, place)
    before = (tmp_path / "reports.parquet").stat()
    reports(tmp_path, text=list("abcdx"))
    for _ in range(2):
        with pytest.raises(InputChanged, match=r"^data\.path: the input has changed since this training began") as caught:
            trained(tmp_path, place)
        assert TOLD == ["fit"] and "\n" not in str(caught.value)
    # It is brought back, and the training ends; then it changes again.
    reports(tmp_path)
    os.utime(tmp_path / "reports.parquet", ns=(before.st_mtime_ns, before.st_mtime_ns))
    trained(tmp_path, place)
    assert TOLD == ["fit", "finish"]
    (tmp_path / "reports.parquet").touch()
    with pytest.raises(InputChanged):
        trained(tmp_path, place)


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_what_changes_while_it_is_trained_on_is_not_measured_on(place, tmp_path, monkeypatch):
    fit = engine.training.run.fit

    def slow(*given):
        fit(*given)
        reports(tmp_path, text=list("abcdx"))

    monkeypatch.setattr(engine.training.run, "fit", slow)
    with pytest.raises(InputChanged):
        trained(tmp_path, place)
    assert TOLD == ["fit"]


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_a_task_without_codes_in_a_split_is_refused_before_any_work(place, tmp_path):
    with pytest.raises(ConfigError, match="no report of test has a code of histology"):
        trained(tmp_path, place, columns={"histology": ["8140/3"] * 4 + [None]})
    assert TOLD == [] and not (tmp_path / "model").exists()


def names(output):
    return sorted(entry.path.removeprefix(f"{output}/") for entry in storage_for(output).list(output))


@both
def test_the_same_command_again_does_nothing_and_another_is_refused(place, tmp_path):
    first = trained(tmp_path, f"{place}/")
    assert TOLD == ["fit", "finish"] and read_checkpoint(place).digest == first["digest"]
    before = list(storage_for(place).list(place))
    assert trained(tmp_path, place) == first
    assert SAID[-1] == "this training is finished; nothing to do" and len(TOLD) == 2
    with pytest.raises(ConfigError, match="holds a training with other settings"):
        trained(tmp_path, place, rate=0.5)
    assert list(storage_for(place).list(place)) == before
    left = [name for name in names(place) if name.startswith("_")]
    assert left == ["_training/settings.json"]
    assert not list((tmp_path / "cache" / "marginalia").rglob(STATE))


@both
def test_a_folder_with_other_things_is_refused(place, tmp_path):
    with storage_for(place).writer(f"{place}/mine.txt") as file:
        file.write(b"x")
    with pytest.raises(ConfigError, match="is not empty and holds no training"):
        trained(tmp_path, place)
    assert names(place) == ["mine.txt"] and TOLD == []


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_half_a_checkpoint_is_none_and_the_same_command_completes_it(place, tmp_path, store):
    with store.harmed(error("AccessDenied", 403, "PUT .*/model/model.safetensors")), pytest.raises(ConfigError, match="denied"):
        trained(tmp_path, place)
    assert "config.json" in names(place)
    with pytest.raises(ConfigError, match="no checkpoint folder"):
        read_checkpoint(place)
    TOLD.clear()
    store.reset()
    assert trained(tmp_path, place)["digest"] == read_checkpoint(place).digest
    assert TOLD == ["finish"]
    written = [
        request for request in store.requests if request.startswith("PUT") and "/model/" in request and ".probe" not in request
    ]
    assert written[-1].endswith("/model/digest.json")
    assert storage_for(place).read(f"{place}/_training/{STATE}") is None


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_an_output_that_was_removed_is_trained_anew(place, tmp_path, store):
    with store.harmed(error("AccessDenied", 403, "PUT .*/model/model.safetensors")), pytest.raises(ConfigError):
        trained(tmp_path, place)
    storage_for(place).remove_folder(place)
    trained(tmp_path, place)
    assert TOLD == ["fit", "finish", "fit", "finish"]


def test_wrong_places_are_refused_before_any_work(bucket, tmp_path):
    for output in ("s3://no-such-bucket-here/model", "gs://bucket/model"):
        with pytest.raises(ConfigError) as caught:
            trained(tmp_path, output)
        assert "\n" not in str(caught.value)


def test_what_highlights_gave_and_what_they_did_not_is_said_and_kept(tmp_path):
    marks = [[{"start": 0, "end": 1}], [{"start": 0, "end": 9}], None, None, None]
    path = reports(tmp_path, marks=marks).path
    how = recipe(SYSTEM)
    corpus = how.corpus(settings_of(path, {"rationales": "marks", "samples": ["rationale"]}))
    assert corpus.lines() == ["highlights: 1 rationales for train; not used: 1 outside_report"]
    folder = str(tmp_path / "examples")
    write_examples(corpus.preparation(), folder, tmp_path / "sorting")
    tensors = learner({**corpus.settings, "examples": folder}, Worker()).parameters()
    how.write(tmp_path / "model", corpus, {**tensors, "marker.weight": next(iter(tensors.values()))})
    rejected = pq.read_table(tmp_path / "model" / "rejected_rationales.parquet").to_pylist()
    assert [(row["origin"], row["reason"]) for row in rejected] == [("b", "outside_report")]
    assert not [name for name in load_file(tmp_path / "model" / "model.safetensors") if name.startswith("marker")]


def test_there_is_no_baseline_where_there_is_one_code():
    table = pa.table({"kind": ["real"], "split": ["train"], "site": ["C18"], "text": ["Colon."], "leak": [False]})
    lines = []
    assert finish._rival(table, table, "site", lines.append) is None
    assert lines == ["no baseline for site: there is only one code"]
