"""Spans over a text: what is marked, what is escaped, and what overlaps."""

import html
import re

import pytest

from engine.errors import ContractError
from engine.pages.highlight import Span, highlight, shown


def _plain(marked: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", marked))


def _span(start, end, score=1.0, weight=1.0, lane=0, label="site", anchor=""):
    return Span(start, end, score, weight, lane, label, anchor)


def test_offsets_are_code_points():
    text = "Á😀  e\u0301 tumour"
    at = text.index("tumour")
    assert at == 7
    assert f'weight 100%">{text[at:]}</mark>' in highlight(text, [_span(at, at + 6)])
    assert _plain(highlight(text, [_span(0, 2), _span(4, 6)])) == text


def test_markup_in_the_text_stays_text():
    text = "a <script>alert('x')</script> & <b>"
    marked = highlight(text, [_span(2, 10)])
    assert "<script" not in marked and "<b>" not in marked
    assert ">&lt;script&gt;</mark>" in marked
    assert _plain(marked) == text


def test_sign_and_strength():
    marked = highlight("abcdef", [_span(0, 1, 2.0, 0.5), _span(2, 3, -1.0, 0.25), _span(4, 5, 0.1, 0.001)])
    assert re.findall(r'class="(\w+) lane0"', marked) == ["for10", "against5", "for1"]


def test_spans_of_two_tasks_overlap():
    # site 0:4 (weight 1), histology 2:6 (weight 1, against): pieces 0:2, 2:4, 4:6.
    marked = highlight("abcdef", [_span(0, 4, anchor="s"), _span(2, 6, score=-1.0, lane=1, label="histology", anchor="h")])
    assert re.findall(r'class="([\w ]+)"[^>]*>(\w+)<', marked) == [
        ("for10 lane0", "ab"),
        ("for10 lane0 lane1", "cd"),
        ("against10 lane1", "ef"),
    ]
    assert "site: score +1.000, weight 100%; histology: score -1.000, weight 100%" in marked
    assert marked.count('id="s"') == marked.count('id="h"') == 1


def test_long_texts_are_cut_around_their_evidence():
    text = "a" * 100 + "b" * 500 + "TUMOUR" + "c" * 394
    marked = highlight(text, [_span(600, 606)], max_chars=100, context=10)
    assert _plain(marked) == (
        "a" * 100 + "… 490 characters not shown …" + "b" * 10 + "TUMOUR" + "c" * 10 + "… 384 characters not shown …"
    )


@pytest.mark.parametrize("start, end", [(-1, 2), (2, 2), (0, 7)])
def test_a_span_outside_the_text_is_a_bug(start, end):
    with pytest.raises(ContractError):
        highlight("abcdef", [_span(start, end)])


def test_control_characters_are_made_visible():
    assert shown("a\x00b\x1bc\r\nd\re\tf\x7f") == "a␀b␛c\nd\ne\tf␡"
