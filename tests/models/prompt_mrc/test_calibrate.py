"""Thresholds tuned on a user's marked texts: what is shown, and the revision that has them."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.evaluation.spans import measure
from engine.models.base import ModelSpec
from engine.models.entities.calibrate import Data, Settings
from engine.models.entities.tuning import ScoredTexts
from engine.models.prompt_mrc.checkpoint import read_checkpoint
from engine.models.revision import calibrate
from engine.models.run import rows
from engine.sources.labelled import Document, Span
from jobs.calibrate import main
from tests.models.prompt_mrc.conftest import World, write
from tests.sources.labelled.tables import to_table

SYSTEM = "engine.models.prompt_mrc"
OPTIONS = {"precision": "fp32", "evidence": "none"}


def documents(count, seed=9):
    world = World.make(count, seed)
    for number, (text, spans) in enumerate(zip(world.texts, world.spans, strict=True)):
        yield Document(f"t{number}", text, tuple(Span(**span) for span in spans), "made", "valid" if number % 2 else "test")


def saved(path, *texts):
    pq.write_table(to_table(texts), path)
    return str(path)


@pytest.fixture(scope="module")
def strict(learned, tmp_path_factory):
    """A checkpoint whose thresholds are too high."""
    return write(learned, tmp_path_factory.mktemp("strict") / "model", start=0.97, end=0.97, match=0.97)


def product(model, texts):
    """Exact figures of the product's entities."""
    answers = rows({each.record_id: each.text for each in texts}, system=SYSTEM, model=str(model), options=OPTIONS).to_pylist()
    predicted = {row["record_id"]: [(each["start"], each["end"], each["type"]) for each in row["entities"]] for row in answers}
    gold = {each.record_id: [(span.start, span.end, span.type) for span in each.spans] for each in texts}
    return measure(gold, predicted, rounds=0)


def test_thresholds_change_and_the_weights_stay(strict, tmp_path):
    texts = list(documents(40))
    settings = Settings(data=Data(saved(tmp_path / "marked.parquet", *texts)), precision="fp32", folds=4)
    lines, spec = [], ModelSpec(SYSTEM, str(strict), {}, {"threads": 1})
    calibrate(spec, settings, str(tmp_path / "new"), lambda line: None, lines.append)
    before, after = read_checkpoint(str(strict)), read_checkpoint(str(tmp_path / "new"))
    own, new = product(strict, texts), product(tmp_path / "new", texts)
    revised = json.loads((tmp_path / "new" / "decoding.json").read_text())
    figures = revised["figures"]
    # The figures before are those of the product.
    assert figures["before"] == {name: own[name] for name in ("precision", "recall", "f1")}
    assert own["f1"] < figures["cross_fitted"]["f1"] <= new["f1"]
    assert figures["sample"] == {"texts": 40, "mentions": sum(len(each.spans) for each in texts), "folds": 4}
    assert after.digest != before.digest and after.decoding != before.decoding
    assert replace(after.decoding, start=0.97, end=0.97, match=0.97) == before.decoding
    for name in ("model.safetensors", "prompts.safetensors", "templates.json", "config.json", "tokenizer.json"):
        assert (tmp_path / "new" / name).read_bytes() == (strict / name).read_bytes()
    assert revised["revision_of"] == before.digest
    card, text = (tmp_path / "new" / "README.md").read_text(), "\n".join(lines)
    assert before.digest in card and "after, cross-fitted" in card and card.endswith("a card\n")
    assert "40 texts with" in text and f"exact F1 {own['f1']:.3f}" in text and "thresholds: start 0.97 -> " in text
    assert f"Revision {after.digest[:12]} of {before.digest[:12]}" in text
    # The card goes wherever the model goes, and contains no word of the texts.
    assert not any(word in card for word in ("apple", "plum", "t0"))


def test_each_text_is_decoded_by_thresholds_that_were_tuned_on_others(strict, tmp_path, monkeypatch):
    tuned_on, decoded = [], []
    tune, predict = ScoredTexts.tune, ScoredTexts.predict

    def watched_tune(self, decoding, rows):
        tuned_on.append(set(rows.tolist()))
        return tune(self, decoding, rows)

    def watched_predict(self, decoding, rows):
        decoded.append(set(rows.tolist()))
        return predict(self, decoding, rows)

    monkeypatch.setattr(ScoredTexts, "tune", watched_tune)
    monkeypatch.setattr(ScoredTexts, "predict", watched_predict)
    texts = list(documents(30))
    # The last text equals the first one, and must be in the same part.
    texts.append(replace(texts[0], record_id="again"))
    settings = Settings(data=Data(saved(tmp_path / "marked.parquet", *texts)), precision="fp32", folds=3)
    calibrate(ModelSpec(SYSTEM, str(strict)), settings, str(tmp_path / "new"), lambda line: None, lambda line: None)
    assert tuned_on[0] == decoded[0] == set(range(31)) and len(tuned_on) == len(decoded) == 4
    for others, held in zip(tuned_on[1:], decoded[1:], strict=True):
        assert not others & held and others | held == set(range(31))
        assert (0 in held) == (30 in held)


def test_too_few_mentions_are_refused_in_one_line(strict, tmp_path):
    settings = Settings(data=Data(saved(tmp_path / "marked.parquet", *documents(4))), precision="fp32")
    with pytest.raises(ConfigError, match=r"data.path: \d+ marked mentions of the model's types in 4 different texts: too few"):
        calibrate(ModelSpec(SYSTEM, str(strict)), settings, str(tmp_path / "new"), print, print)
    assert not (tmp_path / "new").exists()


def test_the_job_calibrates_an_extractor(strict, tmp_path, capsys):
    (tmp_path / "brat").mkdir()
    for each in documents(40):
        marks = [(span.start, span.end, {"A": "Fruit"}.get(span.type, span.type)) for span in each.spans]
        lines = [f"T{n}\t{kind} {start} {end}\t{each.text[start:end]}\n" for n, (start, end, kind) in enumerate(marks, 1)]
        (tmp_path / "brat" / f"{each.record_id}.txt").write_text(each.text)
        (tmp_path / "brat" / f"{each.record_id}.ann").write_text("".join(lines))
    words = [f"model.path={strict}", f"data.path={tmp_path / 'brat'}", f"output.path={tmp_path / 'new'}", "precision=fp32"]
    # The checkpoint names its system.
    assert main.run(words) == 2
    error = capsys.readouterr().err
    assert "is a model of engine.models.prompt_mrc and not of engine.models.site_classifier; set model.system=" in error
    assert len(error.strip().splitlines()) == 1
    assert main.run([*words, "model=prompt_mrc", "target=0.9"]) == 2
    assert "unknown key 'target'" in capsys.readouterr().err
    assert main.run([*words, "model=prompt_mrc", "data.types={Fruit: A}", "folds=2", "threads=1"]) == 0
    printed = capsys.readouterr()
    assert "40 texts with" in printed.out and "\nA, " in printed.out and "  after, cross-fitted exact F1 " in printed.out
    assert f"To use it: model.path={tmp_path / 'new'}" in printed.out and "scored 40 of 40" in printed.err
    figures = json.loads((tmp_path / "new" / "decoding.json").read_text())["figures"]
    assert figures["before"]["f1"] < figures["cross_fitted"]["f1"] and figures["sample"]["folds"] == 2
    assert main.run([*words, "model=prompt_mrc"]) == 2
    assert "exists; a revision is written to a new folder" in capsys.readouterr().err
