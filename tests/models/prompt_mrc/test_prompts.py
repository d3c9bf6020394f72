"""Soft prompts as files that can be listed and exchanged, and the texts in front of them."""

from dataclasses import replace

import pytest
import torch

from engine.errors import ConfigError
from engine.models.prompt_mrc.config import STYLES, MrcConfig
from engine.models.prompt_mrc.prompts import PromptModule, SoftPrompts
from engine.models.prompt_mrc.templates import checked_questions, complete_config, queries, read_questions, template, templates
from tests.models.prompt_mrc.conftest import tiny_config

CONFIG = tiny_config(shared_soft=2, type_soft=3)


def soft(**changes):
    return SoftPrompts(tiny_config(shared_soft=2, type_soft=3, **changes), 4)


def module(prompts):
    """The current vectors, as a file of prompts has them."""
    own = dict(zip(prompts.config.types, prompts.own.detach(), strict=True))
    return PromptModule(prompts.config.domain, prompts.config.encoder_digest, prompts.shared.detach(), own)


def test_vectors_start_near_the_repeated_pieces_of_the_definition():
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
    saved = PromptModule.read(path)
    assert (saved.domain, sorted(saved.own)) == ("clinic", ["A", "B"])
    other = soft()
    other.replace(saved)
    assert torch.equal(other.own, prompts.own) and torch.equal(other.shared, prompts.shared)


def test_prompts_of_another_kind_are_refused(tmp_path):
    prompts, saved = soft(), module(soft())
    for other, message in (
        (PromptModule("x", "other", saved.shared, saved.own), "another encoder"),
        (PromptModule("x", saved.encoder, saved.shared[:1], saved.own), "other numbers of vectors"),
        (PromptModule("x", saved.encoder, saved.shared, {"A": saved.own["A"][:2]}), "other numbers of vectors"),
        (PromptModule("x", saved.encoder, saved.shared, {"Z": saved.own["A"]}), "none of the types A, B"),
    ):
        with pytest.raises(ConfigError, match=message):
            prompts.replace(other)
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="no file with prompts"):
        PromptModule.read(tmp_path / "x.safetensors")


def test_prompts_of_a_model_with_other_weights_are_refused_if_the_model_s_are_known(tmp_path):
    vectors, saved = module(soft()), {}
    for weights in (None, "same", "other"):
        replace(vectors, weights=weights).save(tmp_path / "x.safetensors")
        saved[weights] = PromptModule.read(tmp_path / "x.safetensors")
        assert saved[weights].weights == weights
    config, width = soft().config, vectors.shared.shape[1]
    for model in (None, "same"):
        for weights in (None, "same", "other"):
            if model and weights != model:
                with pytest.raises(ConfigError, match=r"^model.prompts: those of 'general' were learned with another model"):
                    saved[weights].check(config, width, model)
            else:
                saved[weights].check(config, width, model)


def test_a_type_that_a_file_lacks_keeps_its_own_vectors():
    prompts, saved = soft(), module(soft())
    prompts.start([torch.zeros(1, 4), torch.ones(1, 4)])
    before = prompts.own.detach().clone()
    prompts.replace(replace(saved, shared=saved.shared + 5, own={"B": saved.own["B"] + 7}))
    assert (prompts.shared == 5).all() and torch.equal(prompts.own[0], before[0]) and (prompts.own[1] == 7).all()


def test_every_type_has_a_name_and_four_of_each_style():
    kinds = {key[:2] for key in templates()}
    assert len(kinds) == 37 and ("MORFOLOGIA_NEOPLASIA", "es") in kinds
    for name, language in kinds:
        texts = {template(name, language, style, version) for style in STYLES for version in (1, 2, 3, 4)}
        assert len(texts) == 12
        assert template(name, language, "name")


def test_a_users_own_questions_replace_templates(tmp_path):
    path = tmp_path / "questions.yaml"
    path.write_text("Device:  Which implants\n  are named?\nDisease: What ails the patient?\n")
    own = read_questions(path)
    assert own == {"Device": "Which implants are named?", "Disease": "What ails the patient?"}
    texts = queries(["Disease", "Device", "Chemical"], "hard", "en", "question", 1, own)
    assert texts[:2] == (own["Disease"], own["Device"]) and "chemicals" in texts[2]
    assert queries(["New_type"], "name", "en", "question") == ("New type",)


@pytest.mark.parametrize(
    ("text", "message"),
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
        ("Device: one?\nDevice: two?\n", "the type 'Device' occurs twice; ask for it once"),
        ("Device: one?\n'Device ': two?\n", "the type 'Device' occurs twice; ask for it once"),
    ],
)
def test_a_file_without_usable_questions_is_refused(tmp_path, text, message):
    path = tmp_path / "questions.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        read_questions(path)
    assert str(caught.value).startswith(f"questions{' in' if 'readable' not in message else ':'} {path}")


def test_two_questions_for_a_type_are_refused_wherever_they_come_from():
    assert checked_questions({" Device ": "one?"}, "entities.questions") == {"Device": "one?"}
    with pytest.raises(ConfigError, match=r"^entities.questions: the type 'Device' occurs twice; ask for it once$"):
        checked_questions({"Device ": "one?", "Device": "two?"}, "entities.questions")


@pytest.mark.parametrize("own", [None, {"Disease": "What ails the patient?"}])
@pytest.mark.parametrize("mode", ["name", "hard", "soft", "hybrid"])
def test_an_unknown_language_is_refused_by_every_mode_that_has_prompts(mode, own):
    config = MrcConfig(types=("Disease",), mode=mode, language="fi", encoder="tiny:bert")
    with pytest.raises(ConfigError, match=r"^model.language: there are no questions in 'fi'; there are some in en, es") as caught:
        complete_config(config, own)
    # With a question for every type the language does not matter, as the error says.
    assert str(caught.value).endswith("; with a question for every type in model.questions leave it out")


def test_a_tagger_needs_no_language():
    config = MrcConfig(types=("Disease",), mode="tagger", language="fi", encoder="tiny:bert")
    assert complete_config(config).queries == ()


def test_a_name_is_never_taken_from_another_language():
    assert queries(["MORFOLOGIA_NEOPLASIA"], "name", "es", "question") == ("morfologías de tumores",)
    with pytest.raises(ConfigError, match=r"^model.language: 'Disease' has its name in en, not in 'es'; .*model.questions"):
        queries(["MORFOLOGIA_NEOPLASIA", "Disease"], "name", "es", "question")
    assert queries(["Disease", "Aparato"], "name", "es", "question", 1, {"Disease": "enfermedad"}) == ("enfermedad", "Aparato")


def test_modes_without_words_have_no_queries():
    for mode in ("tagger", "soft"):
        assert queries(["Disease"], mode, "en", "question") == ()
