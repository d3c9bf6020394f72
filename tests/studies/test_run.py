"""A study of a toy: arms, what goes on after a stop, means, comparisons and tables."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.studies import results, run
from engine.studies.render import summary, table
from engine.studies.run import Place, Runner
from engine.studies.study import Study, study_of

TOY = "tests.toys.study"
VALUES: dict[str, Any] = {
    "question": "Which guess is right more often?",
    "system": "toy",
    "fit": TOY,
    "corpora": {"one": "one.parquet", "two": "two.parquet"},
    "seeds": [1, 2, 3],
    "base": {"share": 0.5},
    "arms": {"half": {}, "often": {"share": 0.9}, "seldom": {"share": 0.1, "corpora": ["one"]}},
    "measure": [TOY],
    "compare": [{"with": "half", "metrics": ["accuracy", "score"]}],
    "rounds": 50,
    "tables": {
        "main": {"columns": {"right": "accuracy", "less": {"metric": "accuracy", "slice": "less half, over texts"}}},
        "types": {"rows": "type=", "metric": "accuracy", "corpora": ["two"]},
    },
}


@pytest.fixture
def study() -> Study:
    return study_of("toy/guesses", VALUES)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(run, "DATA", tmp_path / "record")
    return Place("data", tmp_path / "output", tmp_path / "models")


def _values(rows: pa.Table) -> dict[tuple[Any, ...], float]:
    return {(row["corpus"], row["arm"], row["seed"], row["metric"], row["slice"]): row["value"] for row in rows.to_pylist()}


def test_arms_means_and_comparisons(study: Study, place: Place) -> None:
    values = _values(Runner(study, place, print).run())
    assert len(list(place.models.rglob("fitted"))) == 2 * 3 * 2 + 3
    each = [values["one", "often", seed, "accuracy", "all"] for seed in (1, 2, 3)]
    half = [values["one", "half", seed, "accuracy", "all"] for seed in (1, 2, 3)]
    assert values["one", "often", None, "accuracy", "all"] == pytest.approx(sum(each) / 3)
    gain = (sum(each) - sum(half)) / 3
    assert values["one", "often", None, "accuracy", "less half, over seeds"] == pytest.approx(gain)
    assert values["one", "often", None, "accuracy", "less half, over texts"] == pytest.approx(gain)
    assert values["one", "often", None, "score", "less half, over texts"] == 0
    assert 0 < values["one", "often", None, "accuracy.p", "less half, over texts"] < 0.05
    assert (
        values["one", "often", None, "accuracy.holm", "less half, over texts"]
        <= 2 * (values["one", "often", None, "accuracy.p", "less half, over texts"])
    )
    assert ("two", "seldom", 1, "accuracy", "all") not in values


def test_the_same_command_goes_on_and_other_settings_are_refused(study: Study, place: Place) -> None:
    lines: list[str] = []
    Runner(study, place, lines.append).run(["one/half/*"])
    assert len(list(place.models.rglob("fitted"))) == 3
    whole = Runner(study, place, lines.append).run()
    assert [line for line in lines if "before" in line] == [f"one/half/{seed}: measured before" for seed in (1, 2, 3)]
    assert Runner(study, place, lines.append).run().equals(whole)
    other = study_of("toy/guesses", {**VALUES, "base": {"share": 0.6}})
    with pytest.raises(ConfigError, match=r"one/half/1.parquet was measured with other settings; remove it"):
        Runner(other, place, print).run()
    more = study_of("toy/guesses", {**VALUES, "arms": {**VALUES["arms"], "always": {"share": 1.0}}})
    assert ("one", "always", 2, "accuracy", "all") in _values(Runner(more, place, print).run())
    with pytest.raises(ConfigError, match="holds another study"):
        Runner(study_of("toy/others", VALUES), place, print).run()
    with pytest.raises(ConfigError, match=r"only: no arm matches it; the name of an arm is, for example, one/half/1"):
        Runner(study, place, print).run(["three/*"])


def test_an_arm_on_record_is_measured_unless_its_settings_changed(study: Study, place: Place, tmp_path: Path) -> None:
    rows = Runner(study, place, print).run()
    table, arms = results.read(place.output / "metrics.parquet")
    results.write(run.record(study.name), table, arms)
    clone = Place("data", tmp_path / "clone", tmp_path / "others")
    assert _values(Runner(study, clone, print).run()) == _values(rows)
    assert not (tmp_path / "others").exists()
    changed = study_of("toy/guesses", {**VALUES, "arms": {**VALUES["arms"], "often": {"share": 0.8}}})
    values = _values(Runner(changed, Place("data", tmp_path / "changed", tmp_path / "more"), print).run())
    assert len(list((tmp_path / "more").rglob("fitted"))) == 6
    assert values["one", "half", 1, "accuracy", "all"] == _values(rows)["one", "half", 1, "accuracy", "all"]
    # The answers of the arms on record are not at hand, so only the seeds are compared.
    assert ("one", "often", None, "accuracy", "less half, over seeds") in values
    assert ("one", "often", None, "accuracy", "less half, over texts") not in values


def test_a_model_of_another_arm(place: Place) -> None:
    base = {"after": "toy/guesses", "arm": "half", "corpus": "one"}
    arms = {"half": {}, "later": {"from": base}}
    study = study_of("toy/guesses", {**VALUES, "arms": arms, "seeds": [1], "compare": []})
    runner = Runner(study, place, print)
    task = runner.task(study, study.arm("two", 1, {"arm": "later"}))
    assert task.settings["from"] == str(place.models / "one/half/1") and task.identity["from"] == "{'share': 0.5}"
    assert task.path("one") == "data/one.parquet"


def test_interactions_and_factors(place: Place) -> None:
    factors = {"head": {"weak": {"share": 0.2}, "strong": {"share": 0.8}}, "more": {"no": {}, "yes": {"share": 0.9}}}
    compare = [{"factor": "more", "with": "no", "less": {"head": "strong"}, "metrics": ["accuracy"], "over": ["seeds"]}]
    given = {name: value for name, value in VALUES.items() if name not in ("arms", "tables")}
    study = study_of("toy/factors", {**given, "factors": factors, "compare": compare})
    values = _values(Runner(study, place, print).run())
    mean = {arm: values["one", arm, None, "accuracy", "all"] for arm in ("weak-no", "weak-yes", "strong-no", "strong-yes")}
    wanted = (mean["weak-yes"] - mean["weak-no"]) - (mean["strong-yes"] - mean["strong-no"])
    part = "less no, less strong, over seeds"
    assert values["one", "weak-yes", None, "accuracy", part] == pytest.approx(wanted)
    assert ("one", "strong-yes", None, "accuracy", part) not in values


def test_tables(study: Study, place: Place) -> None:
    rows = Runner(study, place, print).run()
    lines = table(study, "main", rows).splitlines()
    assert lines[0] == "| corpus | arm | right | less |"
    assert lines[1] == "| --- | --- | ---: | ---: |"
    assert lines[2].startswith("| one | `half` | 0.5") and lines[2].endswith("| – |")
    assert "| +0." in lines[3] and "−0." in lines[4]
    assert table(study, "types", rows).splitlines()[:3] == [
        "| two | n | `half` | `often` |",
        "| --- | ---: | ---: | ---: |",
        "| even | 3 | 0.500 | 0.500 |",
    ]
    assert summary(study, rows).startswith("main\n\n| corpus")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"armz": {}}, "the key 'armz' is unknown"),
        ({"seeds": [1, 1]}, "each seed once"),
        ({"compare": [{"with": "none", "metrics": ["f1"]}]}, "there is no level 'none' of arm to compare"),
        ({"arms": {"a/b": {}}}, "'a/b' cannot be part of a file's name"),
        ({"measure": ["nothing"]}, "there is no measure 'nothing' for toy"),
    ],
)
def test_a_mistake_is_one_line(change: dict[str, Any], message: str, place: Place) -> None:
    with pytest.raises(ConfigError, match=message):
        Runner(study_of("toy/guesses", {**VALUES, **change}), place, print).run()
