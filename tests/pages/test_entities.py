"""A report's entities as a card: named by type, marked in the text, and one by one with what speaks for them."""

import html
import re

import pytest

from engine.errors import ContractError
from engine.pages.entities import entities_card, types_legend, types_of
from engine.pages.style import style

TEXT = "Aspirin <for> pain, no pain."
ENTITIES = [
    {"type": "Sign", "start": 14, "end": 18, "score": 0.5, "margin": -1.25, "confused_with": "Drug", "zero_shot": True},
    {"type": "Drug", "start": 0, "end": 7, "score": 0.75, "evidence": [{"start": 8, "end": 13, "score": 1.0, "weight": 0.4}]},
    {"type": "Sign", "start": 23, "end": 27, "score": 0.9, "margin": 2.0, "confused_with": "Drug"},
]


def rows(card):
    return [
        [html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<td.*?</td>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", card)
    ][1:]


def test_a_line_a_type_the_text_and_each_by_itself_the_least_sure_first():
    card = entities_card(TEXT, ENTITIES, types_of(ENTITIES))
    lines = [html.unescape(re.sub(r"<[^>]*>", "", line)) for line in re.findall(r'<p class="chips">.*?</p>', card)]
    assert lines == ["Drug: Aspirin", "Sign: pain × 2"]
    assert html.unescape(re.sub(r"<[^>]*>", "", re.search(r'<div class="text".*?</div>', card)[0])) == TEXT
    assert rows(card) == [
        ["pain", "Sign not trained", "50.0%", "Drug 1.2 ahead of this one", ""],
        ["Aspirin", "Drug", "75.0%", "", "<for>"],
        ["pain", "Sign", "90.0%", "Drug 2.0 behind", ""],
    ]
    assert "<for>" not in card and "3 entities one by one" in card


def test_columns_that_nobody_has_are_left_out_and_types_keep_their_lines():
    one = [{"type": "Sign", "start": 14, "end": 18, "score": 0.5}]
    card = entities_card(TEXT, one, ["Drug", "Sign"])
    assert rows(card) == [["pain", "Sign", "50.0%"]] and "lane1" in card and "lane0" not in card and "The one entity" in card
    assert 'class="lane1 swatch">Sign<' in types_legend(["Drug", "Sign"])


def test_a_denied_entity_is_seen_as_denied():
    denied = [ENTITIES[0] | {"assertion": "affirmed"}, ENTITIES[2] | {"assertion": "negated", "cue_start": 20, "cue_end": 22}]
    card = entities_card(TEXT, denied, ["Drug", "Sign"])
    lines = [html.unescape(re.sub(r"<[^>]*>", "", line)) for line in re.findall(r'<p class="chips">.*?</p>', card)]
    assert lines == ["Sign: pain", "Sign, negated: pain"]
    assert [row[2] for row in rows(card)] == ["", "negated no"]
    # Struck through in its line and in the text, with the reason as its tooltip.
    assert card.count('negated swatch">pain<') == 1 and re.search(
        r'<mark class="for10 lane1 negated" title="Sign, negated: ', card
    )
    assert ".negated {" in style() and "denied" in types_legend(["Sign"])


def test_nothing_found_still_shows_the_text():
    card = entities_card(TEXT, [], ["Drug"])
    assert "no entities" in card and "Aspirin" in card and "<details>" not in card


def test_an_entity_outside_the_text_is_no_card():
    with pytest.raises(ContractError, match="span 20:99"):
        entities_card(TEXT, [{"type": "Sign", "start": 20, "end": 99, "score": 0.5}], ["Sign"])
