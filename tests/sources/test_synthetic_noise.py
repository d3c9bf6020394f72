import random

import pytest

from engine.sources.synthetic import noise

PIECES = ["Diagnosis: ", "sigmoid colon", ", margin less than 2 cm. ", "adenocarcinoma", ". Size 3 x 2 cm, pT2."]


def test_spans_are_where_the_pieces_end_up():
    text, (site, histology) = noise.join(PIECES, [1], [3])
    assert site == [(11, 24)]
    assert histology == [(49, 63)]
    assert text[11:24] == "sigmoid colon" and text[49:63] == "adenocarcinoma"


@pytest.mark.parametrize("kind", ["dot_matrix", "lower", "double_blanks", "symbols", ""])
def test_marked_pieces_change_in_case_at_most(kind):
    for seed in range(50):
        pieces = noise.apply(kind, PIECES, {1, 3}, random.Random(seed))
        assert pieces[1].lower() == "sigmoid colon" and pieces[3].lower() == "adenocarcinoma"


def test_each_kind_leaves_its_trace():
    assert noise.apply("double_blanks", PIECES, {1, 3}, random.Random(0))[4] == ".  Size 3 x 2 cm,  pT2."
    assert noise.apply("symbols", PIECES, {1, 3}, random.Random(0))[2] == ", margin < 2\u00a0cm. "
    assert noise.apply("lower", PIECES, {1, 3}, random.Random(0))[0] == "diagnosis: "
    worn = {"".join(noise.apply("dot_matrix", PIECES, {1, 3}, random.Random(seed))) for seed in range(50)}
    assert "".join(PIECES).upper() in worn and len(worn) > 10
