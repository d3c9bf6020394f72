"""Phrases looked up in toy texts, worked by hand, and under every disturbance that texts come with."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.phrases import Phrases, Reading
from tests.clock import cpu_seconds

LIST = Phrases(
    [
        ("malignancy", "tumour"),
        ("negative for malignancy", "denied"),
        ("melanoma", "tumour"),
        ("*carcinoma*", "stem"),
        ("germ cell tumor", "tumour"),
        ("adeno*", "adeno"),
        ("b-cell lymphoma", "lymphoma"),
        ("wilms' tumor", "kidney"),
        ("gist", "gist"),
        ("no . of", "count"),
        ("mass", "mass"),
        ("ca", "ca"),
    ]
)

UNSEEN = re.compile("[\x00\u00ad\u200b-\u200d\u2060\ufeff]")


def seen(text, phrases=LIST):
    """The matches in a text: what stands there, and the phrase."""
    reading = Reading(text)
    spans = [(reading.places(match.first, match.stop), match.phrase) for match in phrases.find(reading)]
    return [(text[start:end], phrase) for (start, end), phrase in spans]


def names(text, phrases=LIST):
    return [phrase for _, phrase in seen(text, phrases)]


def test_words_and_marks():
    reading = Reading("Wilms’ tumour, pT1a (N0): x_y 3.5-cm 10 %")
    assert reading.words == "wilms ’ tumour , pt1a ( n0 ) : x y 3 . 5 cm 10 %".replace("’", "'").split()
    assert len(reading) == 17
    assert Reading("patient's").words == ["patient's"]
    assert Reading("").words == [] and LIST.find(Reading("")) == []


def test_the_longest_phrase_counts_and_the_next_begins_behind_it():
    assert seen("Negative for malignancy; malignancy") == [
        ("Negative for malignancy", "negative for malignancy"),
        ("malignancy", "malignancy"),
    ]
    assert names("negative for germ cell tumor") == ["germ cell tumor"]
    # Half of a phrase at the end of a text is none.
    assert names("germ cell") == [] and names("negative for") == []
    # A shorter one counts where the longer one does not go on.
    both = Phrases([("a b", 1), ("a b c d", 2), ("c", 3)])
    assert names("a b c e", both) == ["a b", "c"]
    assert names("a b c d", both) == ["a b c d"]


def test_a_phrase_stands_for_the_last_value_that_it_has_in_the_list():
    (match,) = Phrases([("b cell", 1), ("B-Cell", 2)]).find(Reading("b cell"))
    assert (match.first, match.stop, match.phrase, match.value) == (0, 2, "B-Cell", 2)


def test_a_phrase_without_a_word_is_none():
    assert Phrases([("", 1), (" - ", 2)]).find(Reading("- a -")) == []


def test_plurals():
    assert names("melanomas malignancies masses Melanomas gists cas") == ["melanoma", "mass", "melanoma", "gist"]
    # Only the words of the list take one: `germ cells tumors` is read as `germ cell tumor`.
    assert names("germ cells tumors") == ["germ cell tumor"]
    # A word of three letters takes none, nor does another ending.
    assert names("cas melanomata") == []


def test_words_of_the_list_stand_for_whole_words():
    assert names("premelanoma melanomax amass cac") == []


def test_stems():
    assert names("carcinoma carcinomas adenocarcinoma carcinomatous CARCINOMATOSIS.") == ["*carcinoma*"] * 5
    # Of two stems in one word either may count, and one does.
    assert len(names("adenocarcinoma")) == 1
    assert names("adeno adenoma") == ["adeno*", "adeno*"] and names("xadeno") == []
    ends = Phrases([("*oma", 1), ("gran*oma", 2)])
    assert names("lymphoma oma lymphomas", ends) == ["*oma", "*oma"]
    inner = Phrases([("mild *itis of", 1), ("mild", 2)])
    assert names("mild gastritis of, mild gastritis", inner) == ["mild *itis of", "mild"]


def test_a_stem_and_a_word_that_begin_alike_are_both_followed():
    both = Phrases([("*carcinoma* in situ", 1), ("carcinoma cell", 2), ("*carcinoma*", 3)])
    assert names("carcinoma in situ. carcinoma cell. carcinoma of", both) == [
        "*carcinoma* in situ",
        "carcinoma cell",
        "*carcinoma*",
    ]


def test_marks_of_a_phrase_stand_in_the_text_too():
    assert names("No. of nodes") == ["no . of"] and names("no of nodes") == []
    assert names("germ, cell tumor") == []


@pytest.mark.parametrize("apostrophe", ["'", "’"])
def test_apostrophes(apostrophe):
    assert names(f"Wilms{apostrophe} tumor") == ["wilms' tumor"]


@pytest.mark.parametrize("joint", [" ", "-", "  ", "\n", " \r\n\t", "–", "—", "‐", "‑", "/", " - ", "\u00a0", "_"])
def test_what_parts_the_words_of_a_phrase(joint):
    text = f"a B{joint}Cell{joint}lymphoma."
    assert seen(text) == [(text[2:-1], "b-cell lymphoma")]


@pytest.mark.parametrize(
    "text",
    [
        "mela-\nnoma",
        "mela- \r\n  noma",
        "MELA-\nNOMA",
        "Mela-\nnoma",
        "me\u00adla\u00adno\u00adma",
        "\x00".join("melanoma"),
        "mela\u200bnoma",
        "mela\u2060no\ufeffma",
    ],
)
def test_words_that_something_divides(text):
    assert seen(f"A {text}, (3)") == [(text, "melanoma")]


def test_a_hyphen_between_two_cases_of_letters_divides_no_word():
    # A dash at the end of a line, and the next field below it.
    assert Reading("melanoma-\nMargins free").words == ["melanoma", "margins", "free"]


def test_a_number_is_not_joined_over_a_line_end():
    assert Reading("T1-\n3").words == ["t1", "3"]
    # A list is no divided word: its mark stands behind a blank.
    assert Reading("mela -\nnoma").words == ["mela", "noma"]


def test_a_phrase_whose_hyphen_stands_at_a_line_end():
    assert seen("A B-\ncell lymphoma") == [("B-\ncell lymphoma", "b-cell lymphoma")]
    assert seen("a b-\ncell lymphoma") == [("b-\ncell lymphoma", "b-cell lymphoma")]
    assert seen("A B-CELL-\nLYMPHOMA") == [("B-CELL-\nLYMPHOMA", "b-cell lymphoma")]
    # A word may be divided twice, and what is left of it may be the beginning of a phrase as well.
    assert seen("b-\ncell-\nlymphoma") == [("b-\ncell-\nlymphoma", "b-cell lymphoma")]
    assert Reading("b-\ncell-\nlymphoma a").divided == {0: ["b", "cell", "lymphoma"]}
    assert names("mela-\nnoma, b-cell lym-\nphoma") == ["melanoma", "b-cell lymphoma"]


PLANTED = ["malignancy", "negative for malignancy", "melanoma", "germ cell tumor", "b-cell lymphoma", "adenocarcinoma", "gist"]
_AROUND = st.text(st.sampled_from("xyzq 0159.,:;()\n\t\x00\u00adäß日İ"), max_size=30)


@given(data=st.data(), before=_AROUND, after=_AROUND, phrase=st.sampled_from(PLANTED))
def test_a_planted_phrase_is_found_where_it_stands(data, before, after, phrase):
    written, case = "", data.draw(st.sampled_from([str.lower, str.upper, None]))
    unseen = ["", "", "", "\x00", "\u00ad", "\u200b", "\ufeff\u2060", *(["-\n", "- \r\n\t"] if case else [])]
    for at, letter in enumerate(phrase):
        if letter in " -":
            written += data.draw(st.sampled_from([" ", "-", "  ", "\n", "\r\n", "–", " \t", "/"]))
            continue
        if at and phrase[at - 1] not in " -":
            written += data.draw(st.sampled_from(unseen))
        written += case(letter) if case else data.draw(st.sampled_from([letter, letter.upper()]))
    # Other words must not touch it.
    text = f"{before} | {written} | {after}"
    start = len(before) + 3
    spans = [Reading(text).places(match.first, match.stop) for match in LIST.find(Reading(text))]
    assert (start, start + len(written)) in spans
    plain = re.sub(r"(?<=[a-z])-[ \t]*\r?\n[ \t]*(?=[a-z])", "", UNSEEN.sub("", text[start : start + len(written)]), flags=re.I)
    assert re.sub(r"[\s\-–/]+", " ", plain).lower() == phrase.replace("-", " ")


@given(st.text())
def test_offsets_of_words_lie_in_the_text_and_rise(text):
    reading = Reading(text)
    places = [reading.places(at, at + 1) for at in range(len(reading))]
    edges = [edge for place in places for edge in place]
    assert edges == sorted(edges) and all(0 <= start < end <= len(text) for start, end in places)
    for (start, end), word in zip(places, reading.words, strict=True):
        bare = UNSEEN.sub("", text[start:end])
        plain = re.sub(r"-[ \t]*\r?\n[ \t]*", "", bare).lower().replace("’", "'")
        # A zero among two letters or more is read as the letter (`rule 0ut`).
        is_confused = re.fullmatch(r"[a-z0]+", plain) and sum(map(str.isalpha, plain)) > 1
        assert word == (plain.replace("0", "o") if is_confused else plain)
    assert len(LIST.find(reading)) <= len(reading)


@given(st.text(), st.lists(st.text(max_size=12), max_size=5))
def test_any_phrases_in_any_text(text, phrases):
    matches = Phrases((phrase, None) for phrase in phrases).find(Reading(text))
    assert all(one.stop <= other.first for one, other in itertools.pairwise(matches))


@given(st.text(st.sampled_from("abAB -*'\n"), max_size=20))
def test_a_phrase_matches_itself(phrase):
    plain = phrase.replace("*", "")
    if Reading(plain).words:
        (match, *_) = Phrases([(plain, 1)]).find(Reading(plain))
        assert (match.first, match.stop) == (0, len(Reading(plain)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NODE, EXCISION-\nNO CARCINOMA", ["node", ",", "excision", "no", "carcinoma"]),
        ("BIOPSY -\nNEGATIVE", ["biopsy", "negative"]),
        ("ADENO-\nCARCINOMA", ["adenocarcinoma"]),
        ("EXCISION OF NO-\nDULES", ["excision", "of", "nodules"]),
    ],
)
def test_a_dash_above_a_word_that_ends_no_other_divides_none(text, expected):
    assert Reading(text).words == expected


@pytest.mark.parametrize("part", ["germ cell ", "negative for ", "a" * 40 + " ", "x", "mela-\n", "- \t", "\x00"])
def test_a_long_text_takes_time_in_proportion(part):
    def seconds(count):
        text = part * count
        return cpu_seconds(lambda: LIST.find(Reading(text)))

    assert seconds(40_000) < 12 * seconds(10_000) + 0.5
