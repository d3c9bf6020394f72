"""Arms that are trained by their system's recipe, kept and used again."""

import json

import pytest

from engine.errors import ConfigError
from engine.studies.run import Place, Runner
from engine.studies.study import study_of

ARM = {"hard": {"model.mode": "hard"}}


def test_an_arm_is_trained_measured_and_taken_again(run_study, tmp_path):
    lines = []
    first = run_study({"arms": ARM, "measure": ["spans", "training"]}, lines.append)
    assert 0 <= first["one", "hard", "f1", "all"] <= first["one", "hard", "overlap_f1", "all"] <= 1
    assert {part for _, _, metric, part in first if metric == "f1"} == {"all", "type=Chemical", "type=Disease"}
    assert first["one", "hard", "trained_parameters", "all"] > 0 and first["one", "hard", "valid_f1", "all"] is not None
    assert "trained before" not in lines
    (home,) = (tmp_path / "models" / "prompt_mrc").iterdir()
    assert sorted(path.name for path in home.iterdir()) == ["checkpoint", "fitted.json"]
    # Another study with the same arm has its model; other settings make another one.
    again = run_study({"arms": {**ARM, "other": {"model.mode": "hard", "learn.masking": 0.1}}}, lines.append, "again")
    assert lines.count("trained before") == 1 and len(list(home.parent.iterdir())) == 2
    assert all(again[key] == value for key, value in first.items() if key in again)


def test_a_training_that_was_stopped_goes_on_and_ends_where_it_would_have(run_study, tmp_path):
    values = {"arms": ARM, "base": {"train.report_every": 1, "train.checkpoint_every": 1}}
    whole = run_study(values)
    kept = next((tmp_path / "models" / "prompt_mrc").iterdir())
    curve = json.loads((kept / "fitted.json").read_text())["curve"]
    kept.rename(tmp_path / "kept")

    def stop(line):
        if line.startswith("step 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(values, stop, "stopped")
    assert not (kept / "fitted.json").exists()
    lines = []
    assert run_study(values, lines.append, "stopped") == whole
    assert len(curve) == 3 and [line[:6] for line in lines if line.startswith("step")] == ["step 3"]
    losses = [[row["loss_start"] for row in json.loads((folder / "fitted.json").read_text())["curve"]]
              for folder in (kept, tmp_path / "kept")]  # fmt: skip
    assert losses[0] == losses[1]


def test_a_model_of_another_arm_is_measured_on_this_arms_corpus(run_study, tmp_path):
    arms = {
        "hard": {"model.mode": "hard"},
        "here": {"use": {"after": "tiny", "arm": "hard"}, "corpora": ["one"]},
        "there": {"use": {"after": "tiny", "arm": "hard", "corpus": "one"}, "corpora": ["two"]},
    }
    compare = [{"pairs": [["there", "hard"]], "metrics": ["f1"], "over": ["texts"]}]
    corpora = {"one": "one.parquet", "two": {"path": "two.parquet", "data.types": ["Disease"]}}
    values = run_study({"arms": arms, "corpora": corpora, "compare": compare, "measure": ["spans", "training"]})
    of = {arm: {key[2:]: value for key, value in values.items() if key[:2] == ("one", arm)} for arm in ("hard", "here")}
    # What training took is said of the arm that was trained.
    assert of["here"] == {key: value for key, value in of["hard"].items() if key in of["here"]}
    assert ("trained_parameters", "all") in of["hard"] and ("trained_parameters", "all") not in of["here"]
    less = values["two", "there", "f1", "all"] - values["two", "hard", "f1", "all"]
    assert values["two", "there", "f1", "less hard, over texts"] == pytest.approx(less)
    assert len(list((tmp_path / "models" / "prompt_mrc").iterdir())) == 2


def test_a_system_of_two_phases(tmp_path):
    points = {"train": [[x / 10, 3 * x / 10 + 1] for x in range(-10, 10)], "valid": [[0.5, 2.5]], "test": [[0.1, 1.3]]}
    (tmp_path / "points.json").write_text(json.dumps(points))
    values = {"question": "?", "system": "tests.toys.learned", "fit": "engine.studies.whole", "corpora": {"p": "points.json"},
              "measure": ["engine.studies.training"], "arms": {"line": {"train.epochs": 3, "train.batch": 4}}}  # fmt: skip
    place = Place(str(tmp_path), tmp_path / "out", tmp_path / "models", 1, recorded=False)
    rows = Runner(study_of("line", values), place, print).run().to_pylist()
    assert {row["metric"]: row["value"] for row in rows}["trained_parameters"] == 3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model.moed": "hard"}, "no fit or measure has the setting 'model.moed'"),
        ({"rounds": 3}, "no fit or measure has the setting 'rounds'"),
        ({"train.epoch": 3}, "no fit or measure has the setting 'train.epoch'"),
        ({"spans.kinds": {}}, "the setting spans.kinds is unknown"),
    ],
)
def test_an_unknown_setting_is_named(run_study, settings, told):
    with pytest.raises(ConfigError, match=told):
        run_study({"arms": {"hard": {"model.mode": "hard", **settings}}})
