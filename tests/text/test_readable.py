"""Which toy texts are words, and which of them English."""

import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.phrases import Reading
from engine.text.readable import LEAST, in_language, is_english, unreadable, word_share
from tests.clock import cpu_seconds


def test_the_share_of_characters_that_lie_in_words():
    assert word_share(Reading("a carcinoma")) == 9 / 10
    # Of ten characters, four are the word's.
    assert word_share(Reading("lump 123456")) == 0.4
    assert word_share(Reading("lump\n\t lump")) == 1.0
    assert word_share(Reading("")) == word_share(Reading(" \n\x00")) == 0.0
    # What nobody sees is none of the characters.
    assert word_share(Reading("l\x00u\x00m\x00p\u00ad")) == 1.0
    # The apostrophe is a part of its word.
    assert word_share(Reading("patient's")) == 1.0


NO_WORDS = ["x", "12", "a1b2", "bcdfgh", "IIIIII", "illi", "carrrcinoma", "aBcaDe", "xyztvbnmklp", "o" + "ab" * 12]
WORDS = ["of", "ii", "ill", "why", "eGFR", "McCune", "lymphoma", "carcinoma", "Ärzte", "癌", "рак", "o" + "ab" * 11]


@pytest.mark.parametrize("word", NO_WORDS)
def test_no_words(word):
    assert word_share(Reading(word)) == 0.0


@pytest.mark.parametrize("word", WORDS)
def test_words(word):
    assert word_share(Reading(word)) == 1.0


def test_the_least_share():
    assert unreadable(Reading("12345678 of")) and LEAST > 2 / 10
    assert not unreadable(Reading("1234567 ofa")) and LEAST <= 3 / 10


@pytest.mark.parametrize(
    "noise", ["IIIIIIIIIIIIII", "|||| ||| || ||||", "12345 67890 1234", "~~~ --- ___ ***", "lIlIlI IllI lIIIl 1Il"]
)
def test_noise_of_scans(noise):
    assert unreadable(Reading(noise)) and unreadable(Reading(noise * 50))


@given(st.integers(60, 6000), st.integers(0, 2**32))
def test_encoded_documents(size, seed):
    text = base64.b64encode(random.Random(seed).randbytes(size)).decode()
    lines = "\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    assert unreadable(Reading(text)) and unreadable(Reading(lines))


@pytest.mark.parametrize(
    "text",
    ["Ductal carcinoma.", "Karzinom der Brust.", "左乳腺浸润性导管癌", "Carcinome canalaire", "BREAST, LEFT:\n1.2 x 0.9 x 3 cm"],
)
def test_reports_are_readable(text):
    assert not unreadable(Reading(text))


@pytest.mark.parametrize(
    ("text", "english"),
    [
        ("The margins are free of carcinoma.", True),
        ("Carcinoma", True),
        ("", True),
        ("Breast, left, biopsy: ductal carcinoma 3 cm", True),
        ("Der Tumor ist im Gesunden entfernt.", False),
        ("Absence de carcinome dans les sections.", False),
        ("Carcinoma ductale della mammella, con metastasi.", False),
        ("Sin evidencia de carcinoma para el paciente.", False),
        ("Geen maligniteit, het preparaat is vrij.", False),
        ("Nie stwierdza się raka.", False),
        ("没有发现癌细胞 没有发现癌细胞", False),
        ("Рак молочной железы", False),
        # A word or two of another language is no other language.
        ("The café is in the street of the Müller clinic.", True),
        ("Carcinoma of the breast, von Recklinghausen.", True),
    ],
)
def test_english(text, english):
    assert is_english(Reading(text)) == english
    assert is_english(Reading(text.upper())) == english


@pytest.mark.parametrize(
    ("text", "chinese"),
    [
        ("患者IgE升高", True),
        # Digits and marks are no letters.
        ("瘙痒 12.5 % (3/7), 2019-03-04", True),
        ("12 %", True),
        ("", True),
        # Two letters of four, and two of five.
        ("湿疹ab", True),
        ("湿疹abc", False),
        ("The margins are free of carcinoma.", False),
    ],
)
def test_chinese(text, chinese):
    assert in_language(Reading(text), "zh") == chinese
    assert in_language(Reading(text), "en") == is_english(Reading(text))
    assert in_language(Reading(text), "de")


@given(st.text())
def test_any_text(text):
    reading = Reading(text)
    assert 0 <= word_share(reading) <= 1
    assert unreadable(reading) == (word_share(reading) < LEAST)
    assert is_english(reading) in (True, False)


@pytest.mark.parametrize("part", ["a", "n", "bcd ", "癌", "der "])
def test_a_long_text_takes_time_in_proportion(part):
    def seconds(count):
        reading = Reading(part * count)
        return cpu_seconds(lambda: (unreadable(reading), is_english(reading)))

    assert seconds(160_000) < 12 * seconds(40_000) + 0.5
