"""The tagger as a system: places of what it finds, windows, and what a row tells of every way to find evidence."""

from dataclasses import replace

import pytest
import torch

from engine.errors import ConfigError
from engine.models.guided_ner.checkpoint import build_network, read_checkpoint
from engine.models.guided_ner.config import HEADS
from tests.models.guided_ner.conftest import TOKENIZER, answers, looked, scattered, tagger, tiny_config, write

TEXTS = ["患者左侧上肢伴红斑，予软膏。", "面部丘疹三年余，既往体健。"]


@pytest.fixture
def by_character(folders):
    """A tagger for which 红 begins a SIGN that 斑 goes on with, and 软膏 is a DRUG, whatever stands beside them."""
    system = tagger(folders["softmax"], evidence="none", thresholds={"score": 0.5})
    system.decoding = replace(system.decoding, outside=0.0)
    system.outputs = looked(红=3, 斑=4, 软=1, 膏=2)
    return system


def shown(system, text):
    (row,) = answers(system, [text])
    return row, [(text[each["start"] : each["end"]], each["type"]) for each in row["entities"]]


def test_entities_stand_where_the_text_has_them(by_character):
    for text, found in (
        ("患者伴红斑，予软膏。", [("红斑", "SIGN"), ("软膏", "DRUG")]),
        ("１２天前 左侧 红 斑斑\n予\u3000软膏（５％）。", [("红 斑斑", "SIGN"), ("软膏", "DRUG")]),
        ("患者😀㎎红斑e\u0301、軟膏软膏IgE３８．５，红", [("红斑", "SIGN"), ("软膏", "DRUG"), ("红", "SIGN")]),
        ("体健。", []),
    ):
        row, entities = shown(by_character, text)
        assert entities == found and row["decision"] == "auto" and row["truncated_chars"] == 0


def test_no_entity_crosses_a_sentence(by_character):
    _, entities = shown(by_character, "患者既往体健伴红。斑斑皮损复查")
    assert ("红", "SIGN") in entities and all("。" not in text for text, _ in entities)


def test_an_entity_across_the_edge_of_a_window_is_found_once(by_character):
    by_character.config = replace(by_character.config, window=8, overlap=4)
    for before in range(1, 14):
        text = "患" * before + "红斑斑" + "者" * (16 - before)
        row, entities = shown(by_character, text)
        assert entities == [("红斑斑", "SIGN")] and row["n_windows"] > 2, before
        assert row["repaired_tags"] == 0


def test_repaired_tags_are_counted(by_character):
    row, _ = shown(by_character, "斑患膏红斑")
    assert row["repaired_tags"] == 2


def test_a_text_in_another_language_is_for_review(by_character):
    english = "The patient has had a red rash on both arms for three years and was given an ointment."
    other, own = answers(by_character, [english, TEXTS[0]])
    assert other["decision"] == "review" and other["reasons"] == ["other_language"]
    assert own["decision"] == "auto" and own["reasons"] == []


def test_a_denied_sign_says_so(by_character):
    (row,) = answers(by_character, ["患者左侧上肢皮损三年余，无红斑。"])
    assert [each["assertion"] for each in row["entities"]] == ["negated"]


@pytest.mark.parametrize("head", HEADS)
def test_a_row_is_the_same_in_any_batch(folders, head):
    system = tagger(folders[head], evidence="none")
    together = answers(system, TEXTS)
    assert any(row["entities"] for row in together)
    for row, text in zip(together, TEXTS, strict=True):
        (alone,) = answers(system, [text])
        places = [[(each["type"], each["start"], each["end"]) for each in each_row["entities"]] for each_row in (row, alone)]
        assert places[0] == places[1]
        scores = [[each["score"] for each in each_row["entities"]] for each_row in (row, alone)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_types_that_are_not_there_are_refused_and_those_that_are_can_be_chosen(folders):
    with pytest.raises(ConfigError, match=r"^entities\.types: the model has no type 'TIME'; it has DRUG, SIGN"):
        tagger(folders["crf"], types=("TIME",))
    rows = answers(tagger(folders["crf"], types=("SIGN",), evidence="none"), TEXTS)
    assert {each["type"] for row in rows for each in row["entities"]} <= {"SIGN"}
    with pytest.raises(ConfigError, match=r"^entities\.thresholds: the model has no 'start'; it has score"):
        tagger(folders["crf"], thresholds={"start": 0.5})


SHARED = ("context_share", "boundary_mass", "boundary_lift")
MEASURED = ("stability", "shift_margin")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A checkpoint with a table of tokens."""
    network = scattered(tiny_config("bilstm_crf"))
    with torch.no_grad():
        torch.manual_seed(4)
        network.glob.normal_()
    return write(tmp_path_factory.mktemp("told") / "model", network, score=0.01, outside=1.0)


@pytest.mark.parametrize("method", ["global", "fused", "attnlrp", "gradient_x_input", "none"])
def test_every_way_to_find_evidence(told, method):
    options = {"evidence": method} if method == "none" else {"evidence": method, "stability": 1.0}
    entities = [each for row in answers(tagger(told, **options), TEXTS[:1]) for each in row["entities"]]
    assert entities
    if method == "none":
        assert all(each[name] is None for each in entities for name in (*SHARED, *MEASURED, "evidence"))
        return
    # The best one of each type is explained.
    entities = [each for each in entities if each["evidence"] is not None]
    assert 0 < len(entities) <= 2
    for each in entities:
        assert each["context_share"] == pytest.approx(1) and 0 < len(each["evidence"]) <= 3
        assert 0 <= each["boundary_mass"] <= 1 and each["boundary_lift"] >= each["boundary_mass"]
        assert each["shift_margin"] is not None
    assert any(each["stability"] is not None for each in entities)
    assert all(each["stability"] is None or 0 <= each["stability"] <= 1 for each in entities)


def test_stability_is_that_of_some_reports_and_needs_evidence(told):
    texts = [f"{TEXTS[0]}{'患' * at}" for at in range(12)]
    rows = answers(tagger(told, evidence="gradient_x_input", stability=0.4), texts)
    measured = [any(each["shift_margin"] is not None for each in row["entities"]) for row in rows if row["entities"]]
    assert any(measured) and not all(measured)
    with pytest.raises(ConfigError, match=r"^explain\.stability: with explain\.method=none there is no evidence"):
        tagger(told, evidence="none", stability=0.5)


def test_a_checkpoint_is_read_as_it_was_written(told):
    checkpoint = read_checkpoint(str(told))
    assert checkpoint.config == tiny_config("bilstm_crf") and checkpoint.config.tags == 5
    assert (checkpoint.decoding.score, checkpoint.decoding.outside) == (0.01, 1.0)
    network = build_network(checkpoint, torch.float32)
    expected = scattered(tiny_config("bilstm_crf")).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items() if name != "glob")
    assert network.glob.any() and tagger(told).tokenizer.to_str() == TOKENIZER.to_str()
