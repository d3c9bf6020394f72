"""Training the tagger: what is refused, the phases, encoders of every kind, and a model from which another training goes on."""

from collections import Counter
from dataclasses import replace

import pytest
import torch

from engine.encoders import load_encoder
from engine.errors import ConfigError
from engine.models.characters import new_encoder
from engine.models.guided_ner.begin import facts_of
from engine.models.guided_ner.checkpoint import build_network, read_checkpoint
from engine.models.guided_ner.config import LearnConfig, ModelConfig, Options
from engine.models.guided_ner.learner import learner
from engine.models.guided_ner.recipe import RECIPE
from engine.models.guided_ner.targets import global_table
from engine.training.config import LoopConfig
from engine.training.loop import Worker
from engine.training.run import finish, train_phases
from tests.models.guided_ner.conftest import TYPES, documents, settings, with_examples, write_corpus

LOOP = LoopConfig(epochs=1, batch=8, rate=3e-3, report_every=1000, checkpoint_every=10**6)


@pytest.fixture
def path(tmp_path):
    return write_corpus(tmp_path / "made.parquet", documents(40))


def phases(**model):
    learn = model.pop("learn", {})
    return [(each.name, len(each.needs)) for each in RECIPE.phases({"model": model, "learn": learn})]


def test_the_phases_and_the_tables_before_them():
    assert phases() == [("words", 0), ("tags", 0), ("guided_1", 2)]
    # Without guidance the table of tokens is made all the same, for the method `global`.
    assert phases(learn={"rounds": 0}) == [("words", 0), ("tags", 0), ("table", 1)]
    assert phases(encoder="tiny:bert", learn={"rounds": 2}) == [("tags", 0), ("guided_1", 2), ("guided_2", 2)]
    # From a base model only the guided rounds follow, and the first of them has tables too.
    assert phases(base="somewhere") == [("guided_1", 2)] and phases(base="somewhere", learn={"rounds": 0}) == [
        ("tags", 0), ("table", 1)
    ]  # fmt: skip


def test_types_must_be_marked_in_every_dataset(tmp_path):
    made = list(documents(40))
    other = [replace(each, record_id=f"o{each.record_id}", dataset="other",
                     spans=tuple(span for span in each.spans if span.type == "SIGN")) for each in made]  # fmt: skip
    both = write_corpus(tmp_path / "both.parquet", [*made, *other])
    with pytest.raises(ConfigError, match=r"^data\.path: one tag a word needs texts in which all types are marked"):
        RECIPE.corpus(settings(both))
    assert RECIPE.corpus(settings(both, {"types": ["SIGN"]})).config.types == ("SIGN",)


def test_settings_that_do_not_fit_are_refused(path):
    for targets in ((), ("fused",), ("global", "lime")):
        with pytest.raises(ConfigError, match=r"^learn\.targets: name some of gradient_x_input, attnlrp and global"):
            RECIPE.corpus(settings(path, learn={"targets": targets}))
    with pytest.raises(ConfigError, match=r"^model\.overlap: must be smaller than model\.window \(24\)"):
        RECIPE.corpus(settings(path, overlap=24))
    for section, values in (("model", {"head": "pointer"}), ("learn", {"saliency": "lime"}), ("learn", {"guided": 1.5})):
        given = settings(path)
        with pytest.raises(ConfigError, match=rf"^{section}\."):
            RECIPE.corpus({**given, section: {**given[section], **values}})
    with pytest.raises(ConfigError, match=r"^model\.window"):
        RECIPE.corpus(settings(path, encoder="tiny:bert", window=4000, overlap=64))


def test_a_missing_test_set_is_cut_from_train(tmp_path):
    made = [each if each.split != "test" else replace(each, split="train") for each in documents(300)]
    path = write_corpus(tmp_path / "made.parquet", made)

    def counts(**data):
        return Counter(each.split for each in RECIPE.corpus(settings(path, data)).corpus.documents)

    assert counts()["test"] == 60 and counts()["train"] + counts()["valid"] == 240
    cut = counts(test_share=0.2)
    assert cut["valid"] == 60 and 30 < cut["test"] < 70 and cut["train"] == 240 - cut["test"]


def test_the_facts_of_the_examples(path, tmp_path, tiny_encoder):
    facts = facts_of(with_examples(settings(path), tmp_path))
    config = facts["config"]
    assert config["types"] == list(TYPES) and config["lstm"] == 128 and config["encoder"]["max_position_embeddings"] == 26
    assert len(facts["spared"]) == config["encoder"]["vocab_size"] and facts["longest"] == 3
    assert RECIPE.corpus(settings(path, head="crf")).config.lstm == 0


def test_an_encoder_of_a_name_is_read_with_its_weights(path, tmp_path):
    values = with_examples(settings(path, encoder="tiny:bert", head="softmax", language="en"), tmp_path)
    config = RECIPE.corpus(settings(path, encoder="tiny:bert", head="softmax")).config
    assert config.encoder["hidden_size"] == 32 and "_name_or_path" not in config.encoder
    made = learner(values, Worker())
    torch.manual_seed(0)
    fresh = dict(new_encoder(config.encoder).named_parameters())
    trained = dict(made.network.encoder.named_parameters())
    given = dict(load_encoder("tiny:bert", torch.float32, "eager").named_parameters())
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(trained[name], given[name]) and not torch.equal(trained[name], fresh[name])
    assert all(torch.equal(value, given[name]) for name, value in trained.items())


def trained(values, folder):
    lines = []
    corpus = RECIPE.corpus(values)
    state = train_phases(RECIPE, corpus, LOOP, folder / "work", lines.append)
    figures = finish(RECIPE, corpus, state, folder / "model", device="cpu", command="a command", say=lines.append)
    return figures, lines


def test_a_guided_training_goes_on_from_a_base_model(path, tmp_path, tiny_encoder):
    first, _ = trained(settings(path, head="crf", learn={"rounds": 0, "words_epochs": 0.5}), tmp_path / "first")
    base = tmp_path / "first" / "model"
    with pytest.raises(ConfigError, match=r"^model\.base: the base model has model\.head=crf and the types DRUG, SIGN"):
        RECIPE.corpus(settings(path, base=str(base), head="softmax"))
    with pytest.raises(ConfigError, match=r"^model\.base: the base model has"):
        RECIPE.corpus(settings(path, {"types": ["SIGN"]}, base=str(base), head="crf"))
    # Its window and encoder are kept.
    corpus = RECIPE.corpus(settings(path, base=str(base), head="crf", window=99))
    assert corpus.config == read_checkpoint(str(base)).config and corpus.settings["base_digest"] == first["digest"]
    learn = {"guided": 1.0, "guided_epochs": 1.0, "targets": ["gradient_x_input", "global"]}
    figures, lines = trained(settings(path, base=str(base), head="crf", learn=learn), tmp_path / "second")
    assert [line for line in lines if line.startswith("building")] == [
        "building the table tokens", "building the table targets"
    ]  # fmt: skip
    last = figures["curve"][-1]
    assert set(last) >= {"loss_tags", "loss_stability", "loss_boundary", "loss_consistency", "saliency_entropy"}
    before, after = (build_network(read_checkpoint(str(each)), torch.float32) for each in (base, tmp_path / "second" / "model"))
    assert before.glob.any() and not torch.equal(before.glob, after.glob)
    table = global_table(str(tmp_path / "first" / "work" / "table" / "tokens" / "part-0.parquet"), *before.glob.shape)
    assert torch.equal(before.glob, table) and table.any()
    assert 0 < (before.tags.weight - after.tags.weight).abs().max() < 0.2
    assert figures["parameters"]["total"] == sum(value.numel() for value in after.parameters())


def test_the_defaults_can_be_made():
    assert ModelConfig().head == "bilstm_crf" and LearnConfig().targets == ("gradient_x_input", "global")
    assert Options().stability == 0.02 and Options(evidence="none").stability == 0.02
