"""A system of one's own, built from the blocks of docs/new-system.md and put through every verb."""

import json
import os
import random
import re
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from engine.keys import keys_of
from engine.models import run
from engine.models.base import recipe
from engine.pipeline import cluster, stages, work
from engine.pipeline.commit import commit
from engine.pipeline.layout import Layout
from engine.storage import storage_for
from jobs import calibrate, code_reports, evaluate, evidence_page, explain, status, train
from tests.toys.train import fit

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)
pytestmark = pytest.mark.timeout(600)
WORDS = {"C18": ("colon", "sigmoid", "caecum"), "C34": ("lung", "bronchus", "lobe")}


def built(folder: Path) -> int:
    """Writes the blocks of the page as files; returns how many lines they have."""
    blocks = BLOCK.findall((ROOT / "docs" / "new-system.md").read_text())
    for name, text in blocks:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return sum(len(text.splitlines()) for _, text in blocks)


def texts() -> pl.DataFrame:
    """Reports of a few words, one of which tells the code."""
    rng, rows = random.Random(0), []
    for number in range(360):
        code = rng.choice(list(WORDS))
        more = rng.sample(["resection", "of", "tumour", "specimen", "received", "margin", "clear", "and", "the", "with"], 5)
        rows.append((f"r{number}", " ".join([*more, rng.choice(WORDS[code])]), code))
    return pl.DataFrame(rows, ["id", "text", "site"], orient="row").with_columns(
        split=pl.Series(["train"] * 80 + ["valid"] * 220 + ["test"] * 60)
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder with the package, its configuration, a table of texts and a model trained in this process."""
    folder = tmp_path_factory.mktemp("new")
    lines = built(folder)
    assert 0 < lines <= 150
    texts().write_csv(folder / "texts.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr("engine.training.run.fit", fit)
        patch.setattr("engine.training.run.session", nullcontext)
        assert train.main.run(training(folder)) == 0
        yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "tiny"]:
        del sys.modules[name]


def training(folder):
    words = [
        "data.id=id",
        "data.split=split",
        "data.labels={site: site}",
        "train.rate=0.05",
        "train.epochs=5",
        "cluster.threads=1",
    ]
    return [*common(folder), f"data.path={folder}/texts.csv", f"output.path={folder}/model", *words]


def common(folder):
    return ["--config-dir", f"{folder}/conf", "model=tiny"]


def coding(folder):
    words = [f"model.path={folder}/model", f"input.path={folder}/texts.csv", "input.id=id", f"output.path={folder}/coded"]
    return [*common(folder), *words, "cluster.actors=1", "cluster.threads=1"]


def calibrating(folder):
    words = [f"model.path={folder}/model", f"data.path={folder}/texts.csv", "data.id=id", "data.where={split: valid}"]
    return [*common(folder), *words, f"output.path={folder}/revised", "target=0.9", "method=isotonic", "threads=1"]


def evaluating(folder):
    gold = [f"run={folder}/coded", f"gold={folder}/texts.csv", "where={split: test}", "rounds=20"]
    return [*gold, f"model.path={folder}/model", f"output.path={folder}/evaluation"]


def explaining(folder, method):
    words = [f"run={folder}/coded", f"model.path={folder}/model", f"explain.method={method}", f"output.path={folder}/{method}"]
    return [*words, "explain.sample=20", "explain.faithfulness=1", "explain.stability=0", "cluster.actors=1", "cluster.threads=1"]


@pytest.fixture
def plainly(monkeypatch):
    """Runs in this process, without Ray."""

    def receipts(todo, job, *_):
        for planned in todo:
            table = work.code(job, run.system_of(job.model), planned.shard)
            facts = {"bytes": planned.bytes, "seconds": {}, "model_at": datetime.now(UTC).isoformat()}
            yield commit(storage_for(job.output), Layout(job.output), planned.name, 1, table, **facts)

    monkeypatch.setattr(stages, "receipts", receipts)
    monkeypatch.setattr(cluster, "connected", lambda _: nullcontext())


def test_it_is_trained_and_answers(tiny):
    figures = json.loads((tiny / "model" / "figures.json").read_text())["tasks"]["site"]
    assert figures["n"] == 60 and figures["accuracy"] == 1.0 and figures["threshold"] <= 1 and figures["sure"] > 0
    found = run.rows({"a": "sigmoid colon", "b": "lobe of the lung", "c": ""}, model=str(tiny / "model")).to_pylist()
    assert [row["site_code"] for row in found] == ["C18", "C34", None]
    assert [row["decision"] for row in found] == ["auto", "auto", "failed"]
    assert found[0]["site_top"][0] == {"code": "C18", "prob": pytest.approx(found[0]["site_prob"])}
    unsure = run.rows({"a": "colon"}, model=str(tiny / "model"), options={"thresholds": {"site": 1.0}}).to_pylist()
    assert (unsure[0]["decision"], unsure[0]["reasons"]) == ("review", ["low_confidence"])


def test_the_command_that_uses_it_names_it(tiny, capsys):
    assert train.main.run(training(tiny)) == 0
    assert f"jobs.code_reports model.system=tiny model.path={tiny}/model " in capsys.readouterr().out


def test_its_keys_are_those_of_the_base_and_its_own(tiny):
    names = [each.name for each in keys_of(recipe("tiny").Settings)]
    assert "model.width" in names and "data.labels" in names and "learn.evidence" not in names


def checked(folder):
    """What the verbs have written."""
    coded = pl.read_parquet(folder / "coded" / "codes" / "*.parquet")
    gold = texts()
    assert coded.height == gold.height and coded.join(gold, left_on="record_id", right_on="id")["site_code"].null_count() == 0
    metrics = pl.read_parquet(folder / "evaluation" / "metrics" / "metrics.parquet")
    (accuracy,) = metrics.filter((pl.col("metric") == "accuracy") & (pl.col("slice") == "all"))["value"].to_list()
    assert accuracy == 1.0
    words = {word for several in WORDS.values() for word in several}
    said = dict(gold.select("id", "text").iter_rows())
    for method in ("occlusion", "integrated_gradients"):
        found = pl.read_parquet(folder / method / "explanations" / "*.parquet").filter(pl.col("targets").is_not_null())
        assert found.height == 20 and set(found["decision"]) == {"auto"}
        best = 0
        for row in found.iter_rows(named=True):
            (target,) = row["targets"]
            assert target["status"] == "ok" and target["m_comp_aopc"] > target["m_random_comp"] - 0.5
            first = max(target["selected_spans"], key=lambda span: span["score"])
            best += any(word in said[row["record_id"]][first["start"] : first["end"]] for word in words)
        assert best >= 18


def test_every_verb_takes_it(tiny, plainly, capsys):
    assert code_reports.main.run(coding(tiny)) == 0
    assert status.main.run([f"output.path={tiny}/coded"]) == 0
    assert evaluate.main.run(evaluating(tiny)) == 0
    for method in ("occlusion", "integrated_gradients"):
        assert explain.main.run(explaining(tiny, method)) == 0
    page = [f"input.path={tiny}/texts.csv", f"output.path={tiny}/coded", f"page.path={tiny}/page.html"]
    assert evidence_page.main.run(page) == 0 and "C18" in (tiny / "page.html").read_text()
    checked(tiny)


def test_a_user_calibrates_it(tiny, capsys):
    assert calibrate.main.run(calibrating(tiny)) == 0
    told = capsys.readouterr().out
    assert "220 labelled reports with text" in told and "2 of 2 codes can be coded without a person" in told
    old, new = (run.rows({"a": "sigmoid"}, model=str(tiny / name)).to_pylist()[0] for name in ("model", "revised"))
    assert (old["site_code"], new["site_code"], new["decision"]) == ("C18", "C18", "auto")
    assert old["site_prob"] != new["site_prob"] and new["model_digest"][:12] in told


@pytest.mark.long
def test_the_same_from_a_shell(tmp_path):
    built(tmp_path)
    texts().write_csv(tmp_path / "texts.csv")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    orders = {"train": training(tmp_path), "code_reports": coding(tmp_path), "evaluate": evaluating(tmp_path)}
    orders["calibrate"] = calibrating(tmp_path)
    steps = [*orders.items(), *(("explain", explaining(tmp_path, method)) for method in ("occlusion", "integrated_gradients"))]
    for job, words in steps:
        command = [sys.executable, "-m", f"jobs.{job}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
    checked(tmp_path)
