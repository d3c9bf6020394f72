"""Encoders of the hub from the command line: the commands of docs/models.md as they stand there, and workers that fetch."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import torch

from engine.encoders import encoder_folder, load_encoder
from engine.sources.synthetic import generate
from tests.hub import Hub
from tests.models.conftest import tiny_config, write_tiny
from tests.models.prompt_mrc.conftest import World
from tests.models.prompt_mrc.test_recipe import documents
from tests.published import bert, byte_level, words_of
from tests.sources.labelled.tables import to_table
from tests.toys.nodes import ROOT, nodes

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8").split("\n## The papers' own encoders\n")[1].split("\n# ")[0]
COMMANDS = [shlex.split(line) for line in re.findall(r"^    marginalia (.+)$", PAGE, re.MULTILINE)]


def run(words: Iterable[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-m", "jobs", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def of(model: str) -> list[list[str]]:
    """The two commands of a paper: the conversion and the training."""
    train = next(words for words in COMMANDS if f"model={model}" in words)
    return [COMMANDS[COMMANDS.index(train) - 1], train]


def hub_name(convert: list[str]) -> tuple[str, str]:
    """Id and commit of the encoder that a command converts."""
    return re.fullmatch(r"encoder=hub:(.+)@([0-9a-f]{40})", convert[1]).groups()


def asked(hub: Hub) -> int:
    count = len(hub.requests)
    hub.requests.clear()
    return count


def test_clf_dpla_with_windows_of_4096_tokens(hub: Hub, tmp_path: Path) -> None:
    convert, train = of("site_classifier")
    assert {"model.window=4094", "model.head=dpla", "model.rank=0"} <= {*train}
    table = pl.from_arrow(generate(30, 3, median_words=40, skew="uniform"))
    # The first report fills more than one window.
    texts = [text * (120 if number == 0 else 1) for number, text in enumerate(table["text"].to_list())]
    site = ["C18", "C34"] * 15
    split = [("train", "train", "train", "valid", "test")[number // 2 % 5] for number in range(30)]
    columns = {"record_id": table["record_id"], "text": texts, "site": site, "patient_id": table["record_id"], "split": split}
    pl.DataFrame(columns).write_parquet(tmp_path / "reports.parquet")
    marks = {"record_id": table["record_id"], "start": [0] * 30, "end": [len(text.split()[0]) for text in texts]}
    pl.DataFrame(marks).write_parquet(tmp_path / "highlights.parquet")
    repo, commit = hub_name(convert)
    hub.publish(repo, byte_level(tmp_path / "published", "Longformer", texts, positions=4098), commit)
    assert "cased" not in run(convert, tmp_path).stdout and asked(hub) > 0
    done = run([*train, "train.epochs=1", "evidence_sample=1", "baseline=false"], tmp_path)
    assert "rationales for train" in done.stderr and asked(hub) == 0
    figures = json.loads((tmp_path / "clf_dpla" / "figures.json").read_text())
    assert figures["examples"]["rationale train"] > 0, figures["examples"]
    read = ["input.path=reports.parquet", "input.id=record_id", "model.path=clf_dpla", "output.path=coded", "max_failed=0"]
    run(["code_reports", *read], tmp_path)
    rows = pl.read_parquet(tmp_path / "coded" / "codes" / "*.parquet")
    assert rows.height == 30 and rows["site_evidence"].list.len().min() > 0 and asked(hub) == 0


def test_prompt_biomrc_with_biobert(hub: Hub, tmp_path: Path) -> None:
    convert, train = of("prompt_mrc")
    (tmp_path / "marked").mkdir()
    # Types that the built-in templates know.
    names = {"A": "Disease", "B": "Chemical"}
    texts = [replace(each, spans=tuple(replace(span, type=names[span.type]) for span in each.spans)) for each in documents(60)]
    pq.write_table(to_table(texts), tmp_path / "marked" / "texts.parquet")
    repo, commit = hub_name(convert)
    hub.publish(repo, bert(tmp_path / "published", words_of(World.make(60).texts)), commit)
    assert asked(hub) == 0
    run(convert, tmp_path)
    assert asked(hub) > 0
    run([*train, "train.epochs=1", "model.prompt_room=300", "model.window=100"], tmp_path)
    pl.DataFrame({"record_id": ["a"], "text": [texts[0].text]}).write_parquet(tmp_path / "new.parquet")
    read = ["input.path=new.parquet", "input.id=record_id", "model.path=biobert_mrc", "output.path=found", "max_failed=0"]
    run(["extract_entities", *read], tmp_path)
    assert pl.read_parquet(tmp_path / "found" / "entities" / "*.parquet").height == 1 and asked(hub) == 0


def usable(folder: Path) -> Path:
    """A published encoder that needs no conversion."""
    load_encoder("tiny:bert", torch.float32, "eager").save_pretrained(folder)
    shutil.copy(encoder_folder("tiny:bert") / "tokenizer.json", folder)
    return folder


def test_a_training_fetches_the_encoder_that_it_names_and_the_next_one_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    table = pl.from_arrow(generate(60, 3, median_words=30, skew="uniform"))
    split = [("train", "train", "train", "valid", "test")[number % 5] for number in range(60)]
    table.with_columns(split=pl.Series(split), patient_id="record_id").write_parquet(tmp_path / "reports.parquet")
    words = ["train", "model=site_classifier", "data.path=reports.parquet", "model.rank=2", "model.window=30", "train.epochs=1"]
    words += ["baseline=false", "evidence_sample=1", "data.labels={site: site}", "cluster.precision=fp32", "cluster.threads=1"]
    name = hub.publish("org/tiny", usable(tmp_path / "published"))
    for encoder, output, asks in (("tiny:bert", "a", False), (name, "b", True), (name, "c", False)):
        run([*words, f"model.encoder={encoder}", f"output.path={output}"], tmp_path)
        assert bool(asked(hub)) == asks, output
    hub.stop()
    read = ["input.path=reports.parquet", "input.id=record_id", "model.path=b", "output.path=coded", "max_failed=0"]
    run(["code_reports", *read], tmp_path)
    assert pl.read_parquet(tmp_path / "coded" / "codes" / "*.parquet").height == 60


def test_a_node_fetches_what_its_own_cache_lacks(hub: Hub, tmp_path: Path) -> None:
    name = hub.publish("org/tiny", usable(tmp_path / "published"))
    model = write_tiny(tmp_path / "model", tiny_config(encoder=name))
    driver, node = Path(os.environ["HF_HUB_CACHE"]), tmp_path / "node_cache"
    assert asked(hub) > 0 and driver.is_dir()
    pl.DataFrame({"record_id": ["a", "b"], "text": ["Colon: adenocarcinoma.", "Lung, left."]}).write_parquet(
        tmp_path / "r.parquet"
    )
    # Full paths, since a node stands in another folder than the command.
    read = [f"input.path={tmp_path}/r.parquet", "input.id=record_id", f"model.path={model}", f"output.path={tmp_path}/coded"]
    with nodes({"num_cpus": 2}, environment={"HF_HUB_CACHE": str(node)}) as found:
        run(["code_reports", *read], tmp_path, **{**found.environment, "HF_HUB_CACHE": str(driver)})
    assert pl.read_parquet(tmp_path / "coded" / "codes" / "*.parquet").height == 2
    assert asked(hub) > 0 and list(node.glob("models--org--tiny/snapshots/*/model.safetensors"))
