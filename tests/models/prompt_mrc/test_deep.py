"""Deep prompts: vectors for every layer of the encoder."""

from dataclasses import replace

import pytest
import torch

import engine.models.prompt_mrc.encoder as encoders
from engine.encoders import load_encoder
from engine.errors import ConfigError
from engine.models.base import ModelSpec
from engine.models.entities.spans import windows
from engine.models.prompt_mrc import load
from engine.models.prompt_mrc.checkpoint import SHIPPED, build_network, continue_from, read_checkpoint
from engine.models.prompt_mrc.config import MrcConfig
from engine.models.prompt_mrc.network import collate, new_network
from engine.models.prompt_mrc.prompts import PromptModule
from engine.models.prompt_mrc.templates import complete_config
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train
from tests.models.conftest import records
from tests.models.prompt_mrc.conftest import World, tiny_config, tiny_learner, write

WIDTH = 32


def scattered(network, std=1.0):
    """The network with soft vectors far from their start."""
    torch.manual_seed(1)
    for value in network.soft.parameters():
        torch.nn.init.normal_(value, std=std)
    return network.eval()


def contexts_of(learner):
    tokens = learner.examples.tokens[0]
    return collate(windows(0, tokens.ids, tokens.word_of_token, 24, 12), learner.network.config.special)


@pytest.mark.parametrize("share", [0, 1])
@torch.no_grad()
def test_each_layer_reads_its_own_vectors(share):
    learner = tiny_learner(tiny_config(deep=True, share_layers=share), World.make(1))
    network, contexts = scattered(learner.network), contexts_of(learner)
    assert network.soft.shared.shape == (4, 2 * WIDTH)
    words, rows = network.queries[1], torch.cat([network.soft.shared, network.soft.own[1]])
    place = slice(1 + len(words), 1 + len(words) + len(rows))
    embed, first, second = network.encoder.embeddings, *network.encoder.encoder.layer
    at_input = network.parted.embed(torch.tensor([[101, *words, *[0] * len(rows), 102]]))
    at_input[0, place] = rows[:, :WIDTH]
    count = at_input.shape[1]
    prompt = embed(inputs_embeds=at_input, position_ids=torch.arange(count)[None])
    kinds, places = torch.ones_like(contexts.ids), 32 + torch.arange(contexts.ids.shape[1])[None]
    text = embed(input_ids=contexts.ids, token_type_ids=kinds, position_ids=places.expand_as(kinds))
    assert len(contexts.ids) == 1
    states = torch.cat([first(prompt), first(text)], 1) if share else first(torch.cat([prompt, text], 1))
    states[0, place] = rows[:, WIDTH:]
    torch.testing.assert_close(network(contexts, [1]).states, second(states)[:, count:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_vector_starts_as_what_the_layers_read_of_the_definition():
    network = new_network(tiny_config(deep=True, shared_soft=1, type_soft=2), torch.float32, "eager").eval()
    # The invented types have no definition, so their questions are used.
    ids = torch.tensor([network.queries[0]])
    first = network.encoder.encoder.layer[0](network.encoder.embeddings(input_ids=ids))[0]
    expected = torch.cat([network.parted.embed(ids[0]), first], -1)
    assert (network.soft.own[0] - expected[:2]).abs().max() < 0.1
    assert (first[:2] - network.parted.embed(ids[0])[:2]).abs().max() > 0.5


def test_with_a_frozen_encoder_the_vectors_of_all_layers_are_trained_and_saved(tmp_path):
    learner = tiny_learner(tiny_config(deep=True, share_layers=1, freeze_encoder=True, freeze_heads=True), World.make(8))
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    train(learner, LoopConfig(epochs=1, batch=4), Worker(), tmp_path / "work")
    after = learner.network.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"soft.shared", "soft.own"}
    moved = (after["soft.own"] - before["soft.own"]).unflatten(-1, (2, WIDTH)).abs().amax((1, 3))
    assert (moved > 0).all()
    learner.network.eval()
    checkpoint = read_checkpoint(str(write(learner, tmp_path / "m")))
    again = build_network(checkpoint, torch.float32, "eager")
    with torch.no_grad():
        logits = [network(contexts_of(learner), [0, 1]).start for network in (learner.network, again)]
    assert checkpoint.config.deep and torch.equal(*logits)


def test_training_continues_only_from_vectors_of_the_same_kind(tmp_path):
    for deep in (False, True):
        learner = tiny_learner(tiny_config(deep=deep, freeze_encoder=True), World.make(1))
        scattered(learner.network)
        base = read_checkpoint(str(write(learner, tmp_path / str(deep))))
        for other in (False, True):
            network, _ = continue_from(base, tiny_config(deep=other, freeze_encoder=True), torch.float32, "eager")
            fresh = new_network(tiny_config(deep=other), torch.float32, "eager")
            expected = learner.network.soft if other == deep else fresh.soft
            assert torch.equal(network.soft.own, expected.own)


def test_deep_prompts_are_exchanged_only_among_deep_models(tmp_path):
    folders = {}
    for deep in (False, True):
        learner = tiny_learner(tiny_config(deep=deep), World.make(2))
        folders[deep] = write(learner, tmp_path / f"deep_{deep}".lower())
    module = PromptModule.read(folders[True] / "prompts.safetensors")
    assert module.deep and module.shared.shape == (4, 2 * WIDTH)

    def extractor(folder, path):
        return load(ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32", "prompts": str(path)}, {}))

    other = tmp_path / "other.safetensors"
    replace(module, domain="other", shared=module.shared + 1).save(other)
    assert torch.equal(extractor(folders[True], other).network.soft.shared, module.shared + 1)
    messages = {False: "are deep, the model's are not; .*model.deep=true", True: "are not deep, the model's are deep;"}
    for deep, message in messages.items():
        with pytest.raises(ConfigError, match=f"^model.prompts: those of 'general' {message}"):
            extractor(folders[deep], folders[not deep] / "prompts.safetensors")
    replace(module, domain="other", shared=module.shared[:, :WIDTH]).save(other)
    with pytest.raises(ConfigError, match="or of layers"):
        extractor(folders[True], other)
    with pytest.raises(ConfigError, match=r"prompts\.safetensors \(general, deep: A, B\)$"):
        extractor(folders[True], folders[True])


def test_evidence_includes_the_vectors_of_further_layers(tmp_path):
    learner = tiny_learner(tiny_config(deep=True), World.make(2))
    soft = scattered(learner.network).soft
    # At the input the vectors equal their blanks, so that their share comes from the layer above.
    for value in (soft.shared, soft.own):
        value.data[..., :WIDTH] = learner.network.encoder.get_input_embeddings().weight.mean(0)
    anything = {"start": 1e-9, "end": 1e-9, "match": 1e-9}
    shares = []
    for scale in (1.0, 0.0):
        for value in (soft.shared, soft.own):
            value.data[..., WIDTH:] *= scale
        folder = write(learner, tmp_path / str(scale))
        system = load(ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32", "thresholds": anything}, {}))
        (row,) = system.run(system.prepare(records(["a red apple"]))).to_pylist()
        explained = [each for each in row["entities"] if each["evidence"] is not None]
        assert explained
        for each in explained:
            assert sum(each[name] for name in ("context_share", "hard_share", "soft_share")) == pytest.approx(1, abs=1e-5)
        shares.append([each["soft_share"] for each in explained])
    assert min(shares[0]) > 1e-3 and max(shares[1]) < 1e-5


def test_the_shipped_prompts_are_written_as_they_were_read(tmp_path):
    PromptModule.read(SHIPPED / "prompts.safetensors").save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (SHIPPED / "prompts.safetensors").read_bytes()


def test_deep_prompts_need_soft_vectors():
    for mode in ("tagger", "name", "hard"):
        with pytest.raises(ConfigError, match=f"^model.deep: a model of the mode '{mode}' has no soft vectors"):
            MrcConfig(types=("A",), mode=mode, deep=True)


@pytest.mark.parametrize(("name", "value"), [("deep", True), ("share_layers", 1)])
def test_an_encoder_whose_layers_cannot_be_separated_is_refused(name, value, monkeypatch):
    def other(*settings):
        encoder = load_encoder(*settings)
        encoder.config.model_type = "roberta"
        return encoder

    monkeypatch.setattr(encoders, "load_encoder", other)
    config = complete_config(MrcConfig(types=("A",), encoder="tiny:bert", window=48, overlap=8, **{name: value}), {"A": "fruit"})
    with pytest.raises(ConfigError, match=f"^model.{name}: the layers of an encoder of the kind roberta"):
        new_network(config, torch.float32, "eager")
