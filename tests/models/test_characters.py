"""The tokenizer of characters: every character that is no blank is a word, at its place in the text."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig

from engine.encoders import encoder_config, special_ids
from engine.models.characters import SPECIAL, character_tokenizer, new_encoder, small_encoder, stored_config
from engine.text.tokens import tokenize


def words(text, known=None):
    """The words of a text as it stands there, and its tokens, by a tokenizer of that text."""
    tokenizer = character_tokenizer([known or text] * 2)
    (tokens,) = tokenize(tokenizer, [text], 10**6)
    places = list(zip(tokens.word_start.tolist(), tokens.word_end.tolist(), strict=True))
    assert all(0 <= a < b <= len(text) for a, b in places)
    return [text[a:b] for a, b in places], [tokenizer.id_to_token(int(number)) for number in tokens.ids], tokens


@pytest.mark.parametrize(
    ("text", "shown", "read"),
    [
        ("患者红斑", "患|者|红|斑", "患|者|红|斑"),
        ("IgE升高", "I|g|E|升|高", "i|g|e|升|高"),
        ("１２．５ｍｇ", "１|２|．|５|ｍ|ｇ", "1|2|.|5|m|g"),
        ("体温38.5", "体|温|3|8|.|5", "体|温|3|8|.|5"),
        ("红\n斑\r\n 疹\u3000痒\t。", "红|斑|疹|痒|。", "红|斑|疹|痒|。"),
        ("痒😀痒", "痒|😀|痒", "痒|😀|痒"),
        ("𠮷田", "𠮷|田", "𠮷|田"),
    ],
)
def test_every_character_is_a_word(text, shown, read):
    found, tokens, encoded = words(text)
    assert found == shown.split("|") and tokens == read.split("|")
    assert encoded.word_of_token.tolist() == list(range(len(found))) and encoded.truncated_chars == 0


@pytest.mark.parametrize(("text", "wide"), [("5㎎片", "㎎"), ("aﬁb", "ﬁ"), ("①度", "①"), ("é型", "é")])
def test_a_character_that_is_written_as_several_keeps_its_one_place(text, wide):
    found, tokens, encoded = words(text)
    place = text.index(wide)
    of_wide = [token for token, word in zip(tokens, encoded.word_of_token, strict=True) if encoded.word_start[word] == place]
    assert of_wide and found[0] == text[0] and found[-1] == text[-1]
    assert set(found) == set(text) and all(encoded.word_end - encoded.word_start == 1)


def test_a_combining_mark_belongs_to_its_letter():
    # NFKC joins both into one character.
    text = "xe\u0301y"
    found, tokens, _ = words(text)
    assert found == ["x", "e\u0301", "y"] and tokens == ["x", "é", "y"]


def test_a_lone_surrogate_is_no_text_for_it():
    tokenizer = character_tokenizer(["红斑"] * 2)
    with pytest.raises((TypeError, UnicodeEncodeError)):
        tokenize(tokenizer, ["红\ud83d斑"], 10)


def test_rare_characters_are_unknown_and_blanks_are_none():
    tokenizer = character_tokenizer(["红斑 红", "斑Ａ", "a 痒"])
    vocabulary = tokenizer.get_vocab()
    # A full-width capital counts as its small letter.
    assert set(vocabulary) == {*SPECIAL, "红", "斑", "a"}
    assert [vocabulary[name] for name in SPECIAL] == [0, 1, 2, 3, 4]
    assert tokenizer.encode("痒红A").tokens == ["[UNK]", "红", "a"]
    assert special_ids(tokenizer) == (2, 3, 0, 4)


def test_the_same_texts_in_another_order_give_the_same_tokenizer():
    texts = ["红斑疹", "疹痒红", "斑痒"]
    assert character_tokenizer(texts).to_str() == character_tokenizer(texts[::-1]).to_str()


def test_blanks_alone_are_no_words():
    (tokens,) = tokenize(character_tokenizer(["红斑"] * 2), [" \n\u3000\t"], 10)
    assert len(tokens.ids) == 0 and len(tokens.word_start) == 0


def test_a_stored_configuration_builds_the_same_encoder_and_names_no_place(tmp_path):
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    config.save_pretrained(tmp_path)
    config = BertConfig.from_pretrained(tmp_path)
    stored = stored_config(config)
    assert str(tmp_path) not in json.dumps(stored) and not {"_name_or_path", "transformers_version", "dtype"} & set(stored)
    torch.manual_seed(0)
    built = new_encoder(json.loads(json.dumps(stored)))
    assert built.config.hidden_size == 8 and built.config.intermediate_size == 8 and not built.training
    assert not [name for name in built.state_dict() if "pooler" in name]
    other = stored_config(encoder_config("tiny:bert"))
    assert new_encoder(other).config.hidden_size == 32


def test_the_small_encoder_has_a_place_for_every_token_and_about_a_million_weights():
    tokenizer = character_tokenizer(["红斑痒疹" * 2])
    values = small_encoder(tokenizer, 66)
    encoder = new_encoder({**values, "vocab_size": 2000})
    assert 1.0e6 < sum(value.numel() for value in encoder.parameters()) < 1.4e6
    encoder = new_encoder(values)
    with torch.no_grad():
        states = encoder(input_ids=torch.tensor(np.arange(66)[None] % tokenizer.get_vocab_size()))[0]
    assert states.shape == (1, 66, 128) and states.isfinite().all()
