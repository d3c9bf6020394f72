"""The front door to entities: what is said on a command line reaches the model."""

from typing import Any

import pytest

from engine.errors import ConfigError
from jobs import code_reports
from jobs._run import run_config
from jobs.extract_entities import main


def config(*overrides: str, door=main) -> Any:
    values, missing = door.compose(["input.path=in", "output.path=out", *overrides], {})
    assert missing == []
    return door.configured(values)


@pytest.mark.parametrize(
    "override",
    [
        "entities.questions={Device: 'Which implants, or stents, are named?'}",
        'entities.questions={Device: "Which implants, or stents, are named?"}',
        "entities.questions.Device=Which implants, or stents, are named?",
    ],
)
def test_questions_of_a_users_own_on_the_command_line(override):
    options = run_config(config(override)).model.options
    assert options["questions"] == {"Device": "Which implants, or stents, are named?"}


def test_questions_from_a_file_join_those_of_the_command_line(tmp_path):
    path = tmp_path / "my questions=1, [2].yaml"
    path.write_text("Device: Which implants are named?\nPlace: Where?\n")
    asked = run_config(config(f"entities.questions_file={path}", "entities.questions.Time=When?")).model.options["questions"]
    assert asked == {"Device": "Which implants are named?", "Place": "Where?", "Time": "When?"}
    with pytest.raises(ConfigError, match="'Device' is asked for there and in the file"):
        run_config(config(f"entities.questions_file={path}", "entities.questions.Device=Which?"))
    with pytest.raises(ConfigError, match="cannot read"):
        run_config(config("entities.questions_file=nowhere.yaml"))


def test_types_thresholds_and_ways_to_decode_reach_the_model():
    found = run_config(
        config("entities.types=[Disease,Chemical]", "entities.thresholds={start: 0.6}", "entities.nested=false")
    ).model
    assert found.system == "engine.models.prompt_mrc" and found.path == "shipped"
    assert list(found.options["types"]) == ["Disease", "Chemical"]
    assert found.options["thresholds"] == {"start": 0.6} and found.options["nested"] is False


def test_either_name_runs_either_system():
    for model in ("prompt_mrc", "site_classifier"):
        one, other = (run_config(config(f"model={model}", door=door)) for door in (main, code_reports.main))
        assert one == other and one.model.system == f"engine.models.{model}"


def test_the_options_of_a_run_are_named_as_ever():
    names = "max_tokens types questions prompts nested flat_across_types thresholds evidence spans every stability precision"
    assert set(run_config(config()).model.options) == {*names.split(), "deterministic"}


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("explain.checks_fraction=1", "unknown key 'explain.checks_fraction'"),
        ("model.head=cls", "unknown key 'model.head'"),
        ("decision=site", "unknown key 'decision'"),
        ("entities.typs=[A]", "did you mean 'entities.types'?"),
        ("explain=default", "explain.method: 'default' is not allowed; wants one of attnlrp, gradient_x_input, none"),
    ],
)
def test_a_key_or_choice_of_another_system_is_refused_in_one_line(argument, message, capsys):
    assert main.run(["input.path=in", "output.path=out", argument]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1 and err.startswith("extract_entities: ")


def test_no_evidence_is_one_choice_for_every_system():
    assert run_config(config("explain=none")).model.options["evidence"] == "none"
    assert run_config(config("explain=none", "model=site_classifier")).model.options["method"] == "none"
