"""The job that runs a system, by either name: a system of a user's own is a package with options and one file in their folder."""

from pathlib import Path

import pytest

from engine.keys import build, keys_of
from engine.pipeline import RunConfig
from engine.records import IMAGES
from jobs import bench, code_reports, extract_entities
from jobs._run import run_config, schema
from tests.jobs.test_summary import summary
from tests.pipeline.conftest import Bench, rows, write_input

DOORS = [code_reports.main, extract_entities.main]


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """The words of a command line that name the toy system."""
    folder = tmp_path / "my conf"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "toy.yaml").write_text("# A toy.\nsystem: tests.toys.plain\npath: nowhere\n")
    return ["--config-dir", str(folder), "model=toy"]


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_its_keys_are_in_the_help_and_no_others(door, own: list[str], capsys: pytest.CaptureFixture) -> None:
    assert door.run([*own, "--help"]) == 0
    message = capsys.readouterr().out
    assert "    toy.stage [run]\n        Where a text may misbehave. (one of prepare, run)\n" in message
    assert "    model.system [tests.toys.plain]\n" in message and "    model.path [nowhere]\n" in message
    assert "Some keys belong to the system, here tests.toys.plain; model= chooses another one, with other keys." in message
    assert "model=clear|guided_ner|prompt_mrc|site_classifier|toy\n" in message and "input.path [???]" in message
    assert not any(f"    {section}." in message for section in ("text", "explain", "decision", "entities"))
    assert "    decision=" not in message and "    explain=" not in message and "    cluster=" in message


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_its_keys_reach_the_run(door, own: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RunConfig] = []
    monkeypatch.setattr("engine.pipeline.run", lambda config, progress: seen.append(config) or summary())
    path = write_input(tmp_path / "in" / "a.jsonl", {"a": "one", "b": "RAISENOW"})
    words = [f"input.path={path}", "input.id=id", f"output.path={tmp_path}/out"]
    assert door.run([*words, *own, "toy.stage=prepare"]) == 0
    assert door.run([*words, "model.system=tests.toys.plain"]) == 0
    model, plain = (config.model for config in seen)
    assert (model.system, model.path, model.options) == ("tests.toys.plain", "nowhere", {"stage": "prepare"})
    assert (plain.path, plain.options) == ("shipped", {"stage": "run"})
    table = Bench(seen[0])
    table.code()
    table.publish()
    assert {row["record_id"]: row["decision"] for row in rows(tmp_path / "out")} == {"a": "review", "b": "failed"}


def test_a_system_of_images_has_the_keys_of_images(tmp_path: Path) -> None:
    names = {item.name for item in keys_of(schema("tests.toys.grey"))}
    assert {"input.image", "input.study", "input.root"} <= names and not {"input.text", "input.reads"} & names
    assert not {"input.image", "input.study", "input.root", "input.reads"} & {i.name for i in keys_of(schema("tests.toys.plain"))}
    values = {"input": {"path": "in", "study": "case"}, "output": {"path": "out"}, "model": {"system": "tests.toys.grey"}}
    found = run_config(build(schema("tests.toys.grey"), values)).input
    assert (found.reads, found.image, found.study, found.max_bytes) == (IMAGES, "image", "case", 256 << 20)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["toy.stage=sometime"], "toy.stage: 'sometime' is not allowed; wants one of prepare, run"),
        (["toy.stag=run"], "unknown key 'toy.stag' (did you mean 'toy.stage'?); --help lists them all"),
        (["decision.tasks=[site]"], "unknown key 'decision.tasks'; --help lists them all"),
        (["model=site_clasifier"], "model: no choice 'site_clasifier' (did you mean 'site_classifier'?)"),
        (
            ["model=null"],
            "model.system: no system is chosen; give model=clear or model=guided_ner or model=prompt_mrc or "
            "model=site_classifier or model=toy",
        ),
        (["model.system=engine.models"], "model.system: engine.models is no system that a job can run, it has no Options"),
    ],
)
def test_a_mistake_is_refused_in_one_line(own: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture) -> None:
    assert code_reports.main.run([*own, "input.path=x", "output.path=y", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err


def test_a_system_that_cannot_be_imported_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    (tmp_path / "broken_system.py").write_text("import no_such_package_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert code_reports.main.run(["input.path=x", "output.path=y", "model.system=broken_system"]) == 2
    err = capsys.readouterr().err
    assert "model.system: broken_system cannot be imported: No module named 'no_such_package_at_all'" in err
    assert err.count("\n") == 1


def test_a_choice_of_several_settings_may_choose_the_system(own: list[str]) -> None:
    folder = Path(own[1])
    (folder / "preset").mkdir()
    (folder / "preset" / "toys.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /model: toy\ntoy:\n  stage: prepare\n"
    )
    values, missing = code_reports.main.compose(["preset=toys"], {"--config-dir": str(folder)})
    assert values["toy"] == {"stage": "prepare"} and [key.name for key in missing] == ["input.path", "output.path"]


def test_the_benchmark_measures_what_a_run_would_do() -> None:
    words = ["output.path=bench.parquet", "explain.spans=2", "decision.thresholds.site=0.9"]
    found = bench.run_of(bench.main.configured(bench.main.compose(words, {})[0]))
    words = ["input.path=synthetic", "output.path=bench.parquet", *words[1:]]
    assert found == run_config(code_reports.main.configured(code_reports.main.compose(words, {})[0]))


def test_the_benchmark_of_a_system_that_reads_images_makes_its_own() -> None:
    words = ["model=clear", "bench=images", "output.path=bench.parquet"]
    found = bench.run_of(bench.main.configured(bench.main.compose(words, {})[0]))
    assert (found.input.path, found.input.reads, found.model.system) == ("synthetic", "images", "engine.models.clear")


def test_the_benchmark_measures_no_images_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["model=clear", f"input.path={tmp_path}", f"output.path={tmp_path / 'bench.parquet'}"]
    assert bench.main.run(words) == 2
    assert "input.path: systems for images are measured on synthetic radiographs; leave it out" in capsys.readouterr().err
