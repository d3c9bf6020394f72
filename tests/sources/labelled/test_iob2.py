"""IOB2 there and back, and what is not IOB2."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RowError
from engine.sources.labelled import Span
from engine.sources.labelled.iob2 import document, join, read
from tests.sources.labelled.tagged import tags

TOKENS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5), min_size=1, max_size=12)


def test_a_sentence_by_hand():
    text, spans = join(["No", "colon", "cancer", "or", "𝛼-syn", "EGFR"], ["O", "B-Disease", "I-Disease", "O", "B-Gene", "B-Gene"])
    assert text == "No colon cancer or 𝛼-syn EGFR"
    assert spans == (Span(3, 15, "Disease"), Span(19, 24, "Gene"), Span(25, 29, "Gene"))
    assert [text[span.start : span.end] for span in spans] == ["colon cancer", "𝛼-syn", "EGFR"]


@given(TOKENS, st.data())
@settings(max_examples=60)
def test_spans_to_tags_and_back(tokens, data):
    text = " ".join(tokens)
    starts = [len(" ".join(tokens[:number])) + bool(number) for number in range(len(tokens))]
    spans, number = [], 0
    while number < len(tokens):
        length = data.draw(st.integers(0, 3))
        last = min(number + length, len(tokens)) - 1
        if length:
            kind = data.draw(st.sampled_from(["A", "B-c", "I"]))
            spans.append(Span(starts[number], starts[last] + len(tokens[last]), kind))
        number = max(last, number) + 1
    assert join(tokens, tags(tokens, spans)) == (text, tuple(spans))


@pytest.mark.parametrize(
    ("given_tags", "told"),
    [
        (["O", "I-A", "O"], "token 2 continues a mention that did not begin"),
        (["B-A", "I-B", "O"], "token 2 continues"),
        (["B-A", "O", "I-A"], "token 3 continues"),
        (["O", "B-", "O"], "tag of token 2 is none of"),
        (["O", "X-A", "O"], "tag of token 2 is none of"),
        (["O", None, "O"], "tag of token 2 is none of"),
        (["O", "O"], "2 tags for 3 tokens"),
    ],
)
def test_tags_that_are_not_iob2_break_their_document_alone(given_tags, told):
    found = document("d", ["secret", "words", "here"], given_tags)
    assert told in found.broken and found.text == "" and "secret" not in found.broken
    with pytest.raises(RowError):
        join(["secret", "words", "here"], given_tags)


def test_spans_that_iob2_cannot_say():
    with pytest.raises(RowError, match="overlap"):
        tags(["a", "b"], [Span(0, 3, "A"), Span(2, 3, "B")])
    with pytest.raises(RowError, match="begin and end with a token"):
        tags(["ab", "c"], [Span(1, 2, "A")])


def test_a_file_of_sentences():
    found = list(read("-DOCSTART-\tO\r\n\r\nno\tO\r\nlung\tB-Organ\r\n\r\n\r\nonly\r\n\r\nbe\tx\tO\r\n", "f", split="train"))
    assert [(each.record_id, each.text, each.broken) for each in found] == [
        ("f:0", "no lung", None),
        ("f:1", "", "iob2: 1 of 1 lines have no two columns"),
        ("f:2", "be", None),
    ]
    assert found[0].spans == (Span(3, 7, "Organ"),) and found[0].split == "train"


def test_a_token_keeps_blanks_that_are_no_columns_border():
    tight, narrow = "\u00a0", "\u202f"
    (found,) = read(f"10{tight}mg  NN B-Dose\n 5{narrow}mg NN  I-Dose \nof NN O\n", "f")
    assert found.text == f"10{tight}mg 5{narrow}mg of" and found.spans == (Span(0, 10, "Dose"),)
