"""The front door to entities: what is said on a command line reaches the model."""

import pytest

from engine.errors import ConfigError
from jobs._entities import ExtractEntities, run_config
from jobs._keys import build
from jobs.extract_entities import main


def config(*overrides: str) -> ExtractEntities:
    values, missing = main.compose(["input.path=in", "output.path=out", *overrides], {})
    assert missing == []
    return build(ExtractEntities, values)


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


def test_a_model_that_codes_reports_is_refused():
    with pytest.raises(ConfigError, match="does not extract entities"):
        run_config(config("model=site_classifier"))
