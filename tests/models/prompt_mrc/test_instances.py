"""Marked characters to words and windows, and back."""

import numpy as np
import pytest

from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.models.prompt_mrc.instances import Span, chosen_types, flat, inside, marked, tags, windows
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
    found = marked(words, len(TEXT), [span(part) for part in parts], ["A"])
    assert (found.snapped, found.unread, found.repeated) == (0, 0, 0)
    back = [TEXT[words.word_start[each.first] : words.word_end[each.last]] for each in found.spans]
    assert back == parts
    (window,) = windows(0, words.ids, words.word_of_token, 100, 10)
    assert len(words.ids) > len(words.word_start)  # the long word is several pieces
    for first, last, _ in inside(window, found.spans):
        assert window.starts[first] and window.ends[last]
    again = [Span(int(window.word[a]), int(window.word[b]), kind) for a, b, kind in inside(window, found.spans)]
    assert again == found.spans


def test_an_end_inside_a_word_is_widened_and_counted():
    found = marked(tokens(TEXT), len(TEXT), [span("umou"), span("tumour", "B"), span("tumour"), span("x", "C", "x")], ["A", "B"])
    assert found.spans == [Span(2, 2, 0), Span(2, 2, 1)]
    assert (found.snapped, found.repeated) == (1, 1)


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (4, 4), (5, 3), (0, len(TEXT) + 1)])
def test_offsets_that_do_not_fit_are_refused_by_name(start, end):
    with pytest.raises(ConfigError, match=f"record r7: a span from {start} to {end}") as caught:
        marked(tokens(TEXT), len(TEXT), [{"start": start, "end": end, "type": "A"}], ["A"], "record r7")
    assert "tumour" not in str(caught.value)


def test_what_lies_beyond_the_tokens_read_is_counted():
    found = marked(tokens(TEXT, 3), len(TEXT), [span("old"), span("IL-2"), span("tumour 😀")], ["A"])
    assert found.spans == [Span(1, 1, 0)] and found.unread == 2


def test_windows_overlap_are_cut_between_words_and_hold_whole_spans_only():
    word = np.array([0, 1, 1, 2, 3, 4, 4, 4, 5, 6])
    cut = windows(0, np.arange(10), word, 5, 2)
    assert [(each.start, each.stop) for each in cut] == [(0, 5), (3, 8), (5, 10)]
    assert [each.is_first for each in cut] == [True, False, False] and cut[-1].is_last
    spans = [Span(1, 2, 0), Span(3, 4, 1), Span(2, 5, 0)]
    assert [inside(each, spans) for each in cut] == [[(1, 3, 0)], [(1, 4, 1)], []]


def test_a_word_longer_than_a_window_is_cut_and_nothing_is_left_out():
    word = np.array([0] * 7 + [1])
    cut = windows(0, np.arange(8), word, 3, 1)
    covered = set()
    for each in cut:
        assert each.stop - each.start <= 3
        covered |= set(range(each.start, each.stop))
    assert covered == set(range(8))
    assert windows(0, np.arange(0), word[:0], 3, 1) == []


def test_a_tagger_keeps_the_longer_of_two_spans_of_a_type_and_both_of_two_types():
    spans = [Span(0, 1, 0), Span(1, 3, 0), Span(1, 1, 1)]
    assert flat(spans) == [Span(1, 1, 1), Span(1, 3, 0)]
    (window,) = windows(0, np.arange(5), np.array([0, 1, 1, 2, 3]), 9, 0)
    assert tags(window, flat(spans), 2).T.tolist() == [[0, 1, 2, 2, 2], [0, 1, 2, 0, 0]]


def test_without_overlap_across_types_the_longest_of_all_stay():
    spans = [Span(0, 1, 0), Span(1, 3, 0), Span(1, 1, 1), Span(5, 6, 1)]
    assert flat(spans, across=True) == [Span(1, 3, 0), Span(5, 6, 1)]


def test_a_window_is_asked_for_what_it_has_and_twice_as_many_others():
    rng = np.random.default_rng(0)
    asked = chosen_types([3, 3], 10, 2, rng)
    assert len(asked) == 3 and 3 in asked
    assert len(chosen_types([], 10, 2, rng)) == 2
    assert chosen_types([0, 1], 3, 2, rng) == [0, 1, 2]
