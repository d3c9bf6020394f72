"""What the extractor does not learn from: texts that cannot be used and marks that no span can be, counted and told."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.models.prompt_mrc.config import DataConfig
from engine.models.prompt_mrc.corpus import load_corpus
from engine.sources.labelled import Document, Span
from engine.training.loop import Worker, train
from jobs.train import main
from tests.models.prompt_mrc.test_recipe import LOOP, finish, job_keys, learner_of, settings, write

IOBES = "iob2: the tag of token {} is none of O, B-<type>, I-<type>"


def sound(count, *splits):
    return [Document(f"{each}{at}", "an old man", (Span(3, 10, "A"),), "d", each) for each in splits for at in range(count)]


def flagged(split, *reasons):
    return [Document(f"{split}-x{at}", "", (), "d", split, broken=each) for at, each in enumerate(reasons)]


def words(path, folder, *more):
    keys = [each for each in job_keys() if not each.startswith("model.questions")]
    return ["model=prompt_mrc", f"data.path={path}", f"output.path={folder / 'model'}", *keys, *more]


def test_texts_that_cannot_be_used_are_told_with_their_reasons(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "a.parquet", sound(3, "train", "valid", "test"), flagged("train", IOBES.format(2), IOBES.format(7)))
    corpus = load_corpus(DataConfig(path))
    assert (corpus.broken.count, corpus.broken.texts, corpus.counts()["broken"]) == (2, 11, 2)
    monkeypatch.setattr("engine.training.run._finished", lambda *given: {"test": {}, "examples": {}})
    assert main.run(words(path, tmp_path, "model.questions={A: which man}")) == 0
    said = capsys.readouterr().err.splitlines()
    assert f"2 of 11 texts cannot be used: {IOBES.format(2)} (2, the first is 'train-x0')" in said


def test_the_card_and_the_figures_have_what_is_left_out(tmp_path):
    """Two texts that cannot be used, and of two types one that is not learned, in pieces."""
    made = sound(3, "train", "valid", "test")
    made[0] = replace(made[0], spans=(*made[0].spans, Span(0, 2, "B", "g"), Span(7, 10, "B", "g")))
    path = write(tmp_path / "a.parquet", made, flagged("test", IOBES.format(2), IOBES.format(7)))
    given = settings(path, {"types": ["A"]}) | {"questions": {"A": "which man"}}
    trained = learner_of(given, tmp_path)
    train(trained, LOOP, Worker(), tmp_path)
    finish(given, tmp_path / "last", tmp_path / "model")
    figures, card = (tmp_path / "model" / name for name in ("figures.json", "README.md"))
    found = json.loads(figures.read_text())
    assert found["broken"] == {"texts": 11, "count": 2, "reasons": {IOBES.format("N"): 2}}
    assert found["in_pieces"] == {"lost": 0, "mentions": 9}
    assert f"2 of 11 texts cannot be used: `{IOBES.format('N')}` (2)." in card.read_text()
    assert "test-x0" not in card.read_text() + figures.read_text() and "several pieces" not in card.read_text()


def test_a_corpus_that_is_broken_for_the_most_part_is_refused(tmp_path):
    """IOBES, which ends every mention with E- or S-: what is left has no mention."""
    tags = [["O", "S-A"]] * 3 + [["B-A", "E-A"]] * 2 + [["O", "O"]] * 4
    table = pa.table({"record_id": [f"r{at}" for at in range(9)], "tokens": [["secret", "ab"]] * 9, "tags": tags})
    pq.write_table(table, tmp_path / "a.parquet")
    told = rf"^data.path: 5 of 9 texts cannot be used: {IOBES.format(2)} \(5, the first is 'r0'\); .*mend them or take them out$"
    with pytest.raises(ConfigError, match=told) as caught:
        load_corpus(DataConfig(str(tmp_path / "a.parquet")))
    assert "secret" not in str(caught.value)
    half = write(tmp_path / "half.parquet", sound(1, "train", "valid", "test"), flagged("train", "x", "y", "z"))
    assert load_corpus(DataConfig(half)).broken.count == 3


@pytest.mark.parametrize("types", [(), ("A",)])
def test_a_split_without_a_usable_text_says_why(tmp_path, types):
    made = [*sound(3, "valid", "test"), *flagged("test", "x"), *flagged("train", "no text", "no text")]
    path = write(tmp_path / "a.parquet", made)
    told = r"no usable texts of train; 2 of 2 texts cannot be used: no text \(2, the first is 'train-x0'\)$"
    with pytest.raises(ConfigError, match=told):
        load_corpus(DataConfig(path, types=types))
    alone = write(tmp_path / "b.parquet", sound(3, "valid", "test"))
    with pytest.raises(ConfigError, match=r"no usable texts of train$"):
        load_corpus(DataConfig(alone))


ARTICLE = """<article><articleinfo><bibliomisc>{}</bibliomisc></articleinfo><title><sentence>the <cons sem="G#{}_x">man</cons>
<cons sem="({})"><cons>CD4</cons> and <cons>CD8</cons> cells</cons></sentence></title></article>"""


def test_coordinations_are_counted_of_the_types_and_texts_that_are_learned(tmp_path, monkeypatch, capsys):
    cells, mixed, tissue = "AND G#cell_type G#cell_type", "OR G#DNA_x (AND G#protein_x G#tissue)", "AND G#tissue G#tissue"
    for split in ("train", "valid", "test"):
        (tmp_path / "given" / split).mkdir(parents=True)
        made = [ARTICLE.format(f"{split}{at}", "DNA", each) for at, each in enumerate((cells, mixed, mixed, tissue))]
        (tmp_path / "given" / split / "a.xml").write_text(f"<set>{''.join(made)}</set>")
    path = str(tmp_path / "given")
    assert load_corpus(DataConfig(path)).coordinated == 6  # cell_type is marked nowhere else, so it is no type here
    assert load_corpus(DataConfig(path, types=["DNA"])).coordinated == 6
    some = load_corpus(DataConfig(path, share=0.5))
    ids = {each.record_id for each in some.documents}
    assert some.coordinated == sum(f"{split}{at}" in ids for split in ("train", "valid", "test") for at in (1, 2)) < 6
    monkeypatch.setattr("engine.training.run._finished", lambda *given: {"test": {}, "examples": {}})
    assert main.run(words(path, tmp_path)) == 0
    assert "6 marked spans are coordinations" in capsys.readouterr().err
    given = settings(path) | {"questions": {}}
    trained = learner_of(given, tmp_path)
    train(trained, LOOP, Worker(), tmp_path / "state")
    figures = finish(given, tmp_path / "state" / "last", tmp_path / "model")
    assert figures["marked"]["coordinated"] == 6
    assert "6 marked spans are coordinations" in (tmp_path / "model" / "README.md").read_text()
