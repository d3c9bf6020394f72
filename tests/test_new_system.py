"""A system of one's own, built from the blocks of docs/new-system.md and put through every verb by the commands of that page."""

import importlib
import json
import os
import random
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from engine.keys import keys_of
from engine.models import checkpoint, run
from engine.models.base import recipe
from engine.pipeline import cluster, stages, work
from engine.pipeline.commit import commit
from engine.pipeline.layout import Layout
from engine.storage import storage_for
from tests.toys.train import fit

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "new-system.md").read_text()
BLOCK = re.compile(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", re.M | re.S)
COMMAND = re.compile(r"^    python -m (jobs\.\w+) ((?:.*\\\n)*.*)$", re.M)
COMMANDS = [(job, shlex.split(words.replace("\\\n", ""))) for job, words in COMMAND.findall(PAGE)]
pytestmark = pytest.mark.timeout(600)
WORDS = {"C18": ("colon", "sigmoid", "caecum"), "C34": ("lung", "bronchus", "lobe")}


def built(folder: Path) -> int:
    """Writes the blocks of the page as files, and the three tables; returns how many lines the blocks have."""
    blocks = BLOCK.findall(PAGE)
    for name, text in blocks:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, first, count in (("texts", 0, 360), ("labelled", 360, 100), ("new", 460, 60)):
        texts().slice(first, count).write_csv(folder / f"{name}.csv")
    return sum(len(text.splitlines()) for _, text in blocks)


def texts() -> pl.DataFrame:
    """Reports of a few words, one of which tells the code."""
    rng, rows = random.Random(0), []
    for number in range(520):
        code = rng.choice(list(WORDS))
        more = rng.sample(["resection", "of", "tumour", "specimen", "received", "margin", "clear", "and", "the", "with"], 5)
        rows.append((f"r{number}", " ".join([*more, rng.choice(WORDS[code])]), code))
    return pl.DataFrame(rows, ["id", "text", "site"], orient="row").with_columns(
        split=pl.Series(["train"] * 80 + ["valid"] * 220 + ["test"] * 220)
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder with the package, its configuration, tables of texts and a model trained in this process; we are in it."""
    folder = tmp_path_factory.mktemp("new")
    assert 0 < built(folder) <= 150
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        patch.setattr("engine.training.run.fit", fit)
        patch.setattr("engine.training.run.session", nullcontext)
        assert done("train", "data.split=split", "train.epochs=5") == 0
        yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "tiny"]:
        del sys.modules[name]


def done(job, *more):
    """Does the page's command of a job in this process; `more` is set beyond it."""
    (words,) = [words for name, words in COMMANDS if name == f"jobs.{job}"]
    return importlib.import_module(f"jobs.{job}").main.run([*words, *more])


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
    model, fitted = figures["model"], figures["calibration"]
    assert model["n"] == 60 and model["accuracy"] == 1.0 and fitted["threshold"] <= 1 and model["threshold"]["n"] > 0
    assert figures["auto_codes"] == ["C18", "C34"] and "**2 of the 2 codes" in (tiny / "model" / "README.md").read_text()
    found = run.rows({"a": "sigmoid colon", "b": "lobe of the lung", "c": ""}, model=str(tiny / "model")).to_pylist()
    assert [row["site_code"] for row in found] == ["C18", "C34", None]
    assert [row["decision"] for row in found] == ["auto", "auto", "failed"]
    assert found[0]["site_top"][0] == {"code": "C18", "prob": pytest.approx(found[0]["site_prob"])}
    unsure = run.rows({"a": "colon"}, model=str(tiny / "model"), options={"thresholds": {"site": 1.0}}).to_pylist()
    assert (unsure[0]["decision"], unsure[0]["reasons"]) == ("review", ["low_confidence"])


def test_the_command_that_uses_it_names_it(tiny, capsys):
    assert done("train", "data.split=split", "train.epochs=5") == 0
    assert "jobs.code_reports model.system=tiny model.path=model " in capsys.readouterr().out


def test_its_keys_are_those_of_the_base_and_its_own(tiny):
    names = [each.name for each in keys_of(recipe("tiny").Settings)]
    assert "model.width" in names and "data.labels" in names and "learn.evidence" not in names


def test_its_threshold_is_that_of_the_labelled_texts(tiny, capsys):
    assert done("calibrate", "output.path=mine") == 0
    told = capsys.readouterr().out
    assert "100 labelled reports with text, of 100 rows." in told and "after, cross-fitted coded  " in told
    sample = pl.read_csv(tiny / "labelled.csv")
    coded = run.rows(dict(sample.select("id", "text").iter_rows()), model=str(tiny / "model")).to_pylist()
    # With every answer right no temperature is the best, and all of them may be kept.
    assert [row["site_code"] for row in coded] == sample["site"].to_list()
    before, after = (checkpoint.read(name, "tiny", ("calibration.json",)) for name in ("model", "mine"))
    old, new = (found.values("calibration.json")["tasks"]["site"] for found in (before, after))
    least = min(row["site_prob"] for row in coded)
    assert (new["temperature"], new["threshold"]) == (1.0, pytest.approx(least, rel=1e-6))
    assert old["threshold"] != pytest.approx(least, rel=1e-6)
    assert after.files["model.safetensors"] == before.files["model.safetensors"] and after.digest != before.digest
    assert done("calibrate", "output.path=mine") == 2
    assert "exists; a revision is written to a new folder" in capsys.readouterr().err


def checked(folder, *methods):
    """What the verbs have written."""
    coded, gold = pl.read_parquet(folder / "coded" / "codes" / "*.parquet"), pl.read_csv(folder / "new.csv")
    assert coded.height == 60 and coded.join(gold, left_on="record_id", right_on="id")["site_code"].null_count() == 0
    assert (coded["decision"] == "auto").sum() > 50
    metrics = pl.read_parquet(folder / "evaluation" / "metrics" / "metrics.parquet")
    (accuracy,) = metrics.filter((pl.col("metric") == "accuracy") & (pl.col("slice") == "all"))["value"].to_list()
    assert accuracy == 1.0 and "C18" in (folder / "page.html").read_text()
    words = {word for several in WORDS.values() for word in several}
    said = dict(gold.select("id", "text").iter_rows())
    for method in methods:
        found = pl.read_parquet(folder / method / "explanations" / "*.parquet").filter(pl.col("targets").is_not_null())
        assert found.height >= 20
        best, gains = 0, []
        for row in found.iter_rows(named=True):
            (target,) = row["targets"]
            assert target["status"] == "ok"
            gains += [target["m_comp_aopc"] - target["m_random_comp"]] if target["m_comp_aopc"] is not None else []
            first = max(target["selected_spans"], key=lambda span: span["score"])
            best += any(word in said[row["record_id"]][first["start"] : first["end"]] for word in words)
        assert best >= 0.9 * found.height and gains and min(gains) > -0.5


def test_every_verb_takes_it(tiny, plainly):
    fast = ["explain.sample=20", "explain.faithfulness=1", "explain.stability=0"]
    more = {"jobs.evaluate": ["rounds=20"], "jobs.explain": fast}
    steps = [job for job, _ in COMMANDS if job not in ("jobs.train", "jobs.bench")]
    assert steps == [f"jobs.{job}" for job in ("calibrate", "code_reports", "status", "evaluate", "explain", "evidence_page")]
    for job in steps:
        assert done(job.removeprefix("jobs."), *more.get(job, [])) == 0
    assert done("explain", "explain.method=integrated_gradients", "output.path=gradients", *fast) == 0
    checked(tiny, "explained", "gradients")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_same_from_a_shell(tmp_path):
    built(tmp_path)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for job, words in COMMANDS:
        command = [sys.executable, "-m", job, *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr[-2000:]
    checked(tmp_path, "explained")
    assert "core: left out, " in ended.stdout and "evidence: left out, " in ended.stdout
    measured = pl.read_parquet(tmp_path / "bench.parquet")
    assert measured["part"].to_list() == ["loop", "memory", "memory", "s3"] and set(measured["benchmark"]) == {"tiny"}
    assert measured["setting"][0].startswith("64 synthetic reports, ")
