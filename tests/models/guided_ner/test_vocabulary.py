"""What may stand for a token, and what no copy changes."""

import numpy as np
import pytest

from engine.encoders import encoder_folder, load_tokenizer
from engine.models.characters import character_tokenizer
from engine.models.guided_ner.vocabulary import vocabulary

TEXT = "患者无发热，未见红斑；否认药物过敏。肿腫紅，3天５Ⅱ"


@pytest.fixture(scope="module")
def chinese():
    tokenizer = character_tokenizer([TEXT, TEXT])
    return tokenizer, vocabulary(tokenizer, "zh")


def tokens(tokenizer, ids):
    return {tokenizer.id_to_token(int(number)) for number in ids}


def test_numbers_denying_words_and_special_tokens_are_spared(chinese):
    tokenizer, classes = chinese
    spared = tokens(tokenizer, np.flatnonzero(classes.spared))
    assert {"3", "5", "无", "未", "否", "[CLS]", "[MASK]", "[UNK]"} <= spared
    # NFKC makes letters of the Roman number, which are no digits.
    assert not spared & {"患", "红", "热", "，", "药", "i"}
    assert len(classes.spared) == tokenizer.get_vocab_size()


def test_marks_stand_for_marks(chinese):
    tokenizer, classes = chinese
    comma, rng = tokenizer.token_to_id(","), np.random.default_rng(0)
    drawn = {classes.other(comma, rng) for _ in range(100)}
    assert tokens(tokenizer, drawn) == {";", "。"}
    # A full-width comma is the same token.
    assert tokenizer.token_to_id("，") is None


def test_a_character_stands_for_its_other_form_where_that_is_known(chinese):
    tokenizer, classes = chinese
    rng, number = np.random.default_rng(0), tokenizer.token_to_id
    assert classes.other(number("肿"), rng) == number("腫") and classes.other(number("腫"), rng) == number("肿")
    assert classes.other(number("红"), rng) == number("紅") and classes.other(number("紅"), rng) == number("红")
    # 發 and 藥 are not in these texts; 患 has no other form.
    assert classes.other(number("发"), rng) == number("[UNK]") and classes.other(number("药"), rng) == number("[UNK]")
    assert classes.other(number("患"), rng) == number("患")
    assert number("[UNK]") not in classes.others


def test_other_languages_deny_with_whole_words():
    tokenizer = load_tokenizer(encoder_folder("tiny:bert"))
    spared = tokens(tokenizer, np.flatnonzero(vocabulary(tokenizer, "en").spared))
    assert {"no", "not", "without", "12"} <= spared and not spared & {"the", "evidence", "of"}
    # A language without a lexicon spares numbers alone.
    none = tokens(tokenizer, np.flatnonzero(vocabulary(tokenizer, "xx").spared))
    assert "12" in none and "no" not in none
