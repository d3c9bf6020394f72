"""Proposals of templates, and which of them can be used."""

import pytest

from engine.experiments.templates import Templates, coverage, proposal

TEXT = "Gross: tan tissue.\nLeft lung, resection: oat cell tumor. Margins free."


def test_an_extractive_template_is_a_sentence_of_the_report():
    lung = proposal(Templates(), "r", TEXT, "C34")
    assert [TEXT[a:b] for a, b in lung.spans] == ["Left lung, resection: oat cell tumor."] == [lung.text]
    assert proposal(Templates(), "r", TEXT, "C61").flaw == "empty"
    assert proposal(Templates(), "r", TEXT, "tan tissue").text == "Gross: tan tissue."


def test_an_abstractive_template_is_the_same_for_the_same_report_and_has_no_place_in_it():
    first = proposal(Templates("abstractive"), "r", TEXT, "C61")
    assert first == proposal(Templates("abstractive"), "r", TEXT, "C61") and first.spans == () and first.flaw is None
    assert len({Templates("abstractive").propose(f"r{i}", TEXT, "C61") for i in range(30)}) > 3


class Says:
    mode = "extractive"

    def __init__(self, words):
        self.words = words

    def propose(self, record_id, text, label):
        return self.words


def test_words_that_do_not_stand_in_the_report_cannot_be_used():
    assert proposal(Says("left lung, resection"), "r", TEXT, "C34").flaw == "not_verbatim"
    assert proposal(Says(" Left lung "), "r", TEXT, "C34").spans == ((19, 28),)
    assert proposal(Says(" "), "r", TEXT, "C34").flaw == "empty"


def test_coverage_by_hand():
    assert coverage(((0, 4), (10, 16)), ((2, 12),)) == pytest.approx(4 / 10)
    assert coverage(((0, 4),), ()) == 0.0
