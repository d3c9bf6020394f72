"""Templates built from an ontology and mentions, with values worked out by hand."""

import numpy as np
import pytest

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models.prompt_mrc.ontology import build_template, farthest, heaviest, pieces_of, read_definitions

TEXTS = ["colon cancer here", "no colon cancer", "rare gout", "nothing", "pain", "pain again"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(encoder_folder("pkg:minilm"))


def test_weight_is_count_times_rarity():
    # colon cancer: 2 x log 3; pain: 2 x log 3, later in the alphabet; gout: log 6.
    assert heaviest(["Colon  cancer", "colon cancer", "pain", "pain", "gout"], TEXTS) == ["colon cancer", "pain", "gout"]
    assert heaviest([], TEXTS) == []


def test_examples_are_far_from_each_other():
    points = np.array([[0.0, 0], [0.1, 0], [5, 0], [0, 3]])
    assert farthest(points, 3) == [0, 2, 3]
    assert farthest(points[:1], 3) == [0] and farthest(np.zeros((0, 2)), 3) == [] and farthest(points, 0) == []


def test_a_template_fits_its_budget(tokenizer):
    def embed(texts):
        return np.array([[float(len(text)), 0.0] for text in texts])

    template = build_template(
        "Some_disease", "An illness.", ["gout", "pain", "colon cancer"], TEXTS, embed, tokenizer, examples=2
    )
    assert (template.text, template.mentions) == ("Some disease: An illness, such as gout, colon cancer", 2)
    short = build_template(
        "Disease", "An illness.", ["gout", "pain"], TEXTS, embed, tokenizer, budget=pieces_of("Disease: An illness.", tokenizer)
    )
    assert (short.text, short.mentions) == ("Disease: An illness.", 0)
    assert build_template("Disease", "An illness.", [], TEXTS, embed, tokenizer, budget=3).text == "Disease: An"


def test_mentions_that_fit_no_template_are_neither_weighted_nor_embedded(tokenizer):
    seen = []

    def embed(texts):
        seen.extend(texts)
        return np.zeros((len(texts), 2))

    # "disease: an illness, such as " in front of a mention has seven word pieces; the heaviest mention does not fit behind it.
    long, mentions = "very " * 4 + "bad pain", ["gout", "pain", " \n"]
    texts = [*TEXTS, long]
    assert heaviest([*mentions, long, long], texts)[0] == long
    template = build_template("Disease", "An illness.", [*mentions, long, long], texts, embed, tokenizer, budget=12)
    assert (template.text, template.mentions) == ("Disease: An illness, such as gout, pain", 2) and seen == ["gout", "pain"]
    assert build_template("Disease", None, [long], texts, embed, tokenizer, budget=9).text == "Disease"
    assert build_template("Disease", None, [long], texts, embed, tokenizer, budget=10).mentions == 1


def test_an_ontology_table(tmp_path):
    (tmp_path / "o.csv").write_text('\ufefftype,definition,code\nGout,"joint  pain",1\nEmpty,,2\n', encoding="utf-8")
    assert read_definitions(str(tmp_path / "o.csv"), ["Gout", "Pain"], "model.ontology") == {"Gout": "joint pain"}
    with pytest.raises(ConfigError, match="defines none of the types, which are Pain, Empty"):
        read_definitions(str(tmp_path / "o.csv"), ["Pain", "Empty"], "model.ontology")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    for name, message in (("bad.csv", "must have the columns"), ("none.csv", "there is no file")):
        with pytest.raises(ConfigError, match=message):
            read_definitions(str(tmp_path / name), ["Gout"], "model.ontology")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        # More than a field of Python's csv may have, and less.
        ('Gout,"joint pain\n' + "Pain,what hurts\n" * 10_000, "is no readable CSV file; look for a quote that is not closed"),
        ('Gout,"joint pain\n' + "Pain,what hurts\n" * 1_000, "is no readable CSV file; look for a quote that is not closed"),
        ("Gout,joint pain\n Gout ,what hurts\n", "has the type 'Gout' twice; keep one of its rows"),
    ],
)
def test_a_broken_table_is_refused(tmp_path, rows, message):
    path = tmp_path / "o.csv"
    path.write_text("type,definition\n" + rows)
    with pytest.raises(ConfigError, match=rf"^model.ontology: {path} {message}$"):
        read_definitions(str(path), ["Gout"], "model.ontology")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(ConfigError, match=rf"^model.ontology: cannot read {tmp_path}: Is a directory$"):
        read_definitions(str(tmp_path), ["Gout"], "model.ontology")
