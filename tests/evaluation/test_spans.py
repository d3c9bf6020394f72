"""Span measures worked by hand, and against seqeval where that can say anything."""

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from engine.errors import ContractError
from engine.evaluation.resample import Rest
from engine.evaluation.spans import errors, iou, matches, measure
from engine.models.base import ModelSpec
from engine.models.entities.consult import answer
from engine.models.prompt_mrc import load
from engine.sources.labelled import Span
from engine.sources.labelled.iob2 import join
from tests.sources.labelled.tagged import tags

A, B = "A", "B"


def values(found, *names, part="all"):
    return [found.values[name, part].value for name in names]


def test_two_records_by_hand():
    gold = {"r1": [(0, 10, A), (20, 30, A), (40, 50, B)], "r2": [(0, 4, B), (10, 20, A)]}
    said = {"r1": [(0, 10, A), (22, 30, A), (40, 50, A)], "r2": [(2, 3, B), (30, 40, B)]}
    found = measure(gold, said, rounds=0)
    # Exact: 1 of 5 found, 1 of 5 marked.
    assert values(found, "precision", "recall", "f1") == [0.2, 0.2, pytest.approx(0.2)]
    # Overlap: A 0-10, A 22-30, B 2-3. IoU 1, 0.8, 0.25.
    assert values(found, "overlap_f1", "iou_f1") == [pytest.approx(0.6), pytest.approx(0.4)]
    # Characters: 10 + 8 + 1 in both of 44 marked and 39 found.
    assert values(found, "char_precision", "char_recall") == [pytest.approx(19 / 39), pytest.approx(19 / 44)]
    # Overlapped by their type: 0-10, 20-30, B 0-4. Starts alike: 1. Ends alike: 2.
    assert values(found, "start_accuracy", "end_accuracy") == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert values(found, "index_start", "index_end", "index_both") == [0.2, 0.4, 0.2]
    # Left wrong: 22-30. Both wrong: 2-3. Type wrong: 40-50. Missed: 10-20. Spurious: 30-40.
    names = ("left_wrong", "right_wrong", "both_wrong", "type_wrong", "missed", "spurious")
    assert values(found, *(f"error_{name}" for name in names)) == [0.2, 0.0, 0.2, 0.2, 0.2, 0.2]
    assert found.confusion == {(A, A): 2, (B, A): 1}
    # By type: A 1 of 3 and 3; B 0 of 2 and 2. Macro F1: 1/6.
    assert values(found, "f1", part="type=A") == [pytest.approx(1 / 3)]
    assert values(found, "f1", part="macro") == [pytest.approx(1 / 6)]
    assert (found.mentions, found.records, found["f1"]) == (5, 2, pytest.approx(0.2))
    assert found.marked == {A: 3, B: 2}


def test_errors_one_by_one():
    gold = [(0, 10, A), (20, 30, A), (40, 50, B), (60, 70, A)]
    said = [(0, 10, A), (22, 30, A), (40, 50, A), (80, 90, B)]
    assert errors(gold, said) == [
        ("left_wrong", (20, 30, A), (22, 30, A)),
        ("type_wrong", (40, 50, B), (40, 50, A)),
        ("missed", (60, 70, A), None),
        ("spurious", None, (80, 90, B)),
    ]
    assert errors(gold, gold) == []


def test_parts_of_the_records_and_what_each_figure_rests_on():
    gold = {"r1": [(0, 10, A), (20, 30, A)], "r2": [(0, 4, B)], "r3": []}
    said = {"r1": [(0, 10, A)], "r2": [(0, 4, B), (8, 9, A)], "r3": []}
    found = measure(gold, said, rounds=0, groups={"r1": "p", "r2": "p"}, parts={"ward=x": ["r1", "r3"], "ward=y": ["r2"]})
    assert values(found, "precision", "recall", "f1", part="ward=x") == [1.0, 0.5, pytest.approx(2 / 3)]
    assert values(found, "precision", "recall", "overlap_f1", part="ward=y") == [0.5, 1.0, pytest.approx(2 / 3)]
    assert ("char_f1", "ward=x") not in found.values
    # Marked 3, found 3, two of them one and the same; all of one patient.
    assert [found.rests[name, "all"] for name in ("recall", "precision", "f1")] == [Rest(3, 1), Rest(3, 1), Rest(4, 1)]
    assert found.rests["f1", "type=B"] == Rest(1, 1) and found.rests["f1", "ward=x"] == Rest(2, 1)
    assert found.rests["error_missed", "all"] == Rest(2, 1)


def test_nested_mentions_of_one_and_two_types():
    gold = {"r": [(0, 20, A), (0, 8, A), (12, 20, B)]}
    found = measure(gold, {"r": [(0, 8, A), (0, 20, A), (12, 20, B)]}, rounds=0)
    assert values(found, "f1", "iou_f1", "char_f1", "index_both") == [1.0] * 4
    assert found.confusion == {(A, A): 2, (B, B): 1}
    half = measure(gold, {"r": [(0, 20, A)]}, rounds=0)
    assert values(half, "precision", "recall") == [1.0, pytest.approx(1 / 3)]
    # The short one begins where the found one does, although that is another mention.
    assert values(half, "index_start", "index_end") == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    # Multiset: 36 characters are marked, 20 found, all of them marked.
    assert values(half, "char_precision", "char_recall") == [1.0, pytest.approx(20 / 36)]


def test_greedy_matching_takes_the_best_first():
    assert iou((0, 10, A), (5, 15, A)) == pytest.approx(1 / 3)
    found = matches([(0, 10, A), (8, 12, A)], [(7, 12, A), (0, 8, A)])
    assert found == [((0, 10, A), (0, 8, A), 0.8), ((8, 12, A), (7, 12, A), 0.8)]
    assert matches([(0, 5, A)], [(5, 9, A), (0, 5, B)]) == []


def test_nothing_to_divide_by_is_no_figure():
    nothing = measure({"r": []}, {"r": []})
    assert nothing["f1"] is None and nothing.mentions == 0
    only = measure({"r": [(0, 1, A)], "s": []}, {"r": [], "s": []}, rounds=20)
    assert (only["precision"], only["recall"], only["f1"]) == (None, 0.0, 0.0)
    spurious = measure({"r": []}, {"r": [(0, 1, A)]}, rounds=0)
    assert (spurious["recall"], spurious["f1"]) == (None, 0.0)
    with pytest.raises(ContractError, match="1 records are on one side"):
        measure({"r": []}, {})


def test_intervals_draw_whole_records():
    gold = {str(number): [(0, 1, A)] for number in range(40)}
    said = {name: [(0, 1, A)] if int(name) % 2 else [] for name in gold}
    found = measure(gold, said, rounds=500).values["recall", "all"]
    assert found.value == 0.5 and 0.3 < found.low < 0.45 and 0.55 < found.high < 0.7


@given(st.data())
@settings(max_examples=40)
def test_flat_sets_are_what_seqeval_says(data):
    tokens = ["ab", "c", "def", "g", "hi", "j"]
    starts = [0, 3, 5, 9, 11, 14]

    def side():
        spans, number = [], 0
        while number < len(tokens):
            last = min(number + data.draw(st.integers(0, 2)), len(tokens) - 1)
            if data.draw(st.booleans()):
                spans.append(Span(starts[number], starts[last] + len(tokens[last]), data.draw(st.sampled_from([A, B]))))
            number = last + 1
        return spans

    pairs = [(side(), side()) for _ in range(2)]
    gold, said = (
        {str(at): [(span.start, span.end, span.type) for span in pair[which]] for at, pair in enumerate(pairs)}
        for which in (0, 1)
    )
    found = measure(gold, said, rounds=0)
    both = [[tags(tokens, pair[which]) for pair in pairs] for which in (0, 1)]
    for name, theirs in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert (found[name] or 0.0) == pytest.approx(theirs(*both, mode="strict", scheme=IOB2, zero_division=0))


# To these corpora a cancer is a disease.
@pytest.mark.parametrize(
    ("corpus", "types"), [("NCBI-disease", ["Disease", "Cancer"]), ("BC5CDR", ["Chemical", "Disease", "Cancer"])]
)
def test_seqeval_says_the_same_of_the_shipped_model_on_real_sentences(shared_data, corpus, types):
    rows = pq.read_table(shared_data / "ner_en" / f"{corpus}.parquet").to_pylist()
    rows = [row for row in rows if row["split"] == "test"][:40]
    extractor = load(ModelSpec("engine.models.prompt_mrc", "shipped", {"types": types, "evidence": "none"}, {"threads": 1}))
    gold, said, theirs = {}, {}, []
    for row in rows:
        text, spans = join(row["tokens"], row["ner_tags"])
        starts = {0, *(place + 1 for place, letter in enumerate(text) if letter == " ")}
        ends = {start - 1 for start in starts} | {len(text)}
        kept: list[Span] = []
        # Tags can say neither half a token nor two mentions of one.
        for each in answer(extractor, text):
            alone = all(each["end"] <= other.start or other.end <= each["start"] for other in kept)
            if each["start"] in starts and each["end"] in ends and alone:
                kept.append(Span(each["start"], each["end"], each["type"].replace("Cancer", "Disease")))
        name = row["sentence_id"]
        gold[name], said[name] = ([(span.start, span.end, span.type) for span in some] for some in (spans, kept))
        theirs.append(tags(row["tokens"], kept))
    found, marked = measure(gold, said, rounds=0), [row["ner_tags"] for row in rows]
    assert found["f1"] > 0.5
    for name, metric in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert found[name] == pytest.approx(metric(marked, theirs, mode="strict", scheme=IOB2))
