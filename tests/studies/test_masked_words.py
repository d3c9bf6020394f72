"""Masked words: what is hidden, and that a text's loss does not depend on what stands beside it."""

import json
import os
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.encoders import encoder_digest
from engine.errors import ConfigError
from engine.studies.masked_words import AdaptConfig, domain_texts, words_learner
from engine.studies.run import Place, Runner
from engine.studies.study import study_of
from tests.models.prompt_mrc.conftest import World

TEXTS = ["the old man sells bread near the river", "plum", "we saw an apple and a cherry on a hill " * 8]
TINY = AdaptConfig((), encoder="tiny:bert", window=30, epochs=1, batch=2, held=4)


def learner_of(texts):
    return words_learner(TINY, texts, torch.device("cpu"))[0]


def test_pieces_and_what_is_asked_for():
    learner = learner_of(TEXTS)
    assert [len(piece) for piece in learner.pieces] == [8, 1, 27, 27, 26]
    assert learner.valid == [0, 4] and learner.train == [1, 2, 3]
    _, counts, tokens = learner._losses([0, 1, 2], 0)
    # 15 % of 8, 1 and 27 tokens, at least one; two special tokens each.
    assert counts.tolist() == [1, 1, 4] and tokens == 8 + 1 + 27 + 6


def test_a_loss_is_the_same_alone_and_beside_a_longer_text():
    learner = learner_of(TEXTS)
    alone, _, _ = learner._losses([0], 0)
    beside, _, _ = learner._losses([0, 2], 0)
    assert torch.allclose(alone[0], beside[0], atol=1e-5)
    other, _, _ = learner._losses([0], 1)
    assert not torch.allclose(alone[0], other[0])


def test_an_adapted_encoder_is_an_encoder_for_another_study(run_study, corpora, tmp_path):
    pq.write_table(pa.table({"tokens": [text.split() for text in World.make(120, 5).texts]}), tmp_path / "texts.parquet")
    # Settings of the product's training are of no use here.
    adapt = {"masked_words.encoder": "tiny:bert", "masked_words.texts": [os.path.relpath(tmp_path / "texts.parquet", corpora)]}
    adapt |= {"masked_words.epochs": 4.0, "masked_words.rate": 3e-3, "masked_words.batch": 8}
    values = {
        "question": "?",
        "system": "prompt_mrc",
        "fit": "masked_words",
        "corpora": {"texts": "."},
        "measure": ["masked_words"],
    }
    study = study_of("adapted", {**values, "arms": {"tiny": adapt}})
    place = Place(corpora, tmp_path / "adapted", tmp_path / "models", 1, recorded=False)
    lines = []
    rows = {row["metric"]: row["value"] for row in Runner(study, place, lines.append).run().to_pylist()}
    assert rows["loss_after"] < rows["loss_of_new_head"] and any(line.startswith("step") for line in lines)
    model = Runner(study, place, lines.append).model(study, study.arms()[0])
    assert json.loads((model.folder / "config.json").read_text())["model_type"] == "bert"
    digest = encoder_digest(f"path:{model.folder}")
    arms = {"plain": {"model.mode": "hard"}, "adapted": {"model.mode": "hard", "model.encoder": f"path:{model.folder}"}}
    figures = run_study({"arms": arms})
    assert ("one", "adapted", "f1", "all") in figures and encoder_digest(f"path:{model.folder}") == digest
    with pytest.raises(ConfigError, match=r"the setting masked_words\.epoch is unknown"):
        Runner(study_of("adapted", {**values, "arms": {"tiny": {**adapt, "masked_words.epoch": 1}}}),
               replace(place, output=tmp_path / "odd"), lines.append).run()  # fmt: skip


def test_too_few_texts_are_refused():
    with pytest.raises(ConfigError, match="too few texts"):
        learner_of(["plum"])


def test_texts_of_the_domain_leave_out_what_is_tested_on(tmp_path):
    rows = {"split": ["train", "valid", "test"], "text": ["a", "b", "c"]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    pq.write_table(pa.table({"split": ["train", "valid"], "sentences": [["d", "e"], ["f"]]}), tmp_path / "b.parquet")
    files = [str(tmp_path / f"{name}.parquet") for name in "ab"]
    assert sorted(domain_texts(files, 9)) == ["a", "b", "d e"]
    assert set(domain_texts(files, 2)) < {"a", "b", "d e"}
    pq.write_table(pa.table({"x": [1]}), tmp_path / "c.parquet")
    with pytest.raises(ConfigError, match="no column tokens"):
        domain_texts([str(tmp_path / "c.parquet")], 1)
