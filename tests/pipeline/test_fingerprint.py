import pytest

from engine.errors import ConfigError
from engine.pipeline import fingerprint, status
from tests.pipeline.conftest import Bench, config, texts, write_input


def test_the_same_settings_are_the_same_run(bench):
    one = bench()
    assert Bench(one.config).run_id == one.run_id


def test_what_changes_no_value_is_no_part_of_it(bench, tmp_path):
    one = bench()
    other = config(tmp_path / "in", tmp_path / "out", shard_bytes=9, runtime={"pause": 1}, cluster={"actors": 3})
    assert fingerprint.fingerprint(other, one.system) == one.found


def test_what_the_model_never_does_is_known_without_the_model(bench):
    one = bench()
    assert status(one.config.output).limits == one.system.limits() != {}


def test_another_setting_is_refused_by_name_with_both_values(bench, tmp_path):
    bench(options={"explain": {"spans": 5}})
    with pytest.raises(ConfigError, match=r"model\.options\.explain\.spans was 5, now 6") as caught:
        Bench(config(tmp_path / "in", tmp_path / "out", options={"explain": {"spans": 6}}))
    assert "\n" not in str(caught.value)
    assert "model.digest" in str(caught.value)


def test_long_values_are_shortened(bench, tmp_path):
    bench(options={"words": "a" * 500})
    with pytest.raises(ConfigError) as caught:
        Bench(config(tmp_path / "in", tmp_path / "out", options={"words": "b" * 500}))
    assert len(str(caught.value)) < 600


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    write_input(tmp_path / "in" / "a.jsonl", texts(1))
    write_input(tmp_path / "out" / "thesis.txt", texts(1))
    with pytest.raises(ConfigError, match="not empty"):
        Bench(config(tmp_path / "in", tmp_path / "out"))


@pytest.mark.parametrize("left", ["{", '{"settings": {}}', '{"settings": {}, "run_id": "r"}'])
def test_a_damaged_run_file_is_refused(bench, tmp_path, left):
    one = bench()
    (tmp_path / "out" / "_run.json").write_text(left)
    with pytest.raises(ConfigError, match="damaged"):
        status(str(tmp_path / "out"))
    if left == "{":
        with pytest.raises(ConfigError, match="damaged"):
            Bench(one.config)


def test_an_unwritable_folder_is_refused_before_work(tmp_path):
    write_input(tmp_path / "in" / "a.jsonl", texts(1))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        Bench(config(tmp_path / "in", tmp_path / "file" / "out"))


def test_the_version_is_the_packages():
    import tomllib
    from pathlib import Path

    from engine import __version__

    project = tomllib.loads(Path(__file__).resolve().parents[2].joinpath("pyproject.toml").read_text())["project"]
    assert __version__ == project["version"]
