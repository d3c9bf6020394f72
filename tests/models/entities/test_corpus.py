"""What a training does not learn from: unusable texts and marks that become no span, counted and reported."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.models.entities.corpus import load_corpus
from engine.models.entities.settings import EntityData
from engine.models.prompt_mrc.recipe import RECIPE
from engine.sources.labelled import Document, Span
from engine.training.loop import Worker, train
from jobs.train import main
from tests.models.prompt_mrc.test_recipe import LOOP, finish, job_keys, learner_of, settings, write

IOBES = "iob2: the tag of token {} is none of O, B-<type>, I-<type>"


def sound(count, *splits):
    return [Document(f"{each}{at}", "an old man", (Span(3, 10, "A"),), "d", each) for each in splits for at in range(count)]


def flagged(split, *reasons):
    return [Document(f"{split}-x{at}", "", (), "d", split, broken=each) for at, each in enumerate(reasons)]


def arguments(path, folder, *more):
    keys = [each for each in job_keys() if not each.startswith("model.questions")]
    return ["model=prompt_mrc", f"data.path={path}", f"output.path={folder / 'model'}", *keys, *more]


def test_unusable_texts_are_reported_with_their_reasons(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "a.parquet", sound(3, "train", "valid", "test"), flagged("train", IOBES.format(2), IOBES.format(7)))
    corpus = load_corpus(EntityData(path))
    assert (corpus.broken.count, corpus.broken.texts, corpus.counts()["broken"]) == (2, 11, 2)
    monkeypatch.setattr("engine.training.run._finished", lambda *arguments: {"test": {}, "examples": {}})
    assert main.run(arguments(path, tmp_path, "model.questions={A: which man}")) == 0
    lines = capsys.readouterr().err.splitlines()
    assert f"2 of 11 texts cannot be used: {IOBES.format(2)} (2, the first is 'train-x0')" in lines


def test_the_card_and_the_figures_have_what_is_left_out(tmp_path):
    """Two unusable texts, and a type in several pieces that is not learned."""
    texts = sound(3, "train", "valid", "test")
    texts[0] = replace(texts[0], spans=(*texts[0].spans, Span(0, 2, "B", "g"), Span(7, 10, "B", "g")))
    path = write(tmp_path / "a.parquet", texts, flagged("test", IOBES.format(2), IOBES.format(7)))
    values = settings(path, {"types": ["A"]}, questions={"A": "which man"})
    train(learner_of(values, tmp_path), LOOP, Worker(), tmp_path)
    finish(values, tmp_path / "last", tmp_path / "model")
    figures, card = (tmp_path / "model" / name for name in ("figures.json", "README.md"))
    values = json.loads(figures.read_text())
    assert values["broken"] == {"texts": 11, "count": 2, "reasons": {IOBES.format("N"): 2}}
    assert values["in_pieces"] == {"lost": 0, "mentions": 9}
    assert f"2 of 11 texts cannot be used: `{IOBES.format('N')}` (2)." in card.read_text()
    assert "test-x0" not in card.read_text() + figures.read_text() and "several pieces" not in card.read_text()


def test_no_span_is_longer_than_the_longest_marked_one_of_train(tmp_path):
    texts = sound(3, "train", "valid", "test")
    texts[1] = replace(texts[1], text="an old, old man", spans=(Span(0, 15, "A"),))
    texts[4] = replace(texts[4], text="an old, old, old man", spans=(Span(0, 20, "A"),))
    corpus = RECIPE.corpus(settings(write(tmp_path / "a.parquet", texts), questions={"A": "which man"}))
    # A comma is a word.
    assert corpus.decoding.longest == corpus.preparation().facts["longest"] == 5
    marked = "a " * 40
    texts[1] = replace(texts[1], text=marked, spans=(Span(0, 79, "A"),))
    corpus = RECIPE.corpus(settings(write(tmp_path / "b.parquet", texts), questions={"A": "which man"}))
    assert corpus.decoding.longest == 30


def test_a_corpus_that_is_mostly_unusable_is_refused(tmp_path):
    """In IOBES every mention ends with E- or S-, so that the rest has no mention."""
    tags = [["O", "S-A"]] * 3 + [["B-A", "E-A"]] * 2 + [["O", "O"]] * 4
    table = pa.table({"record_id": [f"r{at}" for at in range(9)], "tokens": [["secret", "ab"]] * 9, "tags": tags})
    pq.write_table(table, tmp_path / "a.parquet")
    message = (
        rf"^data.path: 5 of 9 texts cannot be used: {IOBES.format(2)} \(5, the first is 'r0'\); .*mend them or take them out$"
    )
    with pytest.raises(ConfigError, match=message) as caught:
        load_corpus(EntityData(str(tmp_path / "a.parquet")))
    assert "secret" not in str(caught.value)
    half = write(tmp_path / "half.parquet", sound(1, "train", "valid", "test"), flagged("train", "x", "y", "z"))
    assert load_corpus(EntityData(half)).broken.count == 3


@pytest.mark.parametrize("types", [(), ("A",)])
def test_a_split_without_a_usable_text_says_why(tmp_path, types):
    texts = [*sound(3, "valid", "test"), *flagged("test", "x"), *flagged("train", "no text", "no text")]
    path = write(tmp_path / "a.parquet", texts)
    message = r"no usable texts of train; 2 of 2 texts cannot be used: no text \(2, the first is 'train-x0'\)$"
    with pytest.raises(ConfigError, match=message):
        load_corpus(EntityData(path, types=types))
    alone = write(tmp_path / "b.parquet", sound(3, "valid", "test"))
    with pytest.raises(ConfigError, match=r"no usable texts of train$"):
        load_corpus(EntityData(alone))


ARTICLE = """<article><articleinfo><bibliomisc>{}</bibliomisc></articleinfo><title><sentence>the <cons sem="G#{}_x">man</cons>
<cons sem="({})"><cons>CD4</cons> and <cons>CD8</cons> cells</cons></sentence></title></article>"""


def test_coordinations_are_counted_for_the_types_and_texts_that_are_used(tmp_path, monkeypatch, capsys):
    cells, mixed, tissue = "AND G#cell_type G#cell_type", "OR G#DNA_x (AND G#protein_x G#tissue)", "AND G#tissue G#tissue"
    for split in ("train", "valid", "test"):
        (tmp_path / "corpus" / split).mkdir(parents=True)
        articles = [ARTICLE.format(f"{split}{at}", "DNA", each) for at, each in enumerate((cells, mixed, mixed, tissue))]
        (tmp_path / "corpus" / split / "a.xml").write_text(f"<set>{''.join(articles)}</set>")
    path = str(tmp_path / "corpus")
    assert load_corpus(EntityData(path)).coordinated == 6  # cell_type occurs only in coordinations, so it is no type here
    assert load_corpus(EntityData(path, types=["DNA"])).coordinated == 6
    half = load_corpus(EntityData(path, share=0.5))
    ids = {each.record_id for each in half.documents}
    assert half.coordinated == sum(f"{split}{at}" in ids for split in ("train", "valid", "test") for at in (1, 2)) < 6
    monkeypatch.setattr("engine.training.run._finished", lambda *arguments: {"test": {}, "examples": {}})
    assert main.run(arguments(path, tmp_path)) == 0
    assert "6 marked spans are coordinations" in capsys.readouterr().err
    values = settings(path, questions={})
    train(learner_of(values, tmp_path), LOOP, Worker(), tmp_path / "state")
    figures = finish(values, tmp_path / "state" / "last", tmp_path / "model")
    assert figures["marked"]["coordinated"] == 6
    assert "6 marked spans are coordinations" in (tmp_path / "model" / "README.md").read_text()
