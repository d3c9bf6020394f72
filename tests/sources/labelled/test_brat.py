"""Standoff annotations: pieces of one mention, and lines that do not fit."""

import pytest

from engine.sources.labelled import Document, Span, lost_mentions
from engine.sources.labelled.brat import document

TEXT = "Severe pain in arms\nand legs 😀 since Lipitor."


def test_pieces_become_spans_of_one_group():
    notes = ["T1\tADR 0 19\tSevere pain in arms", "T2\tADR 7 14;24 28\tpain in legs", "#1\tAnnotatorNotes T1\tx"]
    found = document("d", TEXT, "\n".join([*notes, "T3\tDrug 37 44\tLipitor", "R1\tof Arg1:T1", ""]))
    assert found.broken is None
    assert found.spans == (Span(0, 19, "ADR"), Span(7, 14, "ADR", "T2"), Span(24, 28, "ADR", "T2"), Span(37, 44, "Drug"))
    assert lost_mentions([found, found]) == (2, 6)


def test_a_line_end_inside_a_mention_parts_nothing():
    found = document("d", TEXT, "T1\tADR 15 19;20 28\tarms and legs\r\n")
    assert found.spans == (Span(15, 28, "ADR"),) and lost_mentions([found]) == (0, 1)


@pytest.mark.parametrize(
    ("notes", "told"),
    [
        (None, "no .ann file"),
        ("T1 ADR 0 6 Severe", "line 1 is no text annotation"),
        ("\nT1\tADR 0 x\tSevere", "line 2 is no text annotation"),
        ("T1\tADR 40 60\tLipitor.", "offsets of line 1 are outside"),
        ("T1\tADR 6 6\t", "offsets of line 1 are outside"),
        ("T1\tADR 1 7\tSevere", "words of line 1 are not at"),
    ],
)
def test_what_does_not_fit_is_flagged_without_its_words(notes, told):
    found = document("d", TEXT, notes)
    assert told in found.broken and "Severe" not in found.broken and found.spans == ()


def test_mentions_without_a_group_are_one_each():
    assert lost_mentions([Document("d", "a b", (Span(0, 1, "A"), Span(2, 3, "A")))]) == (0, 2)


def test_mentions_of_types_that_do_not_count():
    pieces = (Span(0, 1, "ADR", "T1"), Span(4, 5, "ADR", "T1"), Span(2, 3, "Drug", "T2"), Span(6, 7, "Drug"))
    found = [Document("d", "a b c d", pieces)]
    assert lost_mentions(found) == (1, 3)
    assert lost_mentions(found, ["Drug"]) == (0, 2) and lost_mentions(found, ["ADR"]) == (1, 1)
