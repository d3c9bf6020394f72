"""Thresholds set on texts that a user marked: what is shown of them, and the revision that has them."""

import json
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.evaluation.spans import measure
from engine.models.base import ModelSpec
from engine.models.prompt_mrc import revision
from engine.models.prompt_mrc.calibrate import Data, Settings
from engine.models.prompt_mrc.checkpoint import read_checkpoint
from engine.models.prompt_mrc.revision import sample_of
from engine.models.revision import calibrate
from engine.models.run import rows
from engine.sources.labelled import Document, Span
from jobs.calibrate import main
from tests.models.prompt_mrc.conftest import World, write
from tests.sources.labelled.tables import to_table

SYSTEM = "engine.models.prompt_mrc"
OPTIONS = {"precision": "fp32", "evidence": "none", "margins": 0.0}


def documents(count, seed=9):
    world = World.make(count, seed)
    for number, (text, spans) in enumerate(zip(world.texts, world.spans, strict=True)):
        yield Document(f"t{number}", text, tuple(Span(**span) for span in spans), "made", "valid" if number % 2 else "test")


def saved(path, *some):
    pq.write_table(to_table(some), path)
    return str(path)


@pytest.fixture(scope="module")
def strict(learned, tmp_path_factory):
    """A checkpoint whose own thresholds leave out much of what it finds."""
    return write(learned, tmp_path_factory.mktemp("strict") / "model", start=0.97, end=0.97, match=0.97)


def product(model, made):
    """Exact figures of what the product finds."""
    found = rows({each.record_id: each.text for each in made}, system=SYSTEM, model=str(model), options=OPTIONS).to_pylist()
    said = {row["record_id"]: [(each["start"], each["end"], each["type"]) for each in row["entities"]] for row in found}
    gold = {each.record_id: [(span.start, span.end, span.type) for span in each.spans] for each in made}
    return measure(gold, said, rounds=0)


def test_thresholds_are_set_and_the_weights_stay(strict, tmp_path):
    made = list(documents(40))
    settings = Settings(data=Data(saved(tmp_path / "marked.parquet", *made)), precision="fp32", folds=4)
    told, spec = [], ModelSpec(SYSTEM, str(strict), {}, {"threads": 1})
    calibrate(spec, settings, str(tmp_path / "new"), lambda line: None, told.append)
    before, after = read_checkpoint(str(strict)), read_checkpoint(str(tmp_path / "new"))
    own, new = product(strict, made), product(tmp_path / "new", made)
    # What is shown as before is what the product finds.
    assert after.figures["before"] == {name: own[name] for name in ("precision", "recall", "f1")}
    assert own["f1"] < after.figures["cross_fitted"]["f1"] <= new["f1"]
    assert after.figures["sample"] == {"texts": 40, "mentions": sum(len(each.spans) for each in made), "folds": 4}
    assert after.digest != before.digest and after.decoding != before.decoding
    assert replace(after.decoding, start=0.97, end=0.97, match=0.97) == before.decoding
    for name in ("model.safetensors", "prompts.safetensors", "templates.json", "config.json", "tokenizer.json"):
        assert (tmp_path / "new" / name).read_bytes() == (strict / name).read_bytes()
    assert json.loads((tmp_path / "new" / "decoding.json").read_text())["revision_of"] == before.digest
    card, text = (tmp_path / "new" / "README.md").read_text(), "\n".join(told)
    assert before.digest in card and "after, cross-fitted" in card and card.endswith("a card\n")
    assert "40 texts with" in text and f"exact F1 {own['f1']:.3f}" in text and "thresholds: start 0.97 -> " in text
    assert f"Revision {after.digest[:12]} of {before.digest[:12]}" in text
    # Nothing that the texts say stands in what travels.
    assert not any(word in card for word in ("apple", "plum", "t0"))


def test_each_text_is_decoded_by_thresholds_that_have_not_seen_it(strict, tmp_path, monkeypatch):
    seen, found = [], []
    tuned, finds = revision.Scored.tuned, revision.Scored.found

    def watched(self, decoding, tagger, texts):
        seen.append(set(texts.tolist()))
        return tuned(self, decoding, tagger, texts)

    def used(self, decoding, texts):
        found.append(set(texts.tolist()))
        return finds(self, decoding, texts)

    monkeypatch.setattr(revision.Scored, "tuned", watched)
    monkeypatch.setattr(revision.Scored, "found", used)
    made = list(documents(30))
    # The last text is the first one again, and goes wherever that goes.
    made.append(replace(made[0], record_id="again"))
    settings = Settings(data=Data(saved(tmp_path / "marked.parquet", *made)), precision="fp32", folds=3)
    calibrate(ModelSpec(SYSTEM, str(strict)), settings, str(tmp_path / "new"), lambda line: None, lambda line: None)
    assert seen[0] == found[0] == set(range(31)) and len(seen) == len(found) == 4
    for learned_from, held in zip(seen[1:], found[1:], strict=True):
        assert not learned_from & held and learned_from | held == set(range(31))
        assert (0 in held) == (30 in held)


def test_too_few_mentions_are_refused_in_one_line(strict, tmp_path):
    settings = Settings(data=Data(saved(tmp_path / "marked.parquet", *documents(4))), precision="fp32")
    with pytest.raises(ConfigError, match=r"data.path: \d+ marked mentions of the model's types in 4 different texts: too few"):
        calibrate(ModelSpec(SYSTEM, str(strict)), settings, str(tmp_path / "new"), print, print)
    assert not (tmp_path / "new").exists()


def test_types_go_by_the_models_names(tmp_path):
    text = "old red plum hill"
    made = [
        Document("a", text, (Span(4, 12, "Fruit"), Span(4, 12, "A"), Span(0, 3, "Age")), "one", "valid"),
        Document("b", text, (Span(13, 17, "B"),), "two", "test"),
    ]
    path = saved(tmp_path / "marked.parquet", *made)
    sample, lines = sample_of(Data(path, types={"Fruit": "A"}), ["A", "B"])
    # Two names of one type are one mention; in another dataset nobody looked for it.
    assert sample.marked == [[(4, 12, "A")], [(13, 17, "B")]] and sample.mentions == 2
    assert [each & {"A", "B"} for each in sample.known] == [{"A"}, {"B"}] and len(set(sample.groups)) == 1
    assert lines == ["Age: no type of the model, left out."]
    assert sample_of(Data(path, split="test"), ["A", "B"])[0].ids == ["b"]
    for types, wrong in [({"C": "A"}, "nobody marked a 'C'"), ({"Age": "C"}, "the model has no type 'C'; it has A, B")]:
        with pytest.raises(ConfigError, match=f"data.types: {wrong}"):
            sample_of(Data(path, types=types), ["A", "B"])
    with pytest.raises(ConfigError, match=r"data.path: none of the marked types"):
        sample_of(Data(path), ["Disease"])


def test_the_door_takes_an_extractor(strict, tmp_path, capsys):
    (tmp_path / "brat").mkdir()
    for each in documents(40):
        marks = [(span.start, span.end, {"A": "Fruit"}.get(span.type, span.type)) for span in each.spans]
        lines = [f"T{n}\t{kind} {start} {end}\t{each.text[start:end]}\n" for n, (start, end, kind) in enumerate(marks, 1)]
        (tmp_path / "brat" / f"{each.record_id}.txt").write_text(each.text)
        (tmp_path / "brat" / f"{each.record_id}.ann").write_text("".join(lines))
    words = [f"model.path={strict}", f"data.path={tmp_path / 'brat'}", f"output.path={tmp_path / 'new'}", "precision=fp32"]
    # The checkpoint says whose it is.
    assert main.run(words) == 2
    told = capsys.readouterr().err
    assert "is a model of engine.models.prompt_mrc and not of engine.models.site_classifier; set model.system=" in told
    assert len(told.strip().splitlines()) == 1
    assert main.run([*words, "model=prompt_mrc", "target=0.9"]) == 2
    assert "unknown key 'target'" in capsys.readouterr().err
    assert main.run([*words, "model=prompt_mrc", "data.types={Fruit: A}", "folds=2", "threads=1"]) == 0
    printed = capsys.readouterr()
    assert "40 texts with" in printed.out and "\nA, " in printed.out and "  after, cross-fitted exact F1 " in printed.out
    assert f"To use it: model.path={tmp_path / 'new'}" in printed.out and "scored 40 of 40" in printed.err
    figures = read_checkpoint(str(tmp_path / "new")).figures
    assert figures["before"]["f1"] < figures["cross_fitted"]["f1"] and figures["sample"]["folds"] == 2
    assert main.run([*words, "model=prompt_mrc"]) == 2
    assert "exists; a revision is written to a new folder" in capsys.readouterr().err
