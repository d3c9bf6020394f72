import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.encoders import encoder_folder, load_tokenizer
from engine.text.tokens import tokenize


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(encoder_folder("pkg:minilm"))


def words(text, found):
    return [text[a:b] for a, b in zip(found.word_start, found.word_end, strict=True)]


def test_words_stand_in_the_text_as_it_is(tokenizer):
    text = "  Größe  5 µm 😀, café\u00a0pT2a\r\n腺癌"
    (found,) = tokenize(tokenizer, [text], 100)
    assert words(text, found) == ["Größe", "5", "µm", "😀", ",", "café", "pT2a", "腺", "癌"]
    assert found.spoken.tolist() == [True, True, True, False, False, True, True, True, True]
    assert found.truncated_chars == 0


def test_tokens_of_a_word_carry_its_number(tokenizer):
    (found,) = tokenize(tokenizer, ["immunohistochemistry of"], 100)
    assert len(found.ids) > 2
    assert found.word_of_token.tolist() == [0] * (len(found.ids) - 1) + [1]


def test_what_is_cut_is_counted(tokenizer):
    (found,) = tokenize(tokenizer, ["one two three four"], 2)
    assert len(found.ids) == 2
    assert found.truncated_chars == len(" three four")


def test_nothing_to_read(tokenizer):
    blank, control = tokenize(tokenizer, [" \n", "\x00\x01"], 10)
    assert len(blank.ids) == len(control.ids) == 0
    assert blank.truncated_chars == 0


def test_ten_kilobytes_of_digits_are_one_unknown_word(tokenizer):
    (found,) = tokenize(tokenizer, ["7" * 10_000], 100)
    assert len(found.ids) == 1
    assert (found.word_start[0], found.word_end[0]) == (0, 10_000)


@given(st.text(max_size=200))
def test_offsets_rise_and_stay_inside(text):
    tokenizer = load_tokenizer(encoder_folder("pkg:minilm"))
    (found,) = tokenize(tokenizer, [text], 1000)
    assert len(found.word_start) == (found.word_of_token.max() + 1 if len(found.ids) else 0)
    assert np.all(found.word_start < found.word_end)
    assert np.all(found.word_end[:-1] <= found.word_start[1:])
    assert not len(found.word_end) or found.word_end[-1] <= len(text)
    assert all(word and not word.isspace() for word in words(text, found))
