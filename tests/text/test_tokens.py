import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from engine.encoders import encoder_folder, load_tokenizer
from engine.text.tokens import tokenize


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(encoder_folder("pkg:minilm"))


@pytest.fixture(scope="module")
def byte_level():
    """A piece for every byte: blanks are words of their own there, or stand in front of one."""
    alphabet = {byte: number for number, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    found = Tokenizer(models.BPE(alphabet, []))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return found


def words(text, found):
    return [text[a:b] for a, b in zip(found.word_start, found.word_end, strict=True)]


def test_words_stand_in_the_text_as_it_is(tokenizer):
    text = "  Größe  5 µm 😀, café\u00a0pT2a\r\n腺癌"
    (found,) = tokenize(tokenizer, [text], 100)
    assert words(text, found) == ["Größe", "5", "µm", "😀", ",", "café", "pT2a", "腺", "癌"]
    assert found.spoken.tolist() == [True, True, True, False, False, True, True, True, True]
    assert found.truncated_chars == 0


def test_marks_on_a_words_last_letter_are_part_of_it(tokenizer, byte_level):
    text = "cafe\u0301 Asthma\u0301, \u2615\ufe0f no\u0308\u0301n"
    shown = ["cafe\u0301", "Asthma\u0301", ",", "\u2615\ufe0f", "no\u0308\u0301n"]
    (found,) = tokenize(tokenizer, [text], 100)
    assert words(text, found) == shown and found.spoken.tolist() == [True, True, False, False, True]
    assert "".join(words(text, tokenize(byte_level, [text], 100)[0])) == text.replace(" ", "")
    # What was not read begins behind them.
    (cut,) = tokenize(tokenizer, ["cafe\u0301 no"], 1)
    assert (words("cafe\u0301 no", cut), cut.truncated_chars) == (["cafe\u0301"], len(" no"))


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


def test_blanks_that_are_words_to_a_byte_level_tokenizer_belong_to_their_neighbour(byte_level):
    text = "the  man\n\nsaw \n"
    (found,) = tokenize(byte_level, [text], 100)
    assert words(text, found) == ["the", "man", "saw"] and found.spoken.tolist() == [True] * 3
    # Both blanks go with man, both ends of a line with saw, and those at the end with the last word.
    assert np.bincount(found.word_of_token).tolist() == [3, 5, 7]
    (cut,) = tokenize(byte_level, [text], 9)
    assert words(text, cut) == ["the", "man"] and len(cut.word_of_token) == 9 and cut.truncated_chars == len("\n\nsaw \n")
    (blank,) = tokenize(byte_level, [" \n"], 100)
    assert len(blank.ids) == len(blank.word_start) == 0 and blank.truncated_chars == 0


@pytest.mark.parametrize("kind", ["tokenizer", "byte_level"])
@given(text=st.text(max_size=200))
def test_offsets_rise_and_stay_inside(request, kind, text):
    tokenizer = request.getfixturevalue(kind)
    (found,) = tokenize(tokenizer, [text], 1000)
    assert len(found.word_start) == (found.word_of_token.max() + 1 if len(found.ids) else 0)
    assert np.all(found.word_start < found.word_end)
    assert np.all(found.word_end[:-1] <= found.word_start[1:])
    assert not len(found.word_end) or found.word_end[-1] <= len(text)
    assert all(word and not word.isspace() for word in words(text, found))
