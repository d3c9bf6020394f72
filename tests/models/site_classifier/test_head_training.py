"""Further heads on a tiny frozen encoder, as the job trains them: each time a checkpoint with the old heads and a new one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from safetensors.torch import load_file

import engine.training.run
from engine.errors import ConfigError
from engine.models.code_task import TaskCalibration
from engine.models.site_classifier import recipe
from engine.models.site_classifier.checkpoint import read_checkpoint
from engine.pipeline.fingerprint import fingerprint
from engine.sources.synthetic import generate
from jobs.train import main
from tests.models.conftest import TASKS, TEXTS, coded, coder, revise, write_tiny
from tests.pipeline.conftest import Bench
from tests.toys.train import fit

# Two heads are trained, measured and explained before the first test.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with `reports.parquet`, `base` and `model`, the base with two further heads, one trained after the other."""
    folder = tmp_path_factory.mktemp("heads")
    table = pl.from_arrow(generate(40, 3, median_words=30, skew="uniform"))
    names = {task.name: pl.Series([task.labels[i % len(task.labels)] for i in range(40)]) for task in TASKS}
    split = pl.Series(["train", "train", "train", "valid", "test"] * 8)
    table.with_columns(**names, split=split, patient_id=pl.col("record_id")).write_parquet(folder / "reports.parquet")
    write_tiny(folder / "base")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine.training.run, "fit", fit)
        assert main.run(command(folder, head="dpla", output="dpla")) == 0
        assert main.run(command(folder, base="dpla", head="cls")) == 0
    return folder


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Trains in this process."""
    monkeypatch.setattr(engine.training.run, "fit", fit)


def command(folder, *more, head="cls", base="base", output="model"):
    where = [f"data.path={folder}/reports.parquet", f"model.base={folder}/{base}", f"output.path={folder}/{output}"]
    small = ["train.epochs=1", "learn.max_tokens=64", "evidence_sample=3", "cluster.precision=fp32", "cluster.threads=1"]
    return ["preset=head", *where, f"model.head={head}", *small, *more]


def test_a_new_checkpoint_has_the_old_head_and_the_new_ones(trained):
    base, model = read_checkpoint(str(trained / "base")), str(trained / "model")
    checkpoints = {head: read_checkpoint(model, head) for head in (None, "pooling", "dpla", "cls")}
    assert checkpoints[None].digest == checkpoints["pooling"].digest == base.digest
    assert len({each.digest for each in checkpoints.values()}) == 3
    assert [checkpoints[head].config.head for head in ("dpla", "cls")] == ["dpla", "cls"]
    assert checkpoints["dpla"].config.tasks == base.config.tasks and checkpoints["dpla"].calibration != base.calibration
    assert not (trained / "base" / "heads").exists()
    # The states of all texts are a training's own and do not stay.
    assert sorted(path.name for path in (trained / "model" / "_training").iterdir()) == ["settings.json"]
    rows = {head: coded(coder(model, head=head), TEXTS) for head in ("dpla", "cls")}
    assert all(row["site_evidence"] for row in rows["dpla"][:3])
    assert [row["site_prob"] for row in rows["dpla"]] != [row["site_prob"] for row in rows["cls"]]
    assert coded(coder(model), TEXTS) == coded(coder(trained / "base"), TEXTS)


def test_figures_card_and_curve_lie_beside_each_head(trained):
    folder = trained / "model" / "heads" / "dpla"
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["digest"] == read_checkpoint(str(trained / "model"), "dpla").digest
    assert figures["curve"][-1]["step"] == figures["curve"][-1]["steps"] and (folder / "curve.html").is_file()
    assert "deformable" in (folder / "README.md").read_text()
    _, *chapters = (trained / "model" / "README.md").read_text().split("## Further heads")
    for head, chapter in zip(("dpla", "cls"), chapters, strict=True):
        assert [line.split(":")[0] for line in chapter.splitlines() if line.startswith("*")] == [f"* `model.head={head}`"]
        assert "\n    python -m jobs.train " in chapter
    mass = {
        head: [row["specials_mass"] for row in _evidence(trained, head) if row["method"] == "attention"]
        for head in ("dpla", "cls")
    }
    # A pool over text alone has nothing to give to special tokens; the first token's attention sees them.
    assert mass["dpla"] == [0.0] and 0 < mass["cls"][0] < 1


def test_a_head_is_measured_in_the_precision_in_which_it_learned(trained, tmp_path):
    settings = json.loads((trained / "model" / "_training" / "settings.json").read_text())["settings"]["settings"]
    tensors = load_file(trained / "model" / "heads" / "cls" / "model.safetensors")
    for precision in ("fp32", "bf16"):
        corpus = recipe.corpus({**settings, "precision": precision})
        spec = recipe.write(tmp_path / precision, corpus, tensors)
        assert spec.options == {"head": "cls", "precision": precision}


def _evidence(folder, head):
    return json.loads((folder / "model" / "heads" / head / "figures.json").read_text())["evidence"]["test"]


def test_the_same_command_again_does_nothing_and_another_is_refused(trained, capsys):
    before = (trained / "model" / "heads" / "cls" / "model.safetensors").stat().st_mtime_ns
    # As if it had been killed just after the checkpoint was there.
    (trained / "model" / "_training" / "_cache").mkdir()
    assert main.run(command(trained, base="dpla")) == 0
    assert not (trained / "model" / "_training" / "_cache").exists()
    assert "nothing to do" in capsys.readouterr().err
    assert (trained / "model" / "heads" / "cls" / "model.safetensors").stat().st_mtime_ns == before
    for reason, argv in {
        "other settings": command(trained, "train.rate=0.5", base="dpla"),
        "own head": command(trained, head="pooling", output="x"),
        "name a column for each": command(trained, "data.labels={stage: site}", "train.watch=macro_f1", output="x"),
        "keeps its encoder; set it to true": command(trained, "model.freeze_encoder=false", output="x"),
        "there is no model.base": [word for word in command(trained, output="x") if not word.startswith("model.base=")],
    }.items():
        assert main.run(argv) == 2
        message = capsys.readouterr().err
        assert reason in message and message.count("\n") == 1
    assert not (trained / "x").exists()


def test_a_killed_training_goes_on_with_the_stored_states(trained, tmp_path, monkeypatch, capsys):
    argv = command(trained, "train.checkpoint_every=1", head="target", output="target")
    real = engine.training.run.finish

    def dies(*given, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(engine.training.run, "finish", dies)
        assert main.run(argv) == 130
    assert "all steps are done; the same command goes on with measuring" in capsys.readouterr().err
    assert list((trained / "target" / "_training" / "_cache").rglob("start.npy"))
    assert engine.training.run.finish is real and main.run(argv) == 0
    assert "model.head=target" in capsys.readouterr().out
    assert read_checkpoint(str(trained / "target"), "target").config.head == "target"


def test_reports_that_have_changed_are_refused(trained, tmp_path, capsys):
    shutil.copytree(trained / "base", tmp_path / "base")
    shutil.copy(trained / "reports.parquet", tmp_path / "reports.parquet")
    assert main.run(command(tmp_path)) == 0
    table = pl.read_parquet(tmp_path / "reports.parquet")
    table.with_columns(text=pl.Series(["another", *table["text"][1:]])).write_parquet(tmp_path / "reports.parquet")
    assert main.run(command(tmp_path)) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "the input has changed since this training began" in message
    # And so is another model at the place of the base.
    shutil.copy(trained / "reports.parquet", tmp_path / "reports.parquet")
    shutil.rmtree(tmp_path / "base")
    write_tiny(tmp_path / "base", temperature=3.0)
    assert main.run(command(tmp_path)) == 2
    assert "other settings" in capsys.readouterr().err.splitlines()[-1]


def test_unusable_highlights_are_reported_and_stored_with_their_reason(trained, tmp_path, capsys):
    table = pl.read_parquet(trained / "reports.parquet")
    marks = [[{"start": 0, "end": 9}, {"start": 5, "end": 99999}] if row == 0 else None for row in range(40)]
    table.with_columns(marks=pl.Series(marks)).write_parquet(tmp_path / "reports.parquet")
    argv = [word for word in command(trained, "data.rationales=marks", output="y") if "data.path=" not in word]
    assert main.run([*argv, f"data.path={tmp_path}/reports.parquet"]) == 0
    assert "highlights: 1 rationales for train; not used: 1 outside_report" in capsys.readouterr().err
    (lost,) = pl.read_parquet(trained / "y" / "heads" / "cls" / "rejected_rationales.parquet").to_dicts()
    assert lost["origin"] == table["record_id"][0] and lost["spans"] == [{"start": 5, "end": 99999}]


def test_a_split_without_a_code_of_a_task_is_refused_before_the_work(trained, tmp_path, capsys):
    table = pl.read_parquet(trained / "reports.parquet")
    kept = pl.when(pl.col("split") != "valid").then(pl.col("histology"))
    table.with_columns(histology=kept).write_parquet(tmp_path / "reports.parquet")
    argv = [word for word in command(trained, output="x") if not word.startswith("data.path=")]
    assert main.run([*argv, f"data.path={tmp_path}/reports.parquet"]) == 2
    message = capsys.readouterr().err
    assert "no report of valid has a code of histology" in message and message.count("\n") == 1
    assert not (trained / "x").exists()


def test_a_missing_head_is_refused_with_the_names_of_the_others(trained):
    with pytest.raises(
        ConfigError, match=r"has no head target; it has pooling \(its own\), cls, dpla; .*jobs.train .*freeze_encoder=true"
    ) as caught:
        coder(trained / "model", head="target")
    assert "\n" not in str(caught.value)


def test_a_head_of_another_model_or_one_that_was_changed_is_refused(trained, tmp_path):
    model = shutil.copytree(trained / "model", tmp_path / "model")
    other = write_tiny(tmp_path / "other", temperature=3.0)
    shutil.copytree(model / "heads", other / "heads")
    with pytest.raises(ConfigError, match="has no head dpla"):
        read_checkpoint(str(other), "dpla")
    weights = model / "heads" / "dpla" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ConfigError, match="is not the file that was trained"):
        read_checkpoint(str(model), "dpla")
    assert read_checkpoint(str(model), "cls").digest == read_checkpoint(str(trained / "model"), "cls").digest


def test_a_revision_copies_all_heads_and_revises_the_named_one(trained, tmp_path):
    model = str(trained / "model")
    fitted = {task.name: TaskCalibration(1.5, 0.9) for task in TASKS}
    base = read_checkpoint(model, "dpla")
    digest = revise(base, tmp_path / "new", fitted, "another card\n")
    new = str(tmp_path / "new")
    assert digest == read_checkpoint(new, "dpla").digest != base.digest
    assert read_checkpoint(new, "dpla").calibration == fitted
    for head in (None, "cls"):
        assert read_checkpoint(new, head).digest == read_checkpoint(model, head).digest
    folder = Path(new) / "heads" / "dpla"
    assert json.loads((folder / "calibration.json").read_text())["revision_of"] == base.digest
    assert (folder / "README.md").read_text() == "another card\n"


def test_a_run_names_its_head_and_is_explained_and_calibrated_by_it(trained, tmp_path, capsys):
    from engine.models.base import load
    from jobs import calibrate, explain
    from jobs._run import run_config
    from jobs.code_reports import main

    model, output = f"{trained}/model", str(tmp_path / "run")
    words = [f"input.path={trained}/reports.parquet", "input.id=record_id", f"output.path={output}", f"model.path={model}"]
    configs = [run_config(main.configured(main.compose([*words, f"model.head={head}"], {})[0])) for head in ("null", "dpla")]
    assert configs[0].model.options["head"] is None and configs[1].model.options["head"] == "dpla"
    prints = [fingerprint(config, load(config.model)) for config in configs]
    assert prints[0]["model.digest"] != prints[1]["model.digest"] and prints[1]["model.options.head"] == "dpla"
    bench = Bench(replace(configs[1], model=replace(configs[1].model, options={**configs[1].model.options, "precision": "fp32"})))
    bench.code()
    bench.publish()
    words = [f"run={output}", f"output.path={tmp_path / 'why'}", f"model.path={model}"]
    spec = explain.run_config(explain.main.configured(explain.main.compose(words, {})[0])).model
    assert spec.options["options"]["head"] == "dpla" and load(spec).digest == prints[1]["model.digest"]
    # Labels that the head gives itself, since one of a toy model is hardly ever right.
    codes = pl.read_parquet(f"{output}/codes/*.parquet").select("record_id", site="site_code", histology="histology_code")
    pl.read_parquet(f"{trained}/reports.parquet").select("record_id", "text").join(codes, on="record_id").write_parquet(
        tmp_path / "own.parquet"
    )
    argv = [f"data.path={tmp_path}/own.parquet", f"model.path={model}", "model.head=dpla", f"output.path={tmp_path}/new"]
    lenient = ["target=0.5", "confidence=0.5", "min_support=0"]
    assert calibrate.main.run([*argv, *lenient, "precision=fp32", "threads=1"]) == 0
    assert f"model.path={tmp_path}/new model.head=dpla" in capsys.readouterr().out
    assert read_checkpoint(f"{tmp_path}/new").digest == read_checkpoint(model).digest
    assert read_checkpoint(f"{tmp_path}/new", "dpla").digest != read_checkpoint(model, "dpla").digest


def test_a_model_on_s3_has_its_heads(trained, bucket):
    from engine.models.checkpoint import publish_checkpoint

    publish_checkpoint(trained / "model", f"{bucket}/model")
    assert read_checkpoint(f"{bucket}/model", "dpla").digest == read_checkpoint(str(trained / "model"), "dpla").digest
