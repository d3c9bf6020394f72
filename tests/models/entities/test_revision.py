"""Marked texts read for a calibration, and a threshold of the toy tagger that is tuned on them."""

import json

import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.models.entities.calibrate import Data, Settings
from engine.models.entities.revision import read_marked
from engine.models.revision import calibrate
from engine.sources.labelled import Document, Span
from tests.models.conftest import records
from tests.models.entities.conftest import PACKAGE, tagger
from tests.models.prompt_mrc.conftest import World
from tests.sources.labelled.tables import to_table


def saved(path, *texts):
    pq.write_table(to_table(texts), path)
    return str(path)


def marked_by(folder, texts, least):
    """Documents with the entities of the tagger that score above a threshold."""
    system = tagger(folder, evidence="none", thresholds={"least": least})
    for row in system.run(system.prepare(records(texts))).to_pylist():
        spans = tuple(Span(each["start"], each["end"], each["type"]) for each in row["entities"])
        yield Document(f"t{row['row']}", texts[row["row"]], spans, "made", "valid")


def test_a_threshold_is_found_again(scattered, tmp_path):
    texts = World.make(60, seed=9).texts
    path = saved(tmp_path / "marked.parquet", *marked_by(scattered, texts, 0.6))
    lines, settings = [], Settings(data=Data(path), precision="fp32", folds=3)
    calibrate(ModelSpec(PACKAGE, str(scattered), {}, {"threads": 1}), settings, str(tmp_path / "new"), print, lines.append)
    revised = json.loads((tmp_path / "new" / "decoding.json").read_text())
    assert revised["decoding"] == {"least": 0.6, "longest": 30, "nested": False, "flat_across_types": True}
    figures = revised["figures"]
    assert figures["before"]["f1"] < figures["cross_fitted"]["f1"] == 1.0
    assert "thresholds: least 0.3 -> 0.6" in "\n".join(lines)
    assert list(marked_by(tmp_path / "new", texts, 0.6)) == list(marked_by(scattered, texts, 0.6))


def test_marked_types_are_renamed_to_the_models(tmp_path):
    text = "old red plum hill"
    texts = [
        Document("a", text, (Span(4, 12, "Fruit"), Span(4, 12, "A"), Span(0, 3, "Age")), "one", "valid"),
        Document("b", text, (Span(13, 17, "B"),), "two", "test"),
    ]
    path = saved(tmp_path / "marked.parquet", *texts)
    marked, groups, lines = read_marked(Data(path, types={"Fruit": "A"}), ["A", "B"])
    # Marks of one type under two names are one mention; in the other dataset nobody looked for it.
    assert marked.mentions == [[(4, 12, "A")], [(13, 17, "B")]]
    assert [each & {"A", "B"} for each in marked.annotated] == [{"A"}, {"B"}] and len(set(groups)) == 1
    assert lines == ["Age: not a type of the model, left out."]
    assert read_marked(Data(path, split="test"), ["A", "B"])[0].ids == ["b"]
    for types, wrong in [({"C": "A"}, "nobody marked a 'C'"), ({"Age": "C"}, "the model has no type 'C'; it has A, B")]:
        with pytest.raises(ConfigError, match=f"data.types: {wrong}"):
            read_marked(Data(path, types=types), ["A", "B"])
    with pytest.raises(ConfigError, match=r"data.path: none of the marked types"):
        read_marked(Data(path), ["Disease"])
