"""Templates from an ontology table and training mentions."""

import pytest

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models.prompt_mrc.automatic import BUDGET, Term, _ranked, automatic, read_ontology

TABLE = "type,name,definition\nFruit,fruits,A fruit is what a tree bears.\nTool,tools,A tool is a thing to work with\n"


def test_mentions_are_ranked_by_words_that_are_their_types_own():
    found = _ranked({"A": ["red apple", "red apple", "red thing"], "B": ["thing"]})
    # tf: red 3/6, apple 2/6, thing 1/6; idf: ln(3/2)+1 but for thing, which both have: ln(3/3)+1.
    assert found["A"] == ["red apple", "red thing"]


def test_a_template_has_name_definition_and_different_examples_within_its_budget(tmp_path):
    (tmp_path / "o.csv").write_text(TABLE)
    ontology = read_ontology(tmp_path / "o.csv")
    fruit = ["apple", "apple", "apples", "apple tree", "lung cancer", "Boston harbour"]
    found = automatic(["Fruit", "Tool"], ontology, {"Fruit": fruit})
    assert found["Tool"] == "tools: A tool is a thing to work with."
    assert found["Fruit"].startswith("fruits: A fruit is what a tree bears. Examples: apple, ")
    assert "lung cancer" in found["Fruit"] and "Boston harbour" in found["Fruit"]
    long = automatic(["Fruit"], {"Fruit": Term("fruits", "word " * 90)}, {"Fruit": fruit})["Fruit"]
    pieces = load_tokenizer(encoder_folder("pkg:minilm")).encode(long, add_special_tokens=False).ids
    assert BUDGET - 1 <= len(pieces) <= BUDGET and long.endswith("Boston harbour.") == found["Fruit"].endswith("Boston harbour.")


def test_a_table_that_is_none_is_refused(tmp_path):
    path = tmp_path / "o.csv"
    for text, told in (("type,name\na,b\n", "wants the columns"), (TABLE + "Fruit,x,y\n", "'Fruit' twice")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=told):
            read_ontology(path)
    with pytest.raises(ConfigError, match="no type 'Z'"):
        automatic(["Z"], {"A": Term("a", "b")}, {})
