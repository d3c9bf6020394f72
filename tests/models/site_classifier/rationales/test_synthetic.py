"""Proposals of templates and of a tiny random language model, and what counts of them."""

import pytest

from engine.errors import ConfigError
from engine.models.site_classifier.rationales.synthetic import LanguageModel, Templates, covered, generator, proposed

TEXT = "Gross: tan tissue.\nLeft lung, resection: oat cell tumor. Margins free."


def test_an_extractive_template_is_a_sentence_of_the_report():
    found = proposed(Templates(), "r", TEXT, "C34")
    assert [TEXT[a:b] for a, b in found.spans] == ["Left lung, resection: oat cell tumor."] == [found.text]
    assert proposed(Templates(), "r", TEXT, "C61").flaw == "empty"
    assert proposed(Templates(), "r", TEXT, "tan tissue").text == "Gross: tan tissue."


def test_an_abstractive_one_is_the_same_for_the_same_report_and_has_no_place_in_it():
    first = proposed(Templates("abstractive"), "r", TEXT, "C61")
    assert first == proposed(Templates("abstractive"), "r", TEXT, "C61") and first.spans == () and first.flaw is None
    assert len({Templates("abstractive").propose(f"r{i}", TEXT, "C61") for i in range(30)}) > 3


class Says:
    name, digest, mode = "says", "", "extractive"

    def __init__(self, words):
        self.words = words

    def propose(self, record_id, text, label):
        return self.words


def test_words_that_do_not_stand_in_the_report_count_for_nothing():
    assert proposed(Says("left lung, resection"), "r", TEXT, "C34").flaw == "not_verbatim"
    assert proposed(Says(" Left lung "), "r", TEXT, "C34").spans == ((19, 28),)
    assert proposed(Says(" "), "r", TEXT, "C34").flaw == "empty"


def test_coverage_by_hand():
    assert covered(((0, 4), (10, 16)), ((2, 12),)) == pytest.approx(4 / 10)
    assert covered(((0, 4),), ()) == 0.0


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("gpt2")
    words = ["[UNK]", "Report", "the", "words", "of", "that", "show", "its", "label", "is", "left", "lung", "tumor", ".", ":"]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(1)
    shape = GPT2Config(vocab_size=len(words), n_positions=128, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(shape).save_pretrained(folder, safe_serialization=True)
    return folder


def test_a_language_model_answers_greedily_and_is_known_by_its_weights(gpt2):
    model = generator(f"path:{gpt2}", "extractive")
    short = LanguageModel(f"path:{gpt2}", "extractive", max_tokens=4, new_tokens=5)
    assert model.propose("r", TEXT, "C34") == model.propose("other", TEXT, "C34")
    answer = short.propose("r", TEXT * 20, "C34")
    assert 0 < len(answer.split()) <= 5
    assert short.digest != model.digest != generator(f"path:{gpt2}", "abstractive").digest
    assert proposed(short, "r", TEXT, "C34").flaw in (None, "not_verbatim")


def test_a_generator_needs_a_name_and_a_revision(monkeypatch):
    with pytest.raises(ConfigError, match="needs a pinned revision"):
        generator("hub:gpt2", "extractive").propose("r", TEXT, "C34")
    with pytest.raises(ConfigError, match="none of template"):
        generator("gpt2", "extractive")
    with pytest.raises(ConfigError, match="generator_mode"):
        generator("template", "poetic")
