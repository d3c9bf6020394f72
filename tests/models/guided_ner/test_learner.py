"""The learner: copies, ramps and losses that depend on a window alone, and a tagger that has learned from invented reports."""

import numpy as np
import pytest
import torch

from engine.models.base import ModelSpec, load
from engine.models.entities.corpus import members_of
from engine.models.entities.examples import encode_corpus
from engine.models.entities.recipe import predict_entities
from engine.models.entities.spans import spans_within
from engine.models.guided_ner.checkpoint import SYSTEM
from engine.models.guided_ner.config import HEADS, Decoding, LearnConfig
from engine.models.guided_ner.learner import TagLearner, _stacked
from engine.models.guided_ner.recipe import RECIPE
from engine.training.config import LoopConfig
from engine.training.loop import Worker, train
from engine.training.run import finish, train_phases
from tests.models.guided_ner.conftest import TOKENIZER, documents, scattered, settings, small, tiny_config, write_corpus

LOOP = {"batch": 8, "report_every": 1000, "checkpoint_every": 10**6}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    path = write_corpus(tmp_path_factory.mktemp("made") / "made.parquet", documents(30))
    return encode_corpus(RECIPE.corpus(settings(path)).corpus, TOKENIZER)[0]


def targets_of(examples):
    """An even target for the first entity of every other text that has one."""
    found = {}
    for member in np.flatnonzero(examples.train).tolist():
        if examples.spans[member] and member % 2:
            span, count = examples.spans[member][0], len(examples.tokens[member].ids)
            found[examples.record_id[member], 0] = (span.first, span.last, span.type, np.full(count, 1 / count, np.float32))
    return found


def made(examples, classes, head="crf", guided=True, **learn):
    config = LearnConfig(**{"masking": 0.3, **learn})
    network = scattered(tiny_config(head, window=40))
    return TagLearner(
        network, examples, config, torch.device("cpu"), Decoding(), classes, targets_of(examples) if guided else {}, guided
    )


def summed(learner, members, epoch=1):
    """The sum of each term over the passes of a step."""
    total = {}
    for terms, _ in learner.losses(list(members), epoch):
        for name, value in terms.items():
            total[name] = total.get(name, 0.0) + float(torch.as_tensor(value).detach())
    return total


def copies(learner, members, epoch=0):
    shown = [window for member in members for window in learner.windows(member)]
    plain = learner._batch(shown)
    copied, unchanged = learner._copies(plain, shown, epoch)
    return shown, plain.ids[:, 1:], copied.ids[:, 1:], unchanged


def test_copies_leave_entities_and_spared_tokens_alone(examples, classes):
    learner = made(examples, classes)
    shown, plain, copied, unchanged = copies(learner, learner.order(0))
    changed = plain != copied
    for row, window in enumerate(shown):
        spared = classes.spared[window.ids]
        for first, last, _ in spans_within(window, examples.spans[window.text]):
            spared[first : last + 1] = True
        assert not changed[row, : len(window)][torch.from_numpy(spared)].any() and not changed[row, len(window) :].any()
    masked = copied == learner.network.config.special[3]
    free = sum(len(window) for window in shown)
    assert 0.03 < int(masked.sum()) / free < 0.15 and (changed & ~masked).any()
    assert not unchanged[changed].any() and not unchanged[masked].any() and unchanged[~changed & ~masked].all()


def test_copies_are_the_same_alone_and_others_in_another_epoch(examples, classes):
    learner = made(examples, classes)
    members = learner.order(0)[:6]
    _, _, together, _ = copies(learner, members)
    for row, member in enumerate(members):
        _, _, alone, _ = copies(learner, [member])
        assert torch.equal(together[row, : alone.shape[1]], alone[0])
    assert not torch.equal(copies(learner, members, 1)[2], together)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("saliency", ["gradient", "attention"])
def test_a_records_loss_is_the_same_beside_any_others(examples, classes, head, saliency):
    learner = made(examples, classes, head, saliency=saliency)
    members = learner.order(0)[:5]
    together, alone = summed(learner, members), [summed(learner, [member]) for member in members]
    assert set(together) == {"tags", "stability", "boundary", "consistency"}
    for name, value in together.items():
        assert value == pytest.approx(sum(each.get(name, 0.0) for each in alone), rel=1e-3, abs=1e-5), name
    assert summed(learner, members, 2)["tags"] != pytest.approx(together["tags"], rel=1e-6)
    entropy, count = learner.further_figures()["saliency_entropy"]
    assert count > 0 and 0 < entropy / count < np.log(40) and not learner.further_figures()


def test_without_guidance_only_the_tags_are_learned(examples, classes):
    learner = made(examples, classes, guided=False)
    assert set(summed(learner, learner.order(0)[:4])) == {"tags"} and not learner.further_figures()


def test_the_constraints_grow_in_the_first_epoch_alone(examples, classes):
    learner = made(examples, classes)
    members = learner.order(0)
    assert [learner.place[member] for member in members] == pytest.approx(np.arange(1, len(members) + 1) / len(members))
    (member,) = [member for member in members if (examples.record_id[member], 0) in learner.targets][:1]
    of_epoch = {}
    for place in (0.0, 0.5, 1.0):
        learner.place[member] = place
        of_epoch[place] = summed(learner, [member], 0), summed(learner, [member], 1)
    for name in ("stability", "boundary", "consistency"):
        (none, later), (half, _), (full, _) = (of_epoch[place] for place in (0.0, 0.5, 1.0))
        assert none[name] == 0 and half[name] == pytest.approx(full[name] / 2, rel=1e-4) and full[name] > 0
        assert later[name] == pytest.approx(of_epoch[1.0][1][name], rel=1e-6) and later[name] > 0
    assert of_epoch[0.0][0]["tags"] == pytest.approx(of_epoch[1.0][0]["tags"], rel=1e-6)


def test_a_weight_of_nothing_switches_a_constraint_off(examples, classes):
    learner = made(examples, classes, stability=0.0, boundary=0.0, consistency=0.0)
    terms = summed(learner, learner.order(0)[:5])
    assert terms["tags"] > 0 and terms["stability"] == terms["boundary"] == terms["consistency"] == 0


def test_the_tags_of_words_by_hand(examples, classes):
    learner = made(examples, classes)
    member = next(at for at in learner.order(0) if {span.type for span in examples.spans[at]} == {0, 1})
    (window,) = learner.windows(member)
    (gold,) = learner._gold([window]).tolist()
    expected = [0] * len(window)
    for span in examples.spans[member]:
        expected[span.first : span.last + 1] = [2 + 2 * span.type] * (span.last + 1 - span.first)
        expected[span.first] = 1 + 2 * span.type
    assert gold == expected and set(gold) == {0, 1, 2, 3, 4}


def test_batches_are_stacked_in_their_order(examples, classes):
    learner = made(examples, classes)
    one = learner._batch(learner.windows(0))
    both = _stacked(one, one)
    assert len(both.ids) == 2 and torch.equal(both.ids[0], both.ids[1]) and both.row == [*one.row, *one.row]


def test_a_guided_training_that_was_stopped_ends_as_one_that_was_not(examples, classes, tmp_path):
    def taught(name, at=None, **loop):
        learner = made(examples, classes, "softmax")
        # Small weights, so that two steps keep the values apart but finite.
        train(learner, LoopConfig(epochs=2, rate=1e-3, batch=6, report_every=1000, checkpoint_every=2, **loop), Worker(),
              tmp_path / name, at)  # fmt: skip
        return {name: value.detach().clone() for name, value in learner.parameters().items()}

    whole = taught("whole")
    taught("part", stop_after=3)
    again = taught("again", tmp_path / "part" / "last")
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert all(value.isfinite().all() for value in whole.values())
    assert not torch.equal(whole["tags.weight"], scattered(tiny_config("softmax", window=40)).tags.weight)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small tagger from nothing through words, tags and a guided phase: figures, corpus, folder and what was said."""
    folder, monkey, lines = tmp_path_factory.mktemp("trained"), pytest.MonkeyPatch(), []
    monkey.setattr("engine.models.guided_ner.recipe.small_encoder", small)
    learn = {"words_epochs": 1.0, "rounds": 1, "guided_epochs": 2.0, "guided": 0.3, "masking": 0.1}
    values = settings(write_corpus(folder / "made.parquet", documents(250)), learn=learn, head="bilstm_crf", lstm=16)
    corpus = RECIPE.corpus(values)
    state = train_phases(RECIPE, corpus, LoopConfig(epochs=6, rate=1e-2, **LOOP), folder / "work", lines.append)
    figures = finish(RECIPE, corpus, state, folder / "model", device="cpu", command="a command", say=lines.append)
    monkey.undo()
    return figures, corpus, folder / "model", lines


@pytest.mark.timeout(400)
def test_a_tagger_learns_what_the_trigger_says(trained):
    figures, corpus, folder, _ = trained
    assert figures["test"]["all"]["f1"][0] > 0.8
    # A sign that follows no 伴 is none.
    spec = ModelSpec(SYSTEM, str(folder), {"precision": "fp32", "evidence": "none"}, {})
    texts = corpus.corpus
    members = members_of(texts, "test")
    found = predict_entities(spec, [texts.documents[member] for member in members], texts.marked)
    assert found
    by_id = {each.record_id: each.text for each in texts.documents}
    before = [by_id[record_id][start - 1] for record_id, (start, _, kind), _ in found if kind == "SIGN"]
    assert sum(character == "伴" for character in before) > 0.8 * len(before)


def test_a_guided_training_tells_of_its_phases_tables_and_saliency(trained):
    figures, _, folder, lines = trained
    said = [line for line in lines if line.startswith(("phase", "building"))]
    assert [line.split(": ")[-1].removeprefix("building the table ") for line in said] == [
        "words", "tags", "tokens", "targets", "guided_1"
    ]  # fmt: skip
    last = [row for row in figures["curve"] if row["phase"] == 3][-1]
    assert all(np.isfinite(last[f"loss_{name}"]) for name in ("tags", "stability", "boundary", "consistency"))
    assert last["saliency_entropy"] > 0
    system = load(ModelSpec(SYSTEM, str(folder), {"precision": "fp32"}, {"threads": 1}))
    assert system.network.glob.any() and system.digest == figures["digest"]
    assert "head bilstm_crf" in (folder / "README.md").read_text()
