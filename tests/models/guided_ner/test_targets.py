"""The tables before a guided phase: by hand, from training texts alone, and the same whatever was computed before."""

from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from safetensors.torch import save_file

from engine.explain.explanation import Explanation, weights
from engine.models.entities.explainable import Place
from engine.models.guided_ner import targets
from engine.models.guided_ner.begin import facts_of
from engine.models.guided_ner.config import Config
from engine.models.guided_ner.recipe import RECIPE
from engine.sources.labelled import Document
from tests.models.guided_ner.conftest import documents, scattered, settings, small, window_of, with_examples, write_corpus

# 试 stands in texts that are marked only in valid and test, and in training texts without an entity.
PLAIN = [Document(f"p{at}", "试试患者既往体健。", (), "made", "train") for at in range(3)]


def tried(document):
    return document if document.split == "train" else replace(document, text=f"{document.text}试试试")


@pytest.fixture(scope="module")
def corpus():
    return [*map(tried, documents(40)), *PLAIN]


@pytest.fixture(scope="module")
def prepared(corpus, tmp_path_factory):
    """The settings of a guided phase after a network with random weights."""
    folder, monkey = tmp_path_factory.mktemp("targets"), pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("engine.models.guided_ner.recipe.small_encoder", small)
        values = with_examples(settings(write_corpus(folder / "made.parquet", corpus), head="crf"), folder)
    network = scattered(Config(**facts_of(values)["config"]))
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, folder / "weights.safetensors")
    return {**values, "round": 1, "before": str(folder / "weights.safetensors"), "learn": {"guided": 1.0}}, folder


@pytest.fixture(scope="module")
def guided(prepared):
    """The settings with a finished table of tokens, and that table."""
    values, folder = prepared
    table = targets.summed([targets.token_weights(part, values) for part in range(8)], values)
    pq.write_table(table, folder / "tokens.parquet")
    return {**values, "tables": {targets.TOKENS: str(folder / "tokens.parquet")}}, table


def explanation(*score):
    values = np.array(score, float)
    return Explanation(np.arange(len(values)), np.arange(len(values)) + 1, values, weights(values))


def test_the_table_of_tokens_by_hand(monkeypatch, tmp_path):
    (first,), (second,) = window_of("红斑红"), window_of("红患")
    found = [
        ("a", Place(first, 1, None, None, None), (0, 1), explanation(2.0, -1.0, 1.0)),
        ("b", Place(second, 1, None, None, None), (0, 0), explanation(0.0, 3.0)),
        ("b", Place(second, 0, None, None, None), (0, 0), explanation(1.0, 3.0)),
    ]
    monkeypatch.setattr(targets, "_explained", lambda *_: iter(found))
    table = targets.token_weights(0, {})
    red, spot, ill = (int(first.ids[0]), int(first.ids[1]), int(second.ids[1]))
    rows = {(row["token"], row["type"]): (row["weight"], row["count"]) for row in table.to_pylist()}
    # Weights times the words of the window: (1/2 + 1/4) 3 + 0 of 红 in three places.
    assert rows == {(red, 1): (2.25, 3), (spot, 1): (0.75, 1), (ill, 1): (2.0, 1), (red, 0): (0.5, 1), (ill, 0): (1.5, 1)}
    pq.write_table(targets.summed([table, table], {}), tmp_path / "tokens.parquet")
    values = targets.global_table(str(tmp_path / "tokens.parquet"), 60, 2)
    assert values[red].tolist() == pytest.approx([2 * 0.5 / (2 + 10), 2 * 2.25 / (6 + 10)])
    assert values[ill, 0].item() == pytest.approx(2 * 1.5 / 12) and values.count_nonzero() == 5


def test_no_texts_give_an_empty_table_and_no_values(monkeypatch, tmp_path):
    monkeypatch.setattr(targets, "_explained", lambda *_: iter(()))
    pq.write_table(targets.token_weights(0, {}), tmp_path / "tokens.parquet")
    assert not targets.global_table(str(tmp_path / "tokens.parquet"), 60, 2).any()


def test_only_training_texts_with_entities_have_a_say(guided, corpus):
    values, table = guided
    facts = facts_of(values)
    drawn = all_drawn(values)
    marked = {each.record_id for each in corpus if each.split == "train" and each.spans}
    assert {record_id for record_id, *_ in drawn} == marked and len(marked) < len(corpus) / 2
    tokenizer = RECIPE.corpus({**values, "learn": {}, "model": {"window": 24, "overlap": 8, "head": "crf"}}).tokenizer
    known = tokenizer.token_to_id("试")
    assert known is not None and known < len(facts["spared"])
    assert known not in set(table["token"].to_pylist()) and tokenizer.token_to_id("患") in set(table["token"].to_pylist())


def all_drawn(values, share=1.0):
    return [each for part in range(8) for each in targets._drawn(part, values, share)]


def test_a_target_for_the_drawn_entity_of_every_window(guided, tmp_path):
    values, _ = guided
    path = tmp_path / "targets.parquet"
    pq.write_table(targets.joined([targets.fused_targets(part, values) for part in range(8)], values), path)
    found = targets.read_targets(str(path))
    drawn = {(record_id, place.window.start): (place, span) for record_id, place, span in all_drawn(values)}
    assert set(found) <= set(drawn) and len(found) > 0.8 * len(drawn)
    for key, (first, last, kind, shares) in found.items():
        place, span = drawn[key]
        assert (first, last) == span and kind == place.type and len(shares) == len(place.window)
        assert shares.sum() == pytest.approx(1, abs=1e-5) and (shares >= 0).all()
    # They are no even weights.
    assert max(shares.max() for *_, shares in found.values()) > 0.2


def test_a_share_of_the_windows_is_guided_and_another_one_in_another_round(guided):
    values, _ = guided

    def keys(share, number=1):
        return {(record_id, span) for record_id, _, span in all_drawn({**values, "round": number}, share)}

    assert keys(0.3) < keys(1.0) and 0.1 < len(keys(0.3)) / len(keys(1.0)) < 0.6
    assert keys(0.3) != keys(0.3, 2) and not keys(0.0)


def test_a_part_has_the_same_rows_whatever_was_computed_before(guided):
    values, _ = guided
    alone = targets.fused_targets(3, values)
    others = [targets.fused_targets(part, values) for part in (7, 0)]
    assert targets.fused_targets(3, values).equals(alone) and alone.num_rows and not alone.equals(others[0])
    untold = {**values, "tables": {}}
    assert targets.token_weights(5, untold).equals(targets.token_weights(5, values))


def test_the_order_of_the_parts_changes_no_sum(prepared):
    values, _ = prepared
    parts, by = [targets.token_weights(part, values) for part in range(3)], [("token", "ascending"), ("type", "ascending")]
    one, other = (targets.summed(each, values).sort_by(by) for each in (parts, parts[::-1]))
    assert one["count"].equals(other["count"]) and np.allclose(one["weight"], other["weight"], atol=1e-12)
    assert one.schema == parts[0].schema and pc.sum(one["count"]).as_py() > 50


def test_the_tables_are_named_as_the_learner_reads_them():
    assert [table.name for table in targets.tables()] == [targets.TOKENS, targets.TARGETS] == ["tokens", "targets"]
