"""Encoders of other kinds than BERT, tiny and random, with prompts, heads, training and extraction."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

import engine.training.run
from engine.conversion import convert
from engine.encoders import encoder_digest, encoder_folder, load_encoder, load_tokenizer
from engine.models.base import ModelSpec, load
from engine.models.entities.spans import windows
from engine.models.prompt_mrc.checkpoint import build_network, read_checkpoint
from engine.models.prompt_mrc.network import collate, new_network
from engine.text.tokens import tokenize
from jobs.train import main
from tests.models.conftest import records
from tests.models.prompt_mrc.conftest import QUESTIONS, World, tiny_config, tiny_learner, write
from tests.models.prompt_mrc.test_recipe import documents, job_keys
from tests.models.prompt_mrc.test_recipe import write as write_texts
from tests.published import bert, byte_level, words_of
from tests.toys.train import fit

TEXTS = ["the old man sells bread", "a red apple", "we saw the man near a hill green pear tree sell bread near the river today"]
SIZES = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
# The local layers of ModernBERT see so few neighbours that one more place between prompt and text makes a difference.
KINDS = {
    "Roberta": {**SIZES, "max_position_embeddings": 130, "pad_token_id": 1},
    "ModernBert": {**SIZES, "max_position_embeddings": 128, "local_attention": 16, "pad_token_id": 1},
}
SPECIAL = ("<s>", "<pad>", "</s>", "<mask>")


@pytest.fixture(scope="module", params=sorted(KINDS))
def encoder(request, tmp_path_factory):
    """A folder with an encoder and its byte-level tokenizer, by name."""
    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(5)
    config = getattr(transformers, f"{request.param}Config")(**KINDS[request.param])
    # Weights large enough that states differ by more than rounding.
    config.initializer_range = 0.5
    getattr(transformers, f"{request.param}Model")(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*World.make(50).texts, *QUESTIONS.values()] * 2, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return f"path:{folder}"


def network(encoder, attention="eager", **changes):
    return new_network(tiny_config(encoder=encoder, **changes), torch.float32, attention).eval()


def windows_of(model, texts=TEXTS):
    tokens = tokenize(load_tokenizer(encoder_folder(model.config.encoder)), list(texts), 512)
    return [window for i, t in enumerate(tokens) for window in windows(i, t.ids, t.word_of_token, 48, 16)]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("mode", ["tagger", "hard", "soft", "hybrid"])
@torch.no_grad()
def test_a_window_alone_is_a_window_in_a_padded_batch(encoder, mode, attention):
    model = network(encoder, attention, mode=mode)
    shown = windows_of(model)
    types = [0] if mode == "tagger" else [0, 1]
    together = model(collate(shown, model.config.special), types)
    for number, window in enumerate(shown):
        for place, kind in enumerate(types):
            alone = model(collate([window], model.config.special), [kind]).states[0, : len(window)]
            row = number * len(types) + place
            torch.testing.assert_close(together.states[row, : len(window)], alone, rtol=0, atol=1e-5)
    if mode != "tagger":
        assert not torch.allclose(together.states[0], together.states[1], atol=1e-2)


@torch.no_grad()
def test_the_whole_sequence_is_what_the_encoder_makes_of_it(encoder):
    model = network(encoder, mode="hard")
    cls, sep, *_ = model.config.special
    (window,) = windows_of(model, TEXTS[:1])
    words = model.queries[1]
    ids = torch.tensor([[cls, *words, sep, *window.ids.tolist(), sep]])
    head = len(words) + 2
    # Positions of RoBERTa count on from that of its padding.
    offset = 2 if "Roberta" in encoder else 0
    places = torch.tensor([[*range(head), *range(32, 32 + len(window) + 1)]]) + offset
    expected = load_encoder(encoder, torch.float32, "eager")(ids, position_ids=places).last_hidden_state[:, head:]
    states = model(collate([window], model.config.special), [1]).states
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rank", [0, 2])
def test_soft_prompts_learn_through_the_frozen_and_the_adapted_encoder(encoder, rank):
    learner = tiny_learner(tiny_config(encoder=encoder, rank=rank, freeze_encoder=not rank), World.make(8))
    model = learner.network
    for terms, _ in learner.losses([0, 1, 2, 3], 0):
        sum(terms.values()).backward()
    for rows in (model.soft.shared.grad, model.soft.own.grad):
        assert torch.isfinite(rows).all() and (rows.abs().sum(-1) > 0).all()
    adapted = [value.grad for name, value in model.named_parameters() if name.endswith(".up")]
    assert bool(adapted) == bool(rank) and all(grad.abs().sum() > 0 for grad in adapted)
    plain = [value for name, value in model.named_parameters() if "encoder." in name and not name.endswith((".up", ".down"))]
    assert all(value.grad is None for value in plain)


def test_what_is_extracted_lies_in_a_text_of_many_blanks(encoder, tmp_path):
    learner = tiny_learner(tiny_config(encoder=encoder), World.make(2))
    low = {name: 1e-6 for name in ("start", "end", "match")}
    system = load(ModelSpec("engine.models.prompt_mrc", str(write(learner, tmp_path / "m", **low)), {"precision": "fp32"}, {}))
    text = "the  red\tapple \n\n hill green pear tree \n"
    (row,) = system.run(system.prepare(records([text]))).to_pylist()
    words = {text[each["start"] : each["end"]] for each in row["entities"]}
    assert {"red\tapple", "the", "tree"} <= words and not any(each != each.strip() for each in words)
    explained = [each for each in row["entities"] if each["evidence"] is not None]
    assert len(explained) == 2 and all(
        abs(each["context_share"] + each["hard_share"] + each["soft_share"] - 1) < 1e-5 for each in explained
    )


@pytest.mark.parametrize(("kind", "rank"), [("Roberta", 8), ("Roberta", 0), ("bert", 0)])
def test_a_published_encoder_is_trained_and_finds_entities(kind, rank, tmp_path, monkeypatch):
    """A RoBERTa and a BERT as they are published, by an adapter or by their own weights."""
    monkeypatch.setattr(engine.training.run, "fit", fit)
    texts = World.make(120).texts
    said, folder = [*texts, *QUESTIONS.values()] * 2, tmp_path / "published"
    convert(f"path:{bert(folder, words_of(said)) if kind == 'bert' else byte_level(folder, kind, said)}", tmp_path / "encoder")
    name, output = f"path:{tmp_path / 'encoder'}", tmp_path / "model"
    data = write_texts(tmp_path / "many.parquet", documents(120))
    changed = ("model.encoder", "model.rank", "train.")
    words = ["model=prompt_mrc", f"data.path={data}", f"output.path={output}", f"model.encoder={name}", f"model.rank={rank}"]
    words += ["train.epochs=12", "train.batch=8", "train.rate=5e-3", *(key for key in job_keys() if not key.startswith(changed))]
    assert main.run(words) == 0
    figures = json.loads((output / "figures.json").read_text())
    losses = [row["loss_start"] + row["loss_end"] for row in figures["curve"]]
    assert losses[-1] < 0.7 * losses[0], losses
    system = load(ModelSpec("engine.models.prompt_mrc", str(output), {"precision": "fp32"}, {"threads": 1}))
    rows = system.run(system.prepare(records(texts[:8]))).to_pylist()
    checkpoint = read_checkpoint(str(output))
    assert checkpoint.config.encoder_digest == encoder_digest(name)
    assert any(row["entities"] for row in rows)
    tensors, before = load_file(output / "model.safetensors"), load_encoder(name, torch.float32, "eager").state_dict()
    tuned = {key.removeprefix("encoder."): value for key, value in tensors.items() if key.startswith("encoder.")}
    if rank:
        assert tuned and all(key.endswith((".down", ".up")) for key in tuned)
        return
    assert set(tuned) == set(before) and all(value.dtype == torch.float32 for value in tuned.values())
    assert sum(not torch.equal(value, before[key]) for key, value in tuned.items()) > 0.9 * len(before)
    loaded = build_network(checkpoint, torch.float32, "eager").encoder.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in tuned.items())
