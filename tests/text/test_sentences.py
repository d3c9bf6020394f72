"""Where the parts of toy reports end, worked by hand; `|` marks a boundary."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.phrases import Reading
from engine.text.sentences import parts, sentences


def split(text):
    """A text as its parts, without the blanks around them."""
    numbers = parts(Reading(text), range(len(text)))
    pieces = [text[at] if at == 0 or numbers[at] == numbers[at - 1] else f"|{text[at]}" for at in range(len(text))]
    return [piece.strip() for piece in "".join(pieces).split("|") if piece.strip()]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        (
            "A. Colon, right hemicolectomy:\nInvasive adenocarcinoma",
            ["A. Colon, right hemicolectomy:", "Invasive adenocarcinoma"],
        ),
        ("Tumor Site: Colon", ["Tumor Site:", "Colon"]),
        ("Tumor site :Colon", ["Tumor site :Colon"]),
        ("Histologic type:Adenocarcinoma", ["Histologic type:", "Adenocarcinoma"]),
        ("PART 2: LYMPH NODES", ["PART 2:", "LYMPH NODES"]),
        ("2: Left ureter", ["2:", "Left ureter"]),
        ("pT3 N0. 2. Lymph nodes", ["pT3 N0.", "2. Lymph nodes"]),
        ("Left breast\nMastectomy", ["Left breast", "Mastectomy"]),
        ("DIAGNOSIS\ninvasive carcinoma", ["DIAGNOSIS", "invasive carcinoma"]),
        ("Colon\n\nInvasive carcinoma", ["Colon", "Invasive carcinoma"]),
        ("colon\n- invasive carcinoma", ["colon", "- invasive carcinoma"]),
        ("colon\n2) polyp\nb. rectum\n[x] polyp", ["colon", "2) polyp", "b. rectum", "[x] polyp"]),
        ("Melanoma; nevus", ["Melanoma;", "nevus"]),
        ("The mass is tan.The lymph nodes", ["The mass is tan.", "The lymph nodes"]),
        ("肺癌。肝转移", ["肺癌。", "肝转移"]),
        ("诊断：肺癌", ["诊断：", "肺癌"]),
        # A line in capitals, however long, is a heading above a line that is not.
        (
            "LEFT BREAST, CENTRAL, WITH AXILLARY CONTENTS, MASTECTOMY\nInvasive carcinoma",
            ["LEFT BREAST, CENTRAL, WITH AXILLARY CONTENTS, MASTECTOMY", "Invasive carcinoma"],
        ),
    ],
)
def test_where_a_part_ends(text, pieces):
    assert split(text) == pieces


@pytest.mark.parametrize(
    "text",
    [
        "It measures 1.5 cm. in diameter",
        "T.U.R. Biopsy of Dr. Smith, e.g. St. Mary",
        "a uveal. melanoma of the left\nupper lobe, right lymph. nodes",
        "INVASIVE MODERATELY DIFFERENTIATED SQUAMOUS CELL\nCARCINOMA OF THE LEFT BRONCHUS",
        "Carcinoma of the\nLeft breast",
        "a non-\nsmall cell carci-\nnoma",
        "BRCA1 and p53: mutated in a ratio of 1:2, or 1 : 2",
        "S . cerevisiae , E. coli and SKW6 . 4 cells in 0 . 5 ml of Tg . AC mice",
        "Candida sp. Infection of type 2. Patients with hepatitis B. Carriers",
        "G6PD (deficiency; EC 1.1.1.49) in men",
    ],
)
def test_what_is_no_end(text):
    assert split(text) == [text]


def test_a_sentence_of_a_corpus_with_blanks_around_marks_ends_before_the_next():
    assert split("It was benign . The nodes were free .") == ["It was benign .", "The nodes were free ."]


def test_sentences_keep_what_a_scan_ended_within_a_denial():
    assert sentences(Reading("no evidence. of malignancy. Melanoma")) == [0, 0, 0, 0, 0, 0, 1]


_PIECES = [
    *("A.", "2)", "Tumor Site:", "carci-\n", "\u00adnoma", "肺癌。", "😀", "\t", "  ", "\n", "\n\n", "LEFT LUNG", "melanoma."),
    *("(a;", "1 : 2", "\x00", "tan.The"),
]


@given(st.lists(st.sampled_from(_PIECES)).map(" ".join) | st.text())
def test_parts_rise_and_divide_no_word(text):
    reading = Reading(text)
    numbers = parts(reading, range(len(text))).tolist()
    assert numbers == sorted(numbers) and all(number >= 0 for number in numbers)
    for at in range(len(reading)):
        start, end = reading.places(at, at + 1)
        assert numbers[start] == numbers[end - 1]


@pytest.mark.parametrize("part", ["a. ", "Site: colon ", "LUNG\n", "lung\n\n", "(a; ", "a: ", "A", "x\n", "1 : ", "no. "])
def test_a_long_text_takes_time_in_proportion(part):
    def seconds(count):
        reading = Reading(part * count)
        began = time.process_time()
        parts(reading, reading.start)
        return time.process_time() - began

    assert seconds(32_000) < 12 * seconds(8_000) + 0.5
