import numpy as np

from engine.text.units import Units, sentences, words


def pieces(text, cut=words, **more):
    return [text[a:b] for a, b in zip(*cut(text, **more), strict=True)]


def test_words_hold_together_and_chinese_stands_alone():
    assert pieces("IgE 0.1%, T-cell (CD20+)") == ["IgE", "0.1%", ",", "T-cell", "(", "CD20", "+", ")"]
    assert pieces("患者IgE升高，𠮷。") == ["患", "者", "IgE", "升", "高", "，", "𠮷", "。"]
    assert pieces("café 😀 a_b") == ["café", "😀", "a", "_", "b"]
    assert pieces("") == []


def test_sentences_end_at_stops_and_empty_lines():
    text = "  Colon, resection. Margins free;\n\nNo nodes!  pT3? yes"
    assert pieces(text, sentences) == ["Colon, resection.", "Margins free;", "No nodes!", "pT3?", "yes"]
    assert pieces("无淋巴结转移。切缘阴性；好", sentences) == ["无淋巴结转移。", "切缘阴性；", "好"]


def test_a_wrapped_line_goes_on_and_a_new_heading_does_not():
    assert pieces("tumor of the\nleft kidney\nDIAGNOSIS: none\r\n1. x", sentences) == [
        "tumor of the\nleft kidney",
        "DIAGNOSIS: none",
        "1. x",
    ]


def test_a_stop_within_a_number_or_after_a_short_form_is_none():
    assert pieces("size 4.5 cm, seen by Dr. Who. Invasion: No. Next", sentences) == [
        "size 4.5 cm, seen by Dr. Who.",
        "Invasion: No.",
        "Next",
    ]


def test_what_never_stops_is_cut_at_a_blank():
    text = "word " * 50
    found = pieces(text, sentences, longest=100)
    assert all(len(piece) <= 100 for piece in found) and len(found) == 3
    assert " ".join(found) == text.strip()
    assert [len(piece) for piece in pieces("x" * 250, sentences, longest=100)] == [100, 100, 50]
    assert pieces(" \n ", sentences) == []


def test_words_join_the_sentence_that_they_begin_in():
    small = Units("word", np.array([0, 5, 10, 20]), np.array([4, 9, 14, 24]), np.array([0, 0, 1, 2, 3, -1]))
    large = small.merged("sentence", np.array([0, 10, 15]), np.array([9, 14, 18]))
    assert large.of_position.tolist() == [0, 0, 0, 1, -1, -1]
    assert (large.kind, large.start.tolist(), large.end.tolist()) == ("sentence", [0, 10], [9, 14])
    assert len(large) == 2
