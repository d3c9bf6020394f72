"""Marked characters to words and windows, and back."""

import numpy as np
import pytest

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models.entities.spans import Span, align_spans, bio_tags, collate, runs, spans_within, windows, without_overlaps
from engine.text.tokens import tokenize

TEXT = "the  old\ttumour 😀 of unbelievably large size\u00a0grew, IL-2 too"


def tokens(text: str, limit: int = 512):
    return tokenize(load_tokenizer(encoder_folder("tiny:bert")), [text], limit)[0]


def span(part: str, kind: str = "A", text: str = TEXT) -> dict:
    start = text.index(part)
    return {"start": start, "end": start + len(part), "type": kind}


def test_spans_come_back_as_they_went_in_with_double_blanks_tabs_and_emoji():
    parts = ["old\ttumour", "tumour 😀 of", "unbelievably", "size\u00a0grew", "IL-2", "😀"]
    words = tokens(TEXT)
    spans, counts = align_spans(words, len(TEXT), [span(part) for part in parts], ["A"])
    assert counts.total() == 0
    assert [TEXT[words.word_start[each.first] : words.word_end[each.last]] for each in spans] == parts
    (window,) = windows(0, words.ids, words.word_of_token, 100, 10)
    assert len(words.ids) > len(words.word_start)  # the long word is several pieces
    held = spans_within(window, spans)
    assert all(window.starts[first] and window.ends[last] for first, last, _ in held)
    assert [Span(int(window.word[first]), int(window.word[last]), kind) for first, last, kind in held] == spans


def test_an_end_inside_a_word_is_widened_and_counted():
    marked = [span("umou"), span("tumour", "B"), span("tumour"), span("x", "C", "x")]
    spans, counts = align_spans(tokens(TEXT), len(TEXT), marked, ["A", "B"])
    assert spans == [Span(2, 2, 0), Span(2, 2, 1)]
    assert (counts["snapped"], counts["repeated"]) == (1, 1)


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (4, 4), (5, 3), (0, len(TEXT) + 1)])
def test_offsets_that_do_not_fit_are_refused_by_name(start, end):
    with pytest.raises(ConfigError, match=f"record r7: a span from {start} to {end}") as caught:
        align_spans(tokens(TEXT), len(TEXT), [{"start": start, "end": end, "type": "A"}], ["A"], "record r7")
    assert "tumour" not in str(caught.value)


def test_what_lies_beyond_the_tokens_read_is_counted():
    spans, counts = align_spans(tokens(TEXT, 3), len(TEXT), [span("old"), span("IL-2"), span("tumour 😀")], ["A"])
    assert spans == [Span(1, 1, 0)] and counts["unread"] == 2


def test_windows_overlap_are_cut_between_words_and_hold_whole_spans_only():
    word = np.array([0, 1, 1, 2, 3, 4, 4, 4, 5, 6])
    shown = windows(0, np.arange(10), word, 5, 2)
    assert [(window.start, window.stop) for window in shown] == [(0, 5), (3, 8), (5, 10)]
    assert [window.is_first for window in shown] == [True, False, False] and shown[-1].is_last
    spans = [Span(1, 2, 0), Span(3, 4, 1), Span(2, 5, 0)]
    assert [spans_within(window, spans) for window in shown] == [[(1, 3, 0)], [(1, 4, 1)], []]


def test_a_window_has_the_parts_of_its_tokens():
    word, part = np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 4])
    assert [window.part.tolist() for window in windows(0, np.arange(5), word, 3, 0, part)] == [[0, 0, 0], [1, 4]]
    assert [window.part.tolist() for window in windows(0, np.arange(5), word, 3, 0)] == [[0, 0, 0], [0, 0]]


def test_a_word_longer_than_a_window_is_cut_and_nothing_is_left_out():
    word = np.array([0] * 7 + [1])
    covered = set()
    for window in windows(0, np.arange(8), word, 3, 1):
        assert window.stop - window.start <= 3
        covered |= set(range(window.start, window.stop))
    assert covered == set(range(8))
    assert windows(0, np.arange(0), word[:0], 3, 1) == []


def test_a_tagger_keeps_the_longer_of_two_spans_of_a_type_and_both_of_two_types():
    spans = [Span(0, 1, 0), Span(1, 3, 0), Span(1, 1, 1)]
    assert without_overlaps(spans) == [Span(1, 1, 1), Span(1, 3, 0)]
    (window,) = windows(0, np.arange(5), np.array([0, 1, 1, 2, 3]), 9, 0)
    assert bio_tags(window, without_overlaps(spans), 2).T.tolist() == [[0, 1, 2, 2, 2], [0, 1, 2, 0, 0]]


def test_without_overlap_across_types_the_longest_of_all_stay():
    spans = [Span(0, 1, 0), Span(1, 3, 0), Span(1, 1, 1), Span(5, 6, 1)]
    assert without_overlaps(spans, across_types=True) == [Span(1, 3, 0), Span(5, 6, 1)]


def test_tags_to_spans():
    labels = np.array([1, 2, 0, 2, 2, 1, 1])
    assert runs(labels, np.zeros(7), 30) == [(0, 1), (3, 4), (5, 5), (6, 6)]
    # At the end of a part a run ends, and the next one begins.
    assert runs(labels, np.array([0, 0, 0, 0, 1, 1, 1]), 30) == [(0, 1), (3, 3), (4, 4), (5, 5), (6, 6)]
    assert runs(labels, np.zeros(7), 1) == [(5, 5), (6, 6)]


def test_windows_as_a_batch_with_special_tokens_around_them():
    shown = windows(0, np.arange(10, 15), np.array([0, 1, 1, 2, 3]), 3, 0)
    batch = collate(shown, (1, 2, 0, 3))
    assert batch.ids.tolist() == [[1, 10, 11, 12, 2], [1, 13, 14, 2, 0]]
    assert batch.text.tolist() == [[False, True, True, True, False], [False, True, True, False, False]]
    assert batch.mask.sum(1).tolist() == [5, 4]
    assert [[each.tolist() for each in window.words] for window in shown] == [[[0, 1], [0, 2]], [[0, 1], [0, 1]]]
