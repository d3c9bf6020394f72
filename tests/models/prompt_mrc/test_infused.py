"""Templates that make themselves, by hand."""

import numpy as np
import pytest

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models.prompt_mrc.infused import apart, cut, heaviest, infused, pieces_of, read_ontology

TEXTS = ["colon cancer here", "no colon cancer", "rare gout", "nothing", "pain", "pain again"]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(encoder_folder("pkg:minilm"))


def test_weight_is_count_times_rarity():
    # colon cancer: 2 x log 3; pain: 2 x log 3, later in the alphabet; gout: log 6.
    assert heaviest(["Colon  cancer", "colon cancer", "pain", "pain", "gout"], TEXTS) == ["colon cancer", "pain", "gout"]
    assert heaviest([], TEXTS) == []


def test_examples_lie_apart():
    points = np.array([[0.0, 0], [0.1, 0], [5, 0], [0, 3]])
    assert apart(points, 3) == [0, 2, 3]
    assert apart(points[:1], 3) == [0] and apart(np.zeros((0, 2)), 3) == [] and apart(points, 0) == []


def test_a_template_fits_its_budget(tokenizer):
    def embed(texts):
        return np.array([[float(len(text)), 0.0] for text in texts])

    made = infused("Some_disease", "An illness.", ["gout", "pain", "colon cancer"], TEXTS, embed, tokenizer, examples=2)
    assert made.text == "Some disease: An illness, such as gout, colon cancer"
    assert (made.head, made.mentions) == ("Some disease: An illness.", 2)
    short = infused(
        "Disease", "An illness.", ["gout", "pain"], TEXTS, embed, tokenizer, budget=pieces_of("Disease: An illness.", tokenizer)
    )
    assert (short.text, short.mentions) == ("Disease: An illness.", 0)
    assert infused("Disease", "An illness.", [], TEXTS, embed, tokenizer, budget=3).text == "Disease: An"
    assert cut("one two three", tokenizer, 2) == "one two"


def test_mentions_that_no_template_can_show_are_neither_weighed_nor_embedded(tokenizer):
    seen = []

    def embed(texts):
        seen.extend(texts)
        return np.zeros((len(texts), 2))

    # Before a mention stand "disease: an illness, such as ", seven word pieces; the heaviest mention has no room there.
    long, mentions = "very " * 4 + "bad pain", ["gout", "pain", " \n"]
    texts = [*TEXTS, long]
    assert heaviest([*mentions, long, long], texts)[0] == long
    made = infused("Disease", "An illness.", [*mentions, long, long], texts, embed, tokenizer, budget=12)
    assert (made.text, made.mentions) == ("Disease: An illness, such as gout, pain", 2) and seen == ["gout", "pain"]
    assert infused("Disease", None, [long], texts, embed, tokenizer, budget=9).text == "Disease"
    assert infused("Disease", None, [long], texts, embed, tokenizer, budget=10).mentions == 1


def test_an_ontology_table(tmp_path):
    (tmp_path / "o.csv").write_text('\ufefftype,definition,code\nGout,"joint  pain",1\nEmpty,,2\n', encoding="utf-8")
    assert read_ontology(str(tmp_path / "o.csv"), "model.ontology") == {"Gout": "joint pain"}
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    for name, told in (("bad.csv", "must have the columns"), ("none.csv", "there is no file")):
        with pytest.raises(ConfigError, match=told):
            read_ontology(str(tmp_path / name), "model.ontology")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        # As many as Python's csv reads, and fewer.
        ('Gout,"joint pain\n' + "Pain,what hurts\n" * 10_000, "is no readable CSV file; look for a quote that is not closed"),
        ('Gout,"joint pain\n' + "Pain,what hurts\n" * 1_000, "is no readable CSV file; look for a quote that is not closed"),
        ("Gout,joint pain\n Gout ,what hurts\n", "has the type 'Gout' twice; keep one of its rows"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(tmp_path, rows, told):
    path = tmp_path / "o.csv"
    path.write_text("type,definition\n" + rows)
    with pytest.raises(ConfigError, match=rf"^model.ontology: {path} {told}$"):
        read_ontology(str(path), "model.ontology")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(ConfigError, match=rf"^model.ontology: cannot read {tmp_path}: Is a directory$"):
        read_ontology(str(tmp_path), "model.ontology")
