"""Soft prompts as files that can be listed and exchanged, and the texts that stand before them."""

from dataclasses import replace

import pytest
import torch

from engine.errors import ConfigError
from engine.models.prompt_mrc.build import completed
from engine.models.prompt_mrc.config import STYLES, MrcConfig
from engine.models.prompt_mrc.prompts import PromptModule, SoftPrompts
from engine.models.prompt_mrc.templates import queries, questions_of, read_questions, template, templates
from tests.models.prompt_mrc.conftest import tiny_config

CONFIG = tiny_config(shared_soft=2, type_soft=3)


def soft(**changes):
    return SoftPrompts(tiny_config(shared_soft=2, type_soft=3, **changes), 4)


def module(prompts):
    """The vectors as they stand, as a file of prompts has them."""
    own = dict(zip(prompts.config.types, prompts.own.detach(), strict=True))
    return PromptModule(prompts.config.domain, prompts.config.encoder_digest, prompts.shared.detach(), own)


def test_vectors_start_near_the_definitions_pieces_in_turn():
    prompts, again = soft(), soft()
    rows = [torch.arange(8.0).view(2, 4), torch.ones(5, 4)]
    for each in (prompts, again):
        each.start(rows)
    assert torch.equal(prompts.own, again.own) and torch.equal(prompts.shared, again.shared)
    assert (prompts.own[0] - rows[0][[0, 1, 0]]).abs().max() < 0.1
    assert (prompts.shared - (rows[0].mean(0) + 1) / 2).abs().max() < 0.1
    assert prompts.own[0, 0].tolist() != rows[0][0].tolist()


def test_a_new_type_has_the_mean_of_the_others_vectors():
    prompts = soft()
    prompts.start([torch.zeros(1, 4), torch.ones(1, 4)])
    torch.testing.assert_close(prompts.of(2)[2:], prompts.own.mean(0))
    torch.testing.assert_close(prompts.of(1), torch.cat([prompts.shared, prompts.own[1]]))


def test_prompts_are_saved_and_exchanged(tmp_path):
    prompts = soft(domain="clinic")
    prompts.start([torch.zeros(1, 4), torch.ones(1, 4)])
    path = tmp_path / "prompts" / "clinic.safetensors"
    module(prompts).save(path)
    assert path.stat().st_size < 2000
    told = PromptModule.read(path)
    assert (told.domain, sorted(told.own)) == ("clinic", ["A", "B"])
    other = soft()
    other.swap(PromptModule.read(path))
    assert torch.equal(other.own, prompts.own) and torch.equal(other.shared, prompts.shared)


def test_prompts_of_another_kind_are_refused(tmp_path):
    prompts, found = soft(), module(soft())
    for other, told in (
        (PromptModule("x", "other", found.shared, found.own), "another encoder"),
        (PromptModule("x", found.encoder, found.shared[:1], found.own), "other numbers of vectors"),
        (PromptModule("x", found.encoder, found.shared, {"A": found.own["A"][:2]}), "other numbers of vectors"),
        (PromptModule("x", found.encoder, found.shared, {"Z": found.own["A"]}), "none of the types A, B"),
    ):
        with pytest.raises(ConfigError, match=told):
            prompts.swap(other)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="no file with prompts"):
        PromptModule.read(tmp_path / "x.safetensors")


def test_prompts_of_a_model_with_other_weights_are_refused_where_the_models_are_known(tmp_path):
    found, told = module(soft()), {}
    for weights in (None, "mine", "other"):
        replace(found, weights=weights).save(tmp_path / "x.safetensors")
        told[weights] = PromptModule.read(tmp_path / "x.safetensors")
        assert told[weights].weights == weights
    config, width = soft().config, found.shared.shape[1]
    for mine in (None, "mine"):
        for weights in (None, "mine", "other"):
            if mine and weights != mine:
                with pytest.raises(ConfigError, match=r"^model.prompts: those of 'general' were learned with another model"):
                    told[weights].check(config, width, mine)
            else:
                told[weights].check(config, width, mine)


def test_a_type_that_a_file_lacks_keeps_its_own_vectors_beside_the_files_shared_ones():
    prompts, found = soft(), module(soft())
    prompts.start([torch.zeros(1, 4), torch.ones(1, 4)])
    before = prompts.own.detach().clone()
    prompts.swap(replace(found, shared=found.shared + 5, own={"B": found.own["B"] + 7}))
    assert (prompts.shared == 5).all() and torch.equal(prompts.own[0], before[0]) and (prompts.own[1] == 7).all()


def test_every_type_has_a_name_and_four_of_each_style():
    kinds = {(each.type, each.language) for each in templates()}
    assert len(kinds) == 30 and ("MORFOLOGIA_NEOPLASIA", "es") in kinds
    for name, language in kinds:
        texts = {template(name, language, style, version).text for style in STYLES for version in (1, 2, 3, 4)}
        assert len(texts) == 12
        assert template(name, language, "name").text


def test_a_users_own_questions_go_first(tmp_path):
    path = tmp_path / "questions.yaml"
    path.write_text("Device:  Which implants\n  are named?\nDisease: What ails the patient?\n")
    own = read_questions(path)
    assert own == {"Device": "Which implants are named?", "Disease": "What ails the patient?"}
    found = queries(["Disease", "Device", "Chemical"], "hard", "en", "question", 1, own)
    assert found[:2] == (own["Disease"], own["Device"]) and "chemicals" in found[2]
    assert queries(["New_type"], "name", "en", "question") == ("New type",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a type and its question"),
        ("- a\n", "a type and its question"),
        ("A: 3\n", "both as text"),
        ("3: what\n", "both as text"),
        ("A: ' '\n", "both as text"),
        ("A: [what]\n", "both as text"),
        ("Date: 2024-99-99\n", "both as text"),
        ('D: !!int "abc"\n', "both as text"),
        ('D: !!timestamp "abc"\n', "both as text"),
        ("A: [\n", "no readable YAML"),
        ("[" * 5000, "no readable YAML"),
        ("Device: one?\nDevice: two?\n", "the type 'Device' stands there twice; ask for it once"),
        ("Device: one?\n'Device ': two?\n", "the type 'Device' stands there twice; ask for it once"),
    ],
)
def test_a_file_that_holds_no_questions_is_refused(tmp_path, text, told):
    path = tmp_path / "questions.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=told) as caught:
        read_questions(path)
    assert str(caught.value).startswith(f"questions{' in' if 'readable' not in told else ':'} {path}")


def test_a_type_that_is_asked_for_twice_is_refused_wherever_it_stands():
    assert questions_of({" Device ": "one?"}, "entities.questions") == {"Device": "one?"}
    with pytest.raises(ConfigError, match=r"^entities.questions: the type 'Device' stands there twice; ask for it once$"):
        questions_of({"Device ": "one?", "Device": "two?"}, "entities.questions")


@pytest.mark.parametrize("own", [None, {"Disease": "What ails the patient?"}])
@pytest.mark.parametrize("mode", ["name", "hard", "soft", "hybrid"])
def test_an_unknown_language_is_refused_by_every_mode_that_has_prompts(mode, own):
    config = MrcConfig(types=("Disease",), mode=mode, language="fi", encoder="tiny:bert")
    with pytest.raises(ConfigError, match=r"^model.language: there are no questions in 'fi'; there are some in en, es") as caught:
        completed(config, own)
    # With own questions nothing is asked in that language, and the error says the way out.
    assert str(caught.value).endswith("; with a question for every type in model.questions leave it out")


def test_a_tagger_asks_nothing_in_any_language():
    config = MrcConfig(types=("Disease",), mode="tagger", language="fi", encoder="tiny:bert")
    assert completed(config).queries == ()


def test_a_name_is_never_that_of_another_language():
    assert queries(["MORFOLOGIA_NEOPLASIA"], "name", "es", "question") == ("morfologías de tumores",)
    with pytest.raises(ConfigError, match=r"^model.language: 'Disease' has its name in en, not in 'es'; .*model.questions"):
        queries(["MORFOLOGIA_NEOPLASIA", "Disease"], "name", "es", "question")
    assert queries(["Disease", "Aparato"], "name", "es", "question", 1, {"Disease": "enfermedad"}) == ("enfermedad", "Aparato")


def test_modes_without_words_have_no_queries():
    for mode in ("tagger", "soft"):
        assert queries(["Disease"], mode, "en", "question") == ()
