"""Training the extractor: its examples, two workers that do what one does, and the checkpoint it writes."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

import engine.training.run
from engine.encoders import encoder_folder, load_tokenizer
from engine.errors import ConfigError
from engine.evaluation.spans import measure
from engine.models.base import ModelSpec, load
from engine.models.entities import spans as entity_spans
from engine.models.entities.corpus import marked_mentions, members_of
from engine.models.entities.examples import encode_corpus
from engine.models.entities.recipe import predict_entities
from engine.models.prompt_mrc.checkpoint import build_network, read_checkpoint, trained_tensors, write_checkpoint
from engine.models.prompt_mrc.config import DataConfig, LearnConfig, ModelConfig
from engine.models.prompt_mrc.learner import MrcLearner, learner, training_network
from engine.models.prompt_mrc.ontology import build_templates
from engine.models.prompt_mrc.prompts import PromptModule
from engine.models.prompt_mrc.recipe import RECIPE
from engine.models.prompt_mrc.texts import load_corpus
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
MODEL = {"encoder": "tiny:bert", "shared_soft": 4, "type_soft": 2, "rank": 2}
MODEL |= {"window": 48, "overlap": 16, "prompt_room": 32, "mode": "hybrid"}


def documents(count, dataset="made", seed=0, only=None):
    world = World.make(count, seed)
    for number, (text, spans) in enumerate(zip(world.texts, world.spans, strict=True)):
        of_type = tuple(Span(**span) for span in spans if only in (None, span["type"]))
        split = ("train", "train", "train", "valid", "test")[number % 5]
        yield Document(f"{dataset}{number}", text, of_type, dataset, split)


def write(path, *corpora):
    pq.write_table(to_table([document for documents in corpora for document in documents]), path)
    return str(path)


def settings(path, data=None, **model):
    mode = model.get("mode", MODEL["mode"])
    unused = {"tagger": ("shared_soft", "type_soft", "prompt_room"), "hard": ("shared_soft", "type_soft")}.get(mode, ())
    values = {name: value for name, value in MODEL.items() if name not in unused}
    values |= {"questions": QUESTIONS if mode != "tagger" else {}, **model}
    return {"data": {"path": path, **(data or {})}, "model": values, "learn": {"masking": 0.1}, "precision": "fp32", "seed": 3}


def with_examples(settings, folder):
    """The settings of a training, with examples that are written to a folder."""
    corpus = RECIPE.corpus(settings)
    write_examples(corpus.preparation(), str(folder / "examples"), folder / "sorting")
    return {**corpus.settings, "examples": str(folder / "examples")}


def learner_of(settings, folder):
    """The learner of a worker."""
    return learner(with_examples(settings, folder), Worker())


def learner_of_all(settings, corpus):
    """A learner that has the test texts too, numbered as the corpus's documents."""
    torch.manual_seed(settings["seed"])
    network, _ = training_network(settings, corpus.types, torch.device("cpu"))
    examples, _ = encode_corpus(corpus, load_tokenizer(encoder_folder(network.config.encoder)))
    decoding = ModelConfig(**settings["model"]).decodings(corpus.nested())[-1]
    learn = LearnConfig(**settings["learn"], seed=settings["seed"])
    return MrcLearner(network, examples, learn, torch.device("cpu"), decoding)


def mentions_by(learner, corpus, members):
    """What a learner finds in some documents, in characters, by record."""
    mentions = {corpus.documents[member].record_id: [] for member in members}
    for span in learner.predict(members):
        words = learner.examples.tokens[span.text]
        start, end = int(words.word_start[span.first]), int(words.word_end[span.last])
        mentions[corpus.documents[span.text].record_id].append((start, end, learner.network.config.types[span.type]))
    return mentions


def write_model(learner, folder):
    """A checkpoint of a learner's model."""
    learner.network.eval()
    write_checkpoint(folder, learner.network.config, trained_tensors(learner.network), learner.decoding, "a card\n")
    return folder


def finish(settings, state, output, say=lambda line: None):
    """Writes the checkpoint of a training's last state; returns its figures."""
    corpus = RECIPE.corpus(settings)
    return engine.training.run.finish(RECIPE, corpus, read_state(state), output, device="cpu", command="a command", say=say)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "made.parquet", documents(60))


def test_a_corpus_by_types_and_shares(path, tmp_path):
    corpus = load_corpus(DataConfig(path))
    assert corpus.types == ("A", "B") and corpus.broken.count == 0
    assert corpus.nested() and not load_corpus(DataConfig(path, types=["A"])).nested()
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
    with pytest.raises(ConfigError, match=r"data.share: 0 is not allowed"):
        RECIPE.corpus(settings(path, {"share": 0}))


def test_a_corpus_is_the_same_in_brat_and_in_parquet(tmp_path):
    texts = [replace(each, dataset="made") for each in documents(20)]
    table = load_corpus(DataConfig(write(tmp_path / "table.parquet", texts)))
    for each in texts:
        folder = tmp_path / "made" / each.split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{each.record_id}.txt").write_text(each.text)
        lines = [f"T{n}\t{s.type} {s.start} {s.end}\t{each.text[s.start : s.end]}" for n, s in enumerate(each.spans)]
        (folder / f"{each.record_id}.ann").write_text("\n".join(lines))
    brat = load_corpus(DataConfig(str(tmp_path / "made")))
    assert any(len({span.type for span in each.spans}) == 1 for each in texts)
    assert brat.marked == table.marked == {"made": frozenset("AB")} and brat.counts() == table.counts()


def test_nested_mentions_of_a_type_are_detected(tmp_path):
    inner = Document("a", "old old man", (Span(0, 11, "A"), Span(4, 7, "A")), "d", "train")
    held = [Document(name, "old man", (Span(0, 7, "A"),), "d", name) for name in ("valid", "test")]
    corpus = load_corpus(DataConfig(write(tmp_path / "n.parquet", [inner, *held])))
    assert corpus.nested()


def overlapping(folder):
    """In train an A and a B within an A, and two As that meet within a word; in valid and test an A and a B within an A."""
    within = (Span(0, 11, "A"), Span(4, 7, "A"), Span(4, 7, "B"))
    texts = [Document("train1", "old old man", within, "d", "train")]
    texts += [Document("train2", "red unbelievably green", (Span(0, 9, "A"), Span(9, 22, "A")), "d", "train")]
    texts += [Document(name, "old old man", within, "d", name) for name in ("valid", "test")]
    return write(folder / "overlapping.parquet", texts)


@pytest.mark.parametrize(
    ("mode", "decoding", "count"),
    [
        # Nested as train is, flat within a type, and across types.
        ("hybrid", {"nested": None}, 0),
        ("hybrid", {"nested": False, "flat_across_types": False}, 2),
        ("hybrid", {"nested": False}, 3),
        ("tagger", {"flat_across_types": False}, 2),
        ("tagger", {"nested": None}, 3),
    ],
)
def test_overlapping_mentions_that_a_model_cannot_find_are_counted(tmp_path, mode, decoding, count):
    corpus = RECIPE.corpus(settings(overlapping(tmp_path), mode=mode, **decoding))
    # A span in each half of the long word is widened to it.
    assert corpus.marks(corpus.decoding) == {"snapped": 2, "unread": 0, "repeated": 0, "overlapping": count, "coordinated": 0}
    if mode == "tagger":
        learner = learner_of_all(corpus.settings, corpus.corpus)
        (window,) = learner.windows(0)
        tags = entity_spans.bio_tags(window, entity_spans.without_overlaps(learner.examples.spans[0]), 2)
        assert (tags == entity_spans.BEGIN).sum() == 2


def test_card_and_job_report_the_mentions_that_a_model_cannot_find(tmp_path, monkeypatch, capsys):
    message = "3 marked spans of train overlap others and cannot be found beside them: "
    tagger = settings(overlapping(tmp_path), mode="tagger")
    train(learner_of(tagger, tmp_path), LOOP, Worker(), tmp_path)
    figures = finish(tagger, tmp_path / "last", tmp_path / "model")
    assert figures["marked"] == {"snapped": 2, "unread": 0, "repeated": 0, "overlapping": 3, "coordinated": 0}
    card = (tmp_path / "model" / "README.md").read_text()
    assert message in card and "2 marked spans were widened to whole words." in card
    monkeypatch.setattr("engine.training.run._finished", lambda *arguments: {"test": {}, "examples": {}})
    words = ["model=prompt_mrc", f"data.path={tagger['data']['path']}", f"output.path={tmp_path / 'other'}", *job_keys()]
    unused = ("model.questions", "model.shared_soft", "model.type_soft", "model.prompt_room")
    assert main.run([*(word for word in words if not word.startswith(unused)), "model.mode=tagger"]) == 0
    printed = capsys.readouterr().err
    assert message in printed and "2 marked spans were widened to whole words." in printed
    assert main.run([word.replace("/other", "/nested") for word in words]) == 0
    assert "cannot be found" not in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["hybrid", "tagger"])
def test_types_that_a_corpus_does_not_mark_are_neither_asked_for_nor_counted_there(tmp_path, mode):
    both = write(tmp_path / "both.parquet", documents(20), documents(20, "fruit", 1, only="A"))
    corpus = load_corpus(DataConfig(both))
    learner = learner_of_all(settings(both, mode=mode), corpus)
    assert [len(types) for types in learner.examples.annotated] == [2] * 20 + [1] * 20
    fruit = [number for number, each in enumerate(corpus.documents) if each.dataset == "fruit"]
    if mode == "hybrid":
        types = {kind for number in fruit for window in learner.windows(number) for kind in learner._types(window, 0)}
        assert types == {0}
    else:
        terms = [sum(term for term in terms.values()) for terms, _ in learner.losses(fruit[:4], 0)]
        sum(terms).backward()
        # Three outputs per type: those of B, which fruit does not mark, learn nothing from it.
        grad = learner.network.tagger.bias.grad
        assert grad[:3].abs().sum() > 0 and grad[3:].abs().sum() == 0
    write_model(learner, tmp_path / "model")
    spec = ModelSpec("engine.models.prompt_mrc", str(tmp_path / "model"), {"precision": "fp32", "evidence": "none"}, {})
    assert {mention[2] for _, mention, _ in predict_entities(spec, [corpus.documents[at] for at in fruit], corpus.marked)} <= {
        "A"
    }


def test_the_offset_of_a_tagger_is_tuned(path, tmp_path):
    corpus = RECIPE.corpus(settings(path, mode="tagger"))
    for number, each in enumerate(corpus.corpus.documents):
        if each.split == "valid":
            corpus.corpus.documents[number] = replace(each, spans=(Span(0, len(each.text.split()[0]), "A"),))
    tensors = {name: value.detach() for name, value in corpus.network.named_parameters() if value.requires_grad}
    # "No mention" is half a logit ahead of the first word of a mention, so that nothing is found without an offset.
    bias = torch.tensor([0.5, 0.0, -9.0]).repeat(2)
    tensors |= {"tagger.weight": torch.zeros_like(tensors["tagger.weight"]), "tagger.bias": bias}
    settled = RECIPE.settle(RECIPE.write(tmp_path / "model", corpus, tensors), corpus, lambda line: None)
    assert settled["valid_f1"] > 0 and settled["decoding"]["outside"] == 1.0


def test_impossible_settings_are_refused_before_training(path, tmp_path):
    RECIPE.corpus(settings(path))
    RECIPE.corpus(settings(path, mode="tagger", flat_across_types=True))
    for mode in ("tagger", "soft"):
        model = {"mode": mode, "questions": QUESTIONS}
        with pytest.raises(ConfigError, match=f"model.questions: a model of the mode '{mode}' asks no questions"):
            RECIPE.corpus(settings(path, **model))
    with pytest.raises(ConfigError, match=r"model.questions: 'C' is none of the types to learn, which are A, B"):
        RECIPE.corpus(settings(path, questions={**QUESTIONS, "C": "which fruit"}))
    for model, message in (
        ({"freeze_heads": True}, "model.freeze_heads: there is no model.base"),
        ({"mode": "hard", "freeze_heads": True, "freeze_encoder": True}, "model.freeze_heads: there is no model.base"),
    ):
        with pytest.raises(ConfigError, match=message):
            RECIPE.corpus(settings(path, **model))
    base = str(write_model(learner_of_all(settings(path), load_corpus(DataConfig(path))), tmp_path / "base"))
    for model, message in (
        ({}, "model.freeze_encoder: "),
        ({"freeze_encoder": True, "prompt_room": 40}, "set model.prompt_room=32"),
        ({"freeze_encoder": True, "mode": "tagger"}, "a tagger has no prompts"),
        ({"freeze_encoder": True, "freeze_heads": True, "mode": "hard"}, "leave a model of the mode 'hard' nothing to learn"),
    ):
        with pytest.raises(ConfigError, match=message):
            RECIPE.corpus(settings(path, **model, base=base))
    RECIPE.corpus(settings(path, freeze_encoder=True, base=base))


def test_templates_are_built_from_a_table_and_the_training_set(path, tmp_path):
    table = tmp_path / "types.csv"
    table.write_text("type,definition\nA,which fruit\n")

    def questions(**model):
        return RECIPE.corpus(settings(path, **{"questions": {}, "ontology": str(table), "mentions": 2, **model})).model.questions

    built = questions()
    corpus = load_corpus(DataConfig(path))
    train = [(each, span) for each in corpus.documents if each.split == "train" for span in each.spans]
    mentions = {name: {each.text[span.start : span.end].lower() for each, span in train if span.type == name} for name in "AB"}
    for name, head in (("A", "A: which fruit, such as "), ("B", "B, such as ")):
        assert built[name].startswith(head)
        shown = built[name].removeprefix(head).split(", ")
        assert 1 <= len(shown) <= 2 and set(shown) <= mentions[name]
    # A validation or test text would give away its answers.
    of_train = replace(corpus, documents=[each for each in corpus.documents if each.split == "train"])
    templates = build_templates(of_train, "tiny:bert", {"A": "which fruit"}, mentions=2)
    assert {name: template.text for name, template in templates.items()} == built
    # A user's own questions override templates.
    assert questions(questions={"B": "what"}) == {"A": built["A"], "B": "what"}
    with pytest.raises(ConfigError, match=r"model.prompt_room: the prompt for '?A'? of "):
        questions(prompt_room=12, mentions=12)
    assert questions(mentions=0) == {"A": "A: which fruit", "B": "B"}
    with pytest.raises(ConfigError, match=r"model.ontology: there is no file"):
        questions(ontology=str(tmp_path / "none.csv"))
    table.write_text("type,definition\nC,which fruit\n")
    with pytest.raises(ConfigError, match="defines none of the types, which are A, B"):
        questions()


def test_a_mention_longer_than_the_encoder_is_in_no_template(path):
    corpus, text = load_corpus(DataConfig(path)), "old " * 600 + "apple"
    more = replace(corpus, documents=[*corpus.documents, Document("long", text, (Span(0, len(text), "A"),), "made", "train")])
    one, other = (build_templates(each, "tiny:bert", {"A": "which fruit"}, mentions=2) for each in (corpus, more))
    assert one == other


def _work(rank, folder, settings):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    worker = Worker(rank=rank, world=2)
    trained = learner(settings, worker)
    train(trained, LOOP, worker, folder / f"both{rank}")
    tensors = {name: value.detach().contiguous() for name, value in trained.parameters().items()}
    save_file(tensors, folder / f"{rank}.safetensors")
    dist.destroy_process_group()


@pytest.mark.long
@pytest.mark.timeout(400)
def test_two_workers_do_what_one_does(path, tmp_path):
    values = with_examples(settings(path), tmp_path)
    alone = learner(values, Worker())
    train(alone, LOOP, Worker(), tmp_path / "alone")
    mp.spawn(_work, (tmp_path, values), nprocs=2)
    for rank in (0, 1):
        theirs = load_file(tmp_path / f"{rank}.safetensors")
        for name, value in alone.parameters().items():
            assert torch.allclose(theirs[name], value, atol=2e-5), name


@pytest.mark.parametrize("model", [{}, {"deep": True, "share_layers": 1}])
def test_the_checkpoint_is_the_model_that_was_measured(path, tmp_path, model):
    values = settings(path, **model)
    trained = learner_of(values, tmp_path)
    train(trained, LOOP, Worker(), tmp_path)
    figures = finish(values, tmp_path / "last", tmp_path / "model")
    checkpoint = read_checkpoint(str(tmp_path / "model"))
    assert figures["digest"] == checkpoint.digest == json.loads((tmp_path / "model" / "figures.json").read_text())["digest"]
    assert checkpoint.config.types == ("A", "B") and asdict(checkpoint.decoding) == figures["decoding"]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "a command" in card and "| all |" in card and "| A |" in card
    assert pq.read_table(tmp_path / "model" / "curve.parquet").num_rows == len(figures["curve"])
    # A fresh learner with the trained weights has the same figures.
    corpus = load_corpus(DataConfig(path))
    again, tensors = learner_of_all(values, corpus), read_state(tmp_path / "last")[0]
    with torch.no_grad():
        for name, value in again.parameters().items():
            assert torch.equal(tensors[name], trained.parameters()[name])
            value.copy_(tensors[name])
    again.network.eval()
    again.decoding, members = checkpoint.decoding, members_of(corpus, "test")
    gold = marked_mentions(corpus, members, corpus.types)
    measured = measure(gold, mentions_by(again, corpus, members), rounds=0)
    assert measured["f1"] == pytest.approx(figures["test"]["all"]["f1"][0])
    assert measured.mentions == sum(map(len, gold.values()))


def test_the_product_extracts_what_the_learner_predicts(path, tmp_path):
    corpus = load_corpus(DataConfig(path))
    trained = learner_of_all(settings(path), corpus)
    train(trained, LOOP, Worker(), tmp_path)
    # Low enough that a model that has hardly learned finds something.
    trained.decoding = replace(trained.decoding, start=0.01, end=0.01, match=0.01)
    members = members_of(corpus, "test")
    ids = [corpus.documents[member].record_id for member in members]
    write_model(trained, tmp_path / "model")
    assert extracted(tmp_path / "model", corpus, ids) == mentions_by(trained, corpus, members)


@pytest.mark.parametrize(("mode", "rank"), [("hybrid", 2), ("hybrid", 0), ("hard", 2)])
def test_prompts_trained_on_one_frozen_base_are_exchanged_with_it_and_with_each_other(path, tmp_path, mode, rank):
    def trained(name, seed=3, base=None, **model):
        values = settings(path, rank=rank, **model, base=base and str(base)) | {"seed": seed}
        train(learner_of(values, tmp_path / f"{name}-work"), LOOP, Worker(), tmp_path / f"{name}-work")
        finish(values, tmp_path / f"{name}-work" / "last", tmp_path / name)
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
    """What jobs.extract_entities finds in some documents of a corpus."""
    system = load(ModelSpec("engine.models.prompt_mrc", str(folder), {"precision": "fp32", "evidence": "none"}, {}))
    texts = {each.record_id: each.text for each in corpus.documents}
    rows = system.run(system.prepare(records([texts[record_id] for record_id in record_ids]))).sort_by("row").to_pylist()
    assert any(row["entities"] for row in rows)
    return {
        record_id: [(each["start"], each["end"], each["type"]) for each in row["entities"]]
        for record_id, row in zip(record_ids, rows, strict=True)
    }


def test_the_job_from_its_settings_to_a_checkpoint(path, tmp_path, monkeypatch, capsys):
    def fit(config, work, progress, remote):
        train(learner(config.settings, Worker()), config.loop, Worker(report=lambda row, _: progress(row)), work)
        (work / "last").rename(work / "_last")

    monkeypatch.setattr(engine.training.run, "fit", fit)
    words = ["model=prompt_mrc", f"data.path={path}", f"output.path={tmp_path / 'model'}", *job_keys()]
    assert main.run(words) == 0
    printed = capsys.readouterr()
    assert "all: exact F1" in printed.out and "valid f1" in printed.err and "made train: 36" in printed.err
    config = read_checkpoint(str(tmp_path / "model")).config
    assert config.types == ("A", "B") and config.queries == (QUESTIONS["A"], QUESTIONS["B"])
    assert main.run(words) == 0
    assert "nothing to do" in capsys.readouterr().err
    assert main.run([*words, "model.domain=other"]) == 2
    assert "other settings" in capsys.readouterr().err
    table = tmp_path / "types.csv"
    table.write_text("type,definition\nA,another fruit\n")
    # A question for every type overrides all templates; without questions the templates are used.
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
    keys = [f"model.{name}={value}" for name, value in MODEL.items()]
    questions = f"model.questions={{A: {QUESTIONS['A']}, B: {QUESTIONS['B']}}}"
    return [*keys, questions, "train.epochs=1", "train.batch=8", "cluster.threads=1", "cluster.precision=fp32"]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_job_trains_through_ray_and_a_second_start_does_nothing(path, tmp_path):
    words = [sys.executable, "-m", "jobs.train", "model=prompt_mrc", f"data.path={path}", f"output.path={tmp_path / 'model'}"]
    words += job_keys()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    for message in ("Checkpoint:", "nothing to do"):
        done = subprocess.run(words, capture_output=True, text=True, timeout=500, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        assert message in done.stdout + done.stderr and "all: exact F1" in done.stdout
    assert read_checkpoint(str(tmp_path / "model")).config.types == ("A", "B")
    assert "jobs.train model=prompt_mrc" in (tmp_path / "model" / "README.md").read_text()
