"""The extractor in training: what it learns from, two workers as one, and the checkpoint that comes of it."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

import engine.training.run
from engine.errors import ConfigError
from engine.evaluation.spans import measure
from engine.models.base import ModelSpec, load
from engine.models.prompt_mrc import instances, recipe
from engine.models.prompt_mrc.automatic import with_templates
from engine.models.prompt_mrc.checkpoint import build_network, read_checkpoint, trained_tensors, write_checkpoint
from engine.models.prompt_mrc.config import DataConfig
from engine.models.prompt_mrc.corpus import load_corpus, marked_mentions, members_of
from engine.models.prompt_mrc.learner import MrcLearner, prepare_training
from engine.models.prompt_mrc.learning import check, decoding_of, examples_of, learn_of, learner, network_of
from engine.models.prompt_mrc.prompts import PromptModule
from engine.sources.labelled import Document, Span
from engine.training.config import LoopConfig
from engine.training.examples import write_examples
from engine.training.loop import Worker, train
from engine.training.state import read_state
from jobs.train import main
from tests.models.conftest import records
from tests.models.prompt_mrc.conftest import QUESTIONS, World
from tests.sources.labelled.tables import to_table

LOOP = LoopConfig(epochs=1, batch=8, rate=3e-3, report_every=1000, checkpoint_every=10**6)
MODEL = {"encoder": "tiny:bert", "shared_soft": 4, "type_soft": 2, "rank": 2, "match_width": 16}
MODEL |= {"window": 48, "overlap": 16, "prompt_room": 32, "mode": "hybrid"}


def documents(count, dataset="made", seed=0, only=None):
    world = World.make(count, seed)
    for number, (text, spans) in enumerate(zip(world.texts, world.spans, strict=True)):
        kept = tuple(Span(**span) for span in spans if only in (None, span["type"]))
        split = ("train", "train", "train", "valid", "test")[number % 5]
        yield Document(f"{dataset}{number}", text, kept, dataset, split)


def write(path, *some):
    pq.write_table(to_table([each for one in some for each in one]), path)
    return str(path)


def settings(path, data=None, **model):
    mode = model.get("mode", MODEL["mode"])
    idle = {"tagger": ("shared_soft", "type_soft", "prompt_room"), "hard": ("shared_soft", "type_soft")}.get(mode, ())
    used = {name: value for name, value in MODEL.items() if name not in idle}
    given = {"questions": QUESTIONS if mode != "tagger" else {}, "learn": {"masking": 0.1}, "precision": "fp32", "seed": 3}
    return {"data": {"path": path, **(data or {})}, "model": {**used, **model}, **given}


def written(given, folder):
    """The settings of a training whose examples are in a folder."""
    corpus = recipe.corpus(given)
    write_examples(corpus.preparation(), str(folder / "examples"), folder / "sorting")
    return {**corpus.settings, "examples": str(folder / "examples")}


def learner_of(given, folder):
    """As a worker has it."""
    return learner(written(given, folder), Worker())


def of_all_texts(given, corpus):
    """A learner that has the texts of test too, numbered as the corpus's documents."""
    torch.manual_seed(given["seed"])
    network, _ = network_of(given, corpus.types, torch.device("cpu"))
    examples, _ = examples_of(corpus, network.config, 512)
    decoding = decoding_of(given, corpus.nested())
    return MrcLearner(prepare_training(network), examples, learn_of(given), torch.device("cpu"), decoding)


def predicted(made, corpus, members):
    """What a learner finds in some documents, in characters, by record."""
    found = {corpus.documents[member].record_id: [] for member in members}
    for each in made.predict(members):
        words = made.examples.tokens[each.text]
        span = int(words.word_start[each.first]), int(words.word_end[each.last]), made.network.config.types[each.type]
        found[corpus.documents[each.text].record_id].append(span)
    return found


def finish(given, state, output, say=lambda line: None):
    """The checkpoint of a training's last state, and its figures."""
    corpus = recipe.corpus(given)
    return engine.training.run.finish(recipe, corpus, read_state(state), output, device="cpu", command="a command", say=say)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "made.parquet", documents(60))


def test_a_corpus_by_types_and_shares(path, tmp_path):
    corpus = load_corpus(DataConfig(path))
    assert corpus.types == ("A", "B") and corpus.broken.count == 0 and not corpus.nested()
    assert {name: count for name, count in corpus.counts().items() if "made" in name} == {
        "made test": 12,
        "made train": 36,
        "made valid": 12,
    }
    half = load_corpus(DataConfig(path, types=["B"], share=0.5, eval_share=0.5))
    assert half.types == ("B",) and 8 < half.counts()["made train"] < 28 and 2 < half.counts()["made test"] < 11
    with pytest.raises(ConfigError, match="no text of train has a 'C'; it has A, B"):
        load_corpus(DataConfig(path, types=["C"]))
    only = write(tmp_path / "only.parquet", [Document("a", "we saw", (), "d", "train")])
    with pytest.raises(ConfigError, match="no usable texts"):
        load_corpus(DataConfig(only))
    with pytest.raises(ConfigError, match="share"):
        DataConfig(path, share=0)


def test_a_corpus_is_the_same_in_brat_and_in_parquet(tmp_path):
    made = [replace(each, dataset="made") for each in documents(20)]
    table = load_corpus(DataConfig(write(tmp_path / "table.parquet", made)))
    for each in made:
        folder = tmp_path / "made" / each.split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{each.record_id}.txt").write_text(each.text)
        lines = [f"T{n}\t{s.type} {s.start} {s.end}\t{each.text[s.start : s.end]}" for n, s in enumerate(each.spans)]
        (folder / f"{each.record_id}.ann").write_text("\n".join(lines))
    brat = load_corpus(DataConfig(str(tmp_path / "made")))
    assert any(len({span.type for span in each.spans}) == 1 for each in made)
    assert brat.marked == table.marked == {"made": frozenset("AB")} and brat.counts() == table.counts()


def test_mentions_of_a_type_within_each_other_are_kept_by_themselves(tmp_path):
    inner = Document("a", "old old man", (Span(0, 11, "A"), Span(4, 7, "A")), "d", "train")
    held = [Document(name, "old man", (Span(0, 7, "A"),), "d", name) for name in ("valid", "test")]
    corpus = load_corpus(DataConfig(write(tmp_path / "n.parquet", [inner, *held])))
    assert corpus.nested()


def overlapping(folder):
    """In train an A and a B within an A, and an A that meets another within a word; in valid and test one within another."""
    within = (Span(0, 11, "A"), Span(4, 7, "A"), Span(4, 7, "B"))
    made = [Document("train1", "old old man", within, "d", "train")]
    made += [Document("train2", "red unbelievably green", (Span(0, 9, "A"), Span(9, 22, "A")), "d", "train")]
    made += [Document(name, "old old man", within, "d", name) for name in ("valid", "test")]
    return write(folder / "overlapping.parquet", made)


@pytest.mark.parametrize(
    ("mode", "decoding", "count"),
    [
        # Nested as train is, flat within a type, and across types.
        ("hybrid", {"nested": None}, 0),
        ("hybrid", {"nested": False}, 2),
        ("hybrid", {"flat_across_types": True}, 3),
        ("tagger", {"nested": None}, 2),
        ("tagger", {"nested": True}, 2),
        ("tagger", {"flat_across_types": True}, 3),
    ],
)
def test_mentions_of_train_that_a_model_cannot_give_beside_others_are_counted(tmp_path, mode, decoding, count):
    given = settings(overlapping(tmp_path), mode=mode) | {"decoding": decoding}
    corpus = load_corpus(DataConfig(**given["data"]))
    made = of_all_texts(given, corpus)
    told = recipe.corpus(given).marked
    # A span in each half of the long word is widened to it.
    assert told == {"snapped": 2, "unread": 0, "repeated": 0, "overlapping": count, "coordinated": 0}
    assert made.examples.overlapping(made.decoding) == count
    if mode == "tagger":
        (window,) = made.windows(0)
        shown = instances.tags(window, instances.flat(made.examples.spans[0]), 2)
        assert (shown == instances.BEGIN).sum() == 2


def test_what_a_model_cannot_give_is_told_in_the_card_and_before_training(tmp_path, monkeypatch, capsys):
    told = "2 marked spans of train overlap others and cannot be found beside them: "
    given = settings(overlapping(tmp_path), mode="tagger")
    made = learner_of(given, tmp_path)
    train(made, LOOP, Worker(), tmp_path)
    figures = finish(given, tmp_path / "last", tmp_path / "model")
    assert figures["marked"] == {"snapped": 2, "unread": 0, "repeated": 0, "overlapping": 2, "coordinated": 0}
    card = (tmp_path / "model" / "README.md").read_text()
    assert told in card and "2 marked spans were widened to whole words." in card
    monkeypatch.setattr("engine.training.run._finished", lambda *given: {"test": {}, "examples": {}})
    words = ["model=prompt_mrc", f"data.path={given['data']['path']}", f"output.path={tmp_path / 'other'}", *job_keys()]
    silent = [word for word in words if not word.startswith(("model.questions", "model.shared_soft", "model.type_soft"))]
    silent = [word for word in silent if not word.startswith("model.prompt_room")]
    assert main.run([*silent, "model.mode=tagger"]) == 0
    said = capsys.readouterr().err
    assert told in said and "2 marked spans were widened to whole words." in said
    assert main.run([word.replace("/other", "/nested") for word in words]) == 0
    assert "cannot be found" not in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["hybrid", "tagger"])
def test_of_a_type_that_a_corpus_does_not_mark_nothing_is_asked_or_counted(tmp_path, mode):
    both = write(tmp_path / "both.parquet", documents(20), documents(20, "fruit", 1, only="A"))
    given = settings(both, mode=mode)
    corpus = load_corpus(DataConfig(both))
    made = of_all_texts(given, corpus)
    assert [len(known) for known in made.examples.known] == [2] * 20 + [1] * 20
    fruit = [number for number, each in enumerate(corpus.documents) if each.dataset == "fruit"]
    if mode == "hybrid":
        asked = {kind for number in fruit for window in made.windows(number) for kind in made._asked(window, 0)}
        assert asked == {0}
    else:
        terms = [sum(term for term in terms.values()) for terms, _ in made.losses(fruit[:4], 0)]
        sum(terms).backward()
        # Three outputs a type: those of B, which fruit does not mark, learn nothing from it.
        grad = made.network.tagger.bias.grad
        assert grad[:3].abs().sum() > 0 and grad[3:].abs().sum() == 0
    write_checkpoint(tmp_path / "model", made.network.config, trained_tensors(made.network), made.decoding, "a card\n")
    spec = ModelSpec("engine.models.prompt_mrc", str(tmp_path / "model"), {"precision": "fp32", "evidence": "none"}, {})
    assert {mention[2] for _, mention, _ in recipe.answered(spec, corpus, fruit)} <= {"A"}


def test_a_tagger_is_given_what_it_needs_to_find_more(path, tmp_path):
    corpus = recipe.corpus(settings(path, mode="tagger"))
    for member in np.flatnonzero(corpus.examples.valid):
        corpus.examples.spans[member][:] = [instances.Span(0, 0, 0)]
    tensors = {name: value.detach() for name, value in corpus.network[0].named_parameters() if value.requires_grad}
    # No mention lies ahead of a mention's first word by half a logit, so that as it stands nothing is found.
    bias = torch.tensor([0.5, 0.0, -9.0]).repeat(2)
    tensors |= {"tagger.weight": torch.zeros_like(tensors["tagger.weight"]), "tagger.bias": bias}
    settled = recipe.settle(recipe.write(tmp_path / "model", corpus, tensors), corpus, lambda line: None)
    assert settled["valid_f1"] > 0 and settled["decoding"]["outside"] == 1.0


def test_what_cannot_be_trained_is_refused_before_it_begins(path, tmp_path):
    corpus = load_corpus(DataConfig(path))
    check(settings(path), corpus)
    tagger = settings(path, mode="tagger") | {"decoding": {"nested": None, "flat_across_types": True}}
    check(tagger | {"questions": {}}, corpus)
    for mode in ("tagger", "soft"):
        with pytest.raises(ConfigError, match=f"model.questions: a model of the mode '{mode}' asks no questions"):
            check(settings(path, mode=mode) | {"questions": QUESTIONS}, corpus)
    with pytest.raises(ConfigError, match=r"model.questions: 'C' is none of the types to learn, which are A, B"):
        check(settings(path) | {"questions": {**QUESTIONS, "C": "which fruit"}}, corpus)
    for model, told in (
        ({"freeze_heads": True}, "model.freeze_heads: there is no model.base"),
        ({"mode": "hard", "freeze_heads": True, "freeze_encoder": True}, "model.freeze_heads: there is no model.base"),
    ):
        with pytest.raises(ConfigError, match=told):
            check(settings(path, **model), corpus)
    made = of_all_texts(settings(path), corpus)
    base = tmp_path / "base"
    write_checkpoint(base, made.network.config, trained_tensors(made.network), made.decoding, "a card\n")
    for model, told in (
        ({}, "model.freeze_encoder: "),
        ({"freeze_encoder": True, "prompt_room": 40}, "set model.prompt_room=32"),
        ({"freeze_encoder": True, "mode": "tagger"}, "a tagger has no prompts"),
        ({"freeze_encoder": True, "freeze_heads": True, "mode": "hard"}, "leave a model of the mode 'hard' nothing to learn"),
    ):
        asked = {} if model.get("mode") == "tagger" else QUESTIONS
        with pytest.raises(ConfigError, match=told):
            check(settings(path, **model) | {"base": str(base), "questions": asked}, corpus)
    check(settings(path, freeze_encoder=True) | {"base": str(base)}, corpus)


def test_templates_make_themselves_of_a_table_and_train(path, tmp_path):
    corpus, table = load_corpus(DataConfig(path)), tmp_path / "types.csv"
    table.write_text("type,definition\nA,which fruit\n")
    plain = settings(path) | {"questions": {}}
    assert with_templates(plain, corpus, None, 12) is plain
    asked = with_templates(plain, corpus, str(table), 2)["questions"]
    train = [(each, span) for each in corpus.documents if each.split == "train" for span in each.spans]
    mentions = {name: {each.text[span.start : span.end].lower() for each, span in train if span.type == name} for name in "AB"}
    for name, head in (("A", "A: which fruit, such as "), ("B", "B, such as ")):
        assert asked[name].startswith(head)
        shown = asked[name].removeprefix(head).split(", ")
        assert 1 <= len(shown) <= 2 and set(shown) <= mentions[name]
    # A text of valid or test would tell the model its answers.
    unseen = replace(corpus, documents=[each for each in corpus.documents if each.split == "train"])
    assert with_templates(plain, unseen, str(table), 2)["questions"] == asked
    # A user's own go before them, and the prompt's room is theirs too.
    own = with_templates(settings(path) | {"questions": {"B": "what"}}, corpus, str(table), 2)["questions"]
    assert own == {"A": asked["A"], "B": "what"}
    with pytest.raises(ConfigError, match=r"model.prompt_room: the prompt for '?A'? of "):
        check(with_templates({**plain, "model": {**plain["model"], "prompt_room": 12}}, corpus, str(table), 12), corpus)
    assert with_templates(plain, corpus, str(table), 0)["questions"] == {"A": "A: which fruit", "B": "B"}
    for mode in ("tagger", "name", "soft"):
        with pytest.raises(ConfigError, match=f"model.ontology: a model of the mode '{mode}' has no templates"):
            with_templates(settings(path, mode=mode), corpus, str(table), 2)
    with pytest.raises(ConfigError, match=r"model.ontology: there is no file"):
        with_templates(plain, corpus, str(tmp_path / "none.csv"), 2)
    table.write_text("type,definition\nC,which fruit\n")
    with pytest.raises(ConfigError, match="defines none of the types, which are A, B"):
        with_templates(plain, corpus, str(table), 2)


def test_a_mention_longer_than_the_encoder_is_in_no_template(path, tmp_path):
    corpus, table = load_corpus(DataConfig(path)), tmp_path / "types.csv"
    table.write_text("type,definition\nA,which fruit\n")
    plain = settings(path) | {"questions": {}}
    text = "old " * 600 + "apple"
    more = replace(corpus, documents=[*corpus.documents, Document("long", text, (Span(0, len(text), "A"),), "made", "train")])
    assert with_templates(plain, more, str(table), 2)["questions"] == with_templates(plain, corpus, str(table), 2)["questions"]


def _work(rank, folder, given):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    worker = Worker(rank=rank, world=2)
    made = learner(given, worker)
    train(made, LOOP, worker, folder / f"both{rank}")
    save_file({name: value.detach().contiguous() for name, value in made.parameters().items()}, folder / f"{rank}.safetensors")
    dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_two_workers_do_what_one_does(path, tmp_path):
    given = written(settings(path), tmp_path)
    alone = learner(given, Worker())
    train(alone, LOOP, Worker(), tmp_path / "alone")
    mp.spawn(_work, (tmp_path, given), nprocs=2)
    for rank in (0, 1):
        theirs = load_file(tmp_path / f"{rank}.safetensors")
        for name, value in alone.parameters().items():
            assert torch.allclose(theirs[name], value, atol=2e-5), name


@pytest.mark.parametrize("model", [{}, {"deep": True, "share_layers": 1}])
def test_the_checkpoint_is_the_model_that_was_measured(path, tmp_path, model):
    given = settings(path, **model)
    made = learner_of(given, tmp_path)
    train(made, LOOP, Worker(), tmp_path)
    told = []
    figures = finish(given, tmp_path / "last", tmp_path / "model", told.append)
    found = read_checkpoint(str(tmp_path / "model"))
    assert figures["digest"] == found.digest == json.loads((tmp_path / "model" / "figures.json").read_text())["digest"]
    assert found.config.types == ("A", "B") and found.decoding.to_json() == figures["decoding"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "a command" in card and "| all |" in card and "| A |" in card
    assert pq.read_table(tmp_path / "model" / "curve.parquet").num_rows == len(figures["curve"])
    # The trained weights, put into a fresh learner, are those that were trained.
    corpus = load_corpus(DataConfig(path))
    again, tensors = of_all_texts(given, corpus), read_state(tmp_path / "last")[0]
    with torch.no_grad():
        for name, value in again.parameters().items():
            assert torch.equal(tensors[name], made.parameters()[name])
            value.copy_(tensors[name])
    again.network.eval()
    again.decoding, members = found.decoding, members_of(corpus, "test")
    gold = marked_mentions(corpus, members, corpus.types)
    measured = measure(gold, predicted(again, corpus, members), rounds=0)
    assert measured["f1"] == pytest.approx(figures["test"]["all"]["f1"][0])
    assert measured.mentions == sum(map(len, gold.values()))


def test_what_is_extracted_is_what_was_measured(path, tmp_path):
    corpus = load_corpus(DataConfig(path))
    made = of_all_texts(settings(path), corpus)
    train(made, LOOP, Worker(), tmp_path)
    made.network.eval()
    # So low that a model which has hardly learned finds something.
    made.decoding = replace(made.decoding, start=0.01, end=0.01, match=0.01)
    members = members_of(corpus, "test")
    ids = [corpus.documents[member].record_id for member in members]
    write_checkpoint(tmp_path / "model", made.network.config, trained_tensors(made.network), made.decoding, "a card\n")
    assert extracted(tmp_path / "model", corpus, ids) == predicted(made, corpus, members)


@pytest.mark.parametrize(("mode", "rank"), [("hybrid", 2), ("hybrid", 0), ("hard", 2)])
def test_prompts_learned_on_one_frozen_base_are_exchanged_with_it_and_with_each_other(path, tmp_path, mode, rank):
    def trained(name, seed=3, base=None, **model):
        given = settings(path, rank=rank, **model) | {"seed": seed} | ({"base": str(base)} if base else {})
        train(learner_of(given, tmp_path / f"{name}-work"), LOOP, Worker(), tmp_path / f"{name}-work")
        finish(given, tmp_path / f"{name}-work" / "last", tmp_path / name)
        return tmp_path / name

    frozen = {"freeze_encoder": True, "freeze_heads": True}
    base = trained("base", mode=mode)
    family = [trained(name, seed, base, domain=name, **frozen) for name, seed in (("one", 4), ("two", 5))]
    # A base without soft vectors has none to exchange.
    family += [base] if mode == "hybrid" else []
    heads = trained("heads", 3, base, freeze_encoder=True, domain="heads")
    for into in family:
        for each in family:
            network = with_prompts(into, each)
            assert torch.equal(network.soft.own, build_network(read_checkpoint(str(each)), torch.float32, "eager").soft.own)
        with pytest.raises(ConfigError, match=r"^model.prompts: those of 'heads' were learned with another model"):
            with_prompts(into, heads)
    assert len({PromptModule.read(each / "prompts.safetensors").own["A"].sum().item() for each in family}) == len(family)


def with_prompts(folder, other):
    """The network of a checkpoint with another one's prompts."""
    options = {"precision": "fp32", "prompts": str(other / "prompts.safetensors")}
    return load(ModelSpec("engine.models.prompt_mrc", str(folder), options, {})).network


def extracted(folder, corpus, record_ids):
    """What the job that extracts entities finds in some documents of a corpus."""
    system = load(ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32", "evidence": "none"}, {}))
    texts = {each.record_id: each.text for each in corpus.documents}
    rows = system.run(system.prepare(records([texts[record_id] for record_id in record_ids]))).sort_by("row").to_pylist()
    assert any(row["entities"] for row in rows)
    return {
        record_id: [(each["start"], each["end"], each["type"]) for each in row["entities"]]
        for record_id, row in zip(record_ids, rows, strict=True)
    }


def test_the_job_from_its_keys_to_a_checkpoint(path, tmp_path, monkeypatch, capsys):
    def fit(config, work, progress, remote):
        train(learner(config.settings, Worker()), config.loop, Worker(report=lambda row, _: progress(row)), work)
        (work / "last").rename(work / "_last")

    monkeypatch.setattr(engine.training.run, "fit", fit)
    words = ["model=prompt_mrc", f"data.path={path}", f"output.path={tmp_path / 'model'}", *job_keys()]
    assert main.run(words) == 0
    told = capsys.readouterr()
    assert "all: exact F1" in told.out and "valid f1" in told.err and "made train: 36" in told.err
    found = read_checkpoint(str(tmp_path / "model"))
    assert found.config.types == ("A", "B") and found.config.queries == (QUESTIONS["A"], QUESTIONS["B"])
    assert main.run(words) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert main.run([*words, "model.domain=other"]) == 2
    assert "other settings" in capsys.readouterr().err
    table = tmp_path / "types.csv"
    table.write_text("type,definition\nA,another fruit\n")
    # A question for every type leaves nothing for a table; without them its templates are what is asked.
    assert main.run([*words, f"model.ontology={table}"]) == 0
    fewer = [word for word in words if not word.startswith(("model.questions", "output.path"))]
    assert main.run([*fewer, f"model.ontology={table}", "model.mentions=1", f"output.path={tmp_path / 'other'}"]) == 0
    queries = read_checkpoint(str(tmp_path / "other")).config.queries
    assert queries[0].startswith("A: another fruit, such as ") and queries[1].startswith("B, such as ")
    holding = {file for file in (tmp_path / "other").rglob("*") if file.is_file() and queries[1].encode() in file.read_bytes()}
    assert {str(file.relative_to(tmp_path / "other")) for file in holding} == {"templates.json", "_training/settings.json"}
    card = (tmp_path / "other" / "README.md").read_text()
    assert "For A and B the question is the training's own" in card and all(file.name in card for file in holding)
    capsys.readouterr()
    based = [*words, f"model.base={tmp_path / 'other'}", "model.freeze_encoder=true", f"output.path={tmp_path / 'third'}"]
    assert main.run(based) == 0
    shutil.rmtree(tmp_path / "other")
    shutil.copytree(tmp_path / "model", tmp_path / "other")
    capsys.readouterr()
    assert main.run(based) == 2
    assert "holds a training with other settings" in capsys.readouterr().err
    write(path, documents(60, seed=1))
    assert main.run(words) == 2
    assert "the input has changed since this training began" in capsys.readouterr().err.splitlines()[-1]


def job_keys():
    keys = [f"model.{name}={value}" for name, value in MODEL.items() if name != "match_width"]
    asked = f"model.questions={{A: {QUESTIONS['A']}, B: {QUESTIONS['B']}}}"
    return [*keys, asked, "train.epochs=1", "train.batch=8", "cluster.threads=1", "cluster.precision=fp32"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_job_trains_through_ray_and_a_second_start_does_nothing(path, tmp_path):
    words = [sys.executable, "-m", "jobs.train", "model=prompt_mrc", f"data.path={path}", f"output.path={tmp_path / 'model'}"]
    words += job_keys()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for told in ("Checkpoint:", "nothing to do"):
        done = subprocess.run(words, capture_output=True, text=True, timeout=500, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert told in done.stdout + done.stderr and "all: exact F1" in done.stdout
    assert read_checkpoint(str(tmp_path / "model")).config.types == ("A", "B")
    assert "jobs.train model=prompt_mrc" in (tmp_path / "model" / "README.md").read_text()
