"""What toy sentences say of the tumours in them, worked by hand; and the lexicon of cues."""

import csv
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.assertions import (
    AFFIRMED,
    HISTORICAL,
    KINDS,
    NEGATED,
    RELATIVE,
    UNCERTAIN,
    Asserted,
    Scope,
    Scopes,
    cues,
    has_lexicon,
)
from engine.text.phrases import Phrases, Reading
from tests.clock import cpu_seconds

TUMOURS = Phrases((name, name) for name in ("*carcinoma*", "melanoma", "lymphoma", "metastasis", "metastases", "malignancy"))


def said(text):
    """What is said of each tumour of a text, in its order."""
    reading = Reading(text)
    asserted = Asserted(reading)
    return [asserted.of(match.first, match.stop).kind for match in TUMOURS.find(reading)]


def cue(text):
    """The words that say it of the first one, and the cue of the lexicon."""
    reading = Reading(text)
    match = TUMOURS.find(reading)[0]
    assertion = Asserted(reading).of(match.first, match.stop)
    start, end = reading.places(assertion.first, assertion.stop)
    return text[start:end], assertion.cue


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Invasive carcinoma.", AFFIRMED),
        ("No carcinoma.", NEGATED),
        ("Without any evidence of carcinoma.", NEGATED),
        ("Negative for dysplasia and carcinoma.", NEGATED),
        ("Two lymph nodes negative for carcinoma.", NEGATED),
        ("A single lymph node is negative for carcinoma.", NEGATED),
        ("Margins are negative for carcinoma.", NEGATED),
        ("Four melanoma-free lymph nodes.", NEGATED),
        ("The margin is carcinoma -free.", NEGATED),
        ("The margins are free. Carcinoma.", AFFIRMED),
        ("Neither dysplasia nor carcinoma.", NEGATED),
        ("Carcinoma is not identified.", NEGATED),
        ("Carcinoma has been ruled out.", NEGATED),
        ("Melanoma is unlikely.", NEGATED),
        ("Fragments of a polyp; carcinoma excluded.", NEGATED),
        ("Carcinoma: ruled out.", NEGATED),
        ("Melanoma surveillance of 2019", UNCERTAIN),
        ("Melanoma screening for employees", NEGATED),
        ("Possible carcinoma.", UNCERTAIN),
        ("Rule out carcinoma.", UNCERTAIN),
        ("R/O carcinoma.", UNCERTAIN),
        ("Cannot exclude carcinoma.", UNCERTAIN),
        ("Suspicious for carcinoma.", UNCERTAIN),
        ("Consistent with carcinoma.", UNCERTAIN),
        ("Carcinoma cannot be excluded.", UNCERTAIN),
        ("Carcinoma should be ruled out.", UNCERTAIN),
        ("Carcinoma is suspected.", UNCERTAIN),
        ("History of carcinoma.", HISTORICAL),
        ("Status post resection of a carcinoma.", HISTORICAL),
        ("Carcinoma, in remission.", HISTORICAL),
        ("Carcinoma of the left breast ten years ago.", HISTORICAL),
        ("Family history of carcinoma.", RELATIVE),
        ("Her mother had carcinoma.", RELATIVE),
        ("Carcinoma in her mother.", RELATIVE),
    ],
)
def test_cues_forward_and_backward(text, kind):
    assert said(text) == [kind]


def test_the_words_that_say_it():
    assert cue("With no\n  evidence of a carcinoma.") == ("With no", "with no")
    assert cue("We see no\n  Evidence of a carcinoma.") == ("no\n  Evidence of", "no evidence of")
    assert cue("Carcinoma cannot\u00ad be excluded.") == ("cannot\u00ad be excluded", "cannot be excluded")
    # Of several the nearest.
    assert cue("Without atypia, negative for melanoma") == ("negative for", "negative for")
    reading = Reading("melanoma")
    assert Asserted(reading).of(0, 1).first is None and Asserted(reading).of(0, 1).cue is None


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        # A denial outweighs a relative, a relative the past, the past a doubt.
        ("No family history of carcinoma.", [NEGATED]),
        ("Mother with a history of carcinoma.", [RELATIVE]),
        ("History of possible carcinoma.", [HISTORICAL]),
    ],
)
def test_which_of_several_counts(text, kinds):
    assert said(text) == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Not only carcinoma but melanoma.", [AFFIRMED, AFFIRMED]),
        ("Triple negative carcinoma.", [AFFIRMED]),
        ("Node negative carcinoma.", [AFFIRMED]),
        ("Non-small cell carcinoma.", [AFFIRMED]),
        ("No doubt a carcinoma.", [AFFIRMED]),
        ("No. of nodes with carcinoma: 3.", [AFFIRMED]),
        ("Prior biopsy: carcinoma.", [AFFIRMED]),
        ("No non-small cell carcinoma.", [NEGATED]),
    ],
)
def test_words_that_only_look_like_cues(text, kinds):
    assert said(text) == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("No carcinoma but melanoma.", [NEGATED, AFFIRMED]),
        ("No carcinoma, however a melanoma.", [NEGATED, AFFIRMED]),
        ("History of carcinoma, now with melanoma.", [HISTORICAL, AFFIRMED]),
        ("Mother had carcinoma; melanoma.", [RELATIVE, AFFIRMED]),
        ("Melanoma, but carcinoma is not seen.", [AFFIRMED, NEGATED]),
        ("No carcinoma. Melanoma.", [NEGATED, AFFIRMED]),
        ("No carcinoma! Melanoma.", [NEGATED, AFFIRMED]),
        ("No carcinoma.\nMelanoma.", [NEGATED, AFFIRMED]),
        ("No carcinoma\n\nMelanoma.", [NEGATED, AFFIRMED]),
        ("No carcinoma\n- melanoma", [NEGATED, AFFIRMED]),
        ("No carcinoma\n2. Melanoma", [NEGATED, AFFIRMED]),
        ("No carcinoma or\n[x] melanoma", [NEGATED, AFFIRMED]),
        ("No carcinoma, melanoma or lymphoma.", [NEGATED, NEGATED, NEGATED]),
    ],
)
def test_where_a_scope_ends(text, kinds):
    assert said(text) == kinds


def test_scopes_of_so_many_words():
    # A backward cue reaches eight words.
    assert said("Carcinoma " + "a " * 7 + "is not seen.") == [NEGATED]
    assert said("Carcinoma " + "a " * 8 + "is not seen.") == [AFFIRMED]
    # No cue reaches over the hundred words that a list without a stop may have.
    assert said("No " + "a, " * 49 + "carcinoma") == [NEGATED]
    assert said("No " + "a, " * 50 + "carcinoma") == [AFFIRMED]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Invasion: no Histologic type: carcinoma", [AFFIRMED]),
        ("Metastasis: No. Carcinoma", [NEGATED, AFFIRMED]),
        ("Melanoma: yes\nCarcinoma: no\nLymphoma: yes", [AFFIRMED, NEGATED, AFFIRMED]),
        ("Melanoma: YES\nCARCINOMA: NO\nLYMPHOMA: YES", [AFFIRMED, NEGATED, AFFIRMED]),
        ("Necrosis: No\nMelanoma\nCarcinoma", [AFFIRMED, AFFIRMED]),
        ("Carcinoma     none\nMelanoma", [NEGATED, AFFIRMED]),
        ("Carcinoma\tabsent\nMelanoma", [NEGATED, AFFIRMED]),
        ("Carcinoma ..... no\nMelanoma", [NEGATED, AFFIRMED]),
        ("Carcinoma......no\nMelanoma", [NEGATED, AFFIRMED]),
        ("Carcinoma... No melanoma", [AFFIRMED, NEGATED]),
        ("Carcinoma: \nno melanoma", [AFFIRMED, NEGATED]),
        ("Carcinoma: not identified", [NEGATED]),
        ("Nodes with carcinoma: 0/19", [NEGATED]),
        ("Share of carcinoma: 0.6 %", [AFFIRMED]),
        ("Share of carcinoma: 0,6 %", [AFFIRMED]),
        ("carcinoma = false, melanoma = true", [NEGATED, AFFIRMED]),
        ('{"carcinoma": false, "melanoma": true}', [NEGATED, AFFIRMED]),
        ("Negative for the following: carcinoma", [NEGATED]),
        ("Diagnosis: no carcinoma", [NEGATED]),
        ("Carcinoma, no", [AFFIRMED]),
    ],
)
def test_fields_and_their_values(text, kinds):
    assert said(text) == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("No evidence\nof carcinoma.", [NEGATED]),
        ("No evidence of\nCarcinoma.", [NEGATED]),
        ("NO EVIDENCE\nOF CARCINOMA.", [NEGATED]),
        ("NEGATIVE\nFOR CARCINOMA", [NEGATED]),
        ("NO CARCINOMA\nOR MELANOMA", [NEGATED, NEGATED]),
        ("NO EVIDENCE OF DYSPLASIA, METAPLASIA, ULCERATION,\nCARCINOMA.", [NEGATED]),
        ("No evidence of dysplasia, intestinal metaplasia or\nof carcinoma.", [NEGATED]),
        ("THE SECTIONS ARE WITHOUT ANY SIGN OF A RECURRENT OR A RESIDUAL\nCARCINOMA", [NEGATED]),
        ("NO EVIDENCE. OF MALIGNANCY", [NEGATED]),
        ("There is no. evidence of. malignancy", [NEGATED]),
        ("Seen by Dr. Carr, no carcinoma.", [NEGATED]),
        ("No tumour of 3 cm vs. carcinoma.", [NEGATED]),
        ("No polyp\nCarcinoma", [AFFIRMED]),
        ("? metastases", [UNCERTAIN]),
        ("Metastases?", [UNCERTAIN]),
        ("Polyp? Carcinoma", [AFFIRMED]),
    ],
)
def test_sentences_over_lines_and_stops_within_them(text, kinds):
    assert said(text) == kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Clinical history: melanoma.\n\nDiagnosis: carcinoma.", [HISTORICAL, AFFIRMED]),
        ("Clinical history: melanoma. Diagnosis: carcinoma.", [HISTORICAL, AFFIRMED]),
        ("CLINICAL HISTORY\nMELANOMA\nFINAL DIAGNOSIS\nCARCINOMA", [HISTORICAL, AFFIRMED]),
        ("PAST HISTORY. A NODULE. MELANOMA.\n\nCARCINOMA", [HISTORICAL, AFFIRMED]),
        ("Past medical history:\nA nodule.\nMelanoma.\n\nCarcinoma", [HISTORICAL, AFFIRMED]),
        ("Past medical history:\n\nA nodule.\nMelanoma.\n\nCarcinoma", [HISTORICAL, AFFIRMED]),
        ("Family history: Unknown. Melanoma.\nDiagnosis: carcinoma.", [RELATIVE, AFFIRMED]),
        ("Family history: Unknown. Melanoma.\nLeft arm: carcinoma.", [RELATIVE, AFFIRMED]),
        ("Clinical diagnosis: melanoma\nDiagnosis: carcinoma", [UNCERTAIN, AFFIRMED]),
        ("Family history: none. Clinical history: melanoma.", [HISTORICAL]),
        ("Diagnosis: melanoma.", [AFFIRMED]),
        # No heading: words of a sentence.
        ("The disclaimer is short. Melanoma.", [AFFIRMED]),
        # A heading colours sixty words, and a report without line ends goes on.
        ("Clinical data: " + "a. " * 29 + "melanoma", [UNCERTAIN]),
        ("Clinical data: " + "a. " * 30 + "melanoma", [AFFIRMED]),
    ],
)
def test_headings(text, kinds):
    assert said(text) == kinds


PIECES = [
    *("no", "no evidence of", "not only", "without", "negative for", "is not seen", "cannot exclude", "?", "history of", "but"),
    *("mother had", "cannot be excluded", "consistent with", "carcinoma", "melanoma", "a", "nodule", ",", ":", "and", "shows"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=25))
def test_assertions_on_a_line_do_not_depend_on_case(pieces):
    text = " ".join(pieces)
    assert said(text) == said(text.upper()) == said(text.title())


@given(st.lists(st.sampled_from(PIECES), max_size=25), st.data())
def test_assertions_do_not_depend_on_blanks_and_what_nobody_sees(pieces, data):
    # Two blanks at most: three set a value apart, as in a table.
    other = "".join(data.draw(st.sampled_from([" ", "  ", " \u00ad", "\u200b "])) + "\x00".join(piece) for piece in pieces)
    assert said(other) == said(" ".join(pieces))


@given(st.lists(st.sampled_from([*PIECES, "\n", "\n\n", ". ", "clinical history:", "DIAGNOSIS:", "\t", "No.", "0"]), max_size=40))
def test_every_word_has_one_assertion(pieces):
    reading = Reading(" ".join(pieces))
    asserted = Asserted(reading)
    for at in range(len(reading)):
        assertion = asserted.of(at, at + 1)
        assert assertion.kind in KINDS
        assert (assertion.kind == AFFIRMED) == (assertion.cue is None)
        if assertion.cue is not None:
            # A cue says nothing of its own words.
            assert not assertion.first <= at < assertion.stop


@given(st.text())
def test_any_text(text):
    reading = Reading(text)
    asserted = Asserted(reading)
    assert all(asserted.of(at, at + 1).kind in KINDS for at in range(len(reading)))


def test_a_language_without_a_lexicon():
    assert has_lexicon("en") and not has_lexicon("de")
    with pytest.raises(FileNotFoundError):
        Asserted(Reading("kein Karzinom"), "de")


def test_scopes_in_characters_of_the_original():
    text = "\u00adWith no\n evidence of car\u00adcinoma; a  melanoma 😀 is not seen."
    scopes = Asserted(Reading(text)).in_characters()
    spans = [(each.start, each.end) for each in scopes]
    assert [text[start:end] for start, end in spans] == ["evidence of car\u00adcinoma;", "a  melanoma 😀"]
    start = text.index("car")
    scope = scopes.of(start, start + len("car\u00adcinoma"))
    assert (scope.kind, text[scope.cue_start : scope.cue_end]) == (NEGATED, "With no")
    # A span that is not wholly in a scope is affirmed.
    assert scopes.of(start, text.index("melanoma") + 8) is None and scopes.of(0, 3) is None


def test_of_several_scopes_the_first_kind_and_then_the_nearest_cue_decides():
    scopes = Scopes([Scope(5, 50, HISTORICAL, 0, 4), Scope(9, 60, NEGATED, 6, 8), Scope(9, 40, NEGATED, 45, 50)])
    assert scopes.of(10, 20) == (9, 60, NEGATED, 6, 8)
    assert scopes.of(35, 40) == (9, 40, NEGATED, 45, 50)
    assert scopes.of(6, 8).kind == HISTORICAL and scopes.of(60, 61) is None
    assert Scopes([]).of(0, 1) is None
    assert scopes.columns(10, 20) == {"assertion": NEGATED, "cue_start": 6, "cue_end": 8}
    assert scopes.columns(60, 61) == {"assertion": AFFIRMED, "cue_start": None, "cue_end": None}


@given(st.lists(st.sampled_from([*PIECES, "\n", ". ", "clinical history:", "DIAGNOSIS:", "\u00ad"]), max_size=40))
def test_words_and_their_characters_have_the_same_assertion(pieces):
    reading = Reading(" ".join(pieces))
    asserted = Asserted(reading)
    scopes = asserted.in_characters()
    for at in range(len(reading)):
        scope = scopes.of(*reading.places(at, at + 1))
        assert asserted.of(at, at + 1).kind == (AFFIRMED if scope is None else scope.kind)


_PARTS = [
    *(
        "no carcinoma ",
        "no carcinoma. ",
        "clinical history: carcinoma ",
        "history\n",
        "history. ",
        "carcinoma is not seen ",
        "...",
    ),
    *("...", "no:", "but ", "\t", "? ", "AB\n", "no evidence of\n", "Carcinoma: no\n"),
]


@pytest.mark.parametrize("part", _PARTS)
def test_a_long_text_takes_time_in_proportion(part):
    def seconds(count):
        text = part * count
        return cpu_seconds(lambda: said(text))

    assert seconds(16_000) < 12 * seconds(4_000) + 0.5


SCOPES = ("forward", "backward", "value", "none", "end", "section", "part")


@pytest.fixture(scope="module")
def rows():
    with resources.files("engine.text").joinpath("assertions.en.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_of_the_lexicon_has_a_known_kind_and_scope(rows):
    assert len(rows) > 800
    for row in rows:
        assert list(row) == ["phrase", "kind", "scope", "reach"] and row["scope"] in SCOPES, row
        # `none`, `end` and `part` say nothing of their own.
        assert (row["kind"] in KINDS[1:]) == (row["scope"] in ("forward", "backward", "value", "section")), row
        assert row["kind"] in ("", *KINDS[1:]), row
        # A hundred words are the farthest that a cue reaches.
        assert not row["reach"] or (row["scope"] in ("forward", "backward") and 1 <= int(row["reach"]) <= 100), row


def test_no_cue_stands_in_the_lexicon_twice(rows):
    cues = [(tuple(Reading(row["phrase"]).words), row["scope"]) for row in rows]
    assert len(cues) == len(set(cues))


def test_every_phrase_of_the_lexicon_matches_itself(rows):
    for headings in (False, True):
        phrases = [row["phrase"] for row in rows if (row["scope"] in ("section", "part")) == headings]
        listed = Phrases((phrase, None) for phrase in phrases)
        for phrase in phrases:
            reading = Reading(phrase)
            (match,) = listed.find(reading)
            assert (match.first, match.stop) == (0, len(reading)), phrase


def test_the_cues_of_a_kind_in_lower_case():
    negated = cues("en", NEGATED)
    assert {"no", "not", "without"} <= set(negated) and not {"possible", "mother"} & set(negated)
    assert all(cue == cue.lower() for cue in negated)
    chinese = set(cues("zh", NEGATED))
    assert {"无", "否认"} <= chinese and chinese.isdisjoint(cues("zh", UNCERTAIN))
    # Headings are no cues, and a language without a lexicon has none.
    assert cues("xx", NEGATED) == []
