"""What reports say of marked mentions, as a reader of the passages judged it: see `engine.studies.prompt_mrc`."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from engine.text.assertions import AFFIRMED, HISTORICAL, NEGATED, UNCERTAIN, Asserted
from engine.text.phrases import Reading
from engine.text.sentences import parts

JUDGED = Path(__file__).parents[2] / "engine/studies/prompt_mrc/passage_assertions.csv"


@pytest.fixture(scope="module")
def passages(shared_data):
    with (shared_data / "pathology_entities/passages.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_assertions_of_marked_mentions(passages):
    with JUDGED.open(encoding="utf-8", newline="") as file:
        judged = {(row["id"], int(row["start"]), int(row["end"])): row["assertion"] for row in csv.DictReader(file)}
    pairs, cancers = Counter(), Counter()
    for passage in passages:
        scopes = Asserted(Reading(passage["text"])).in_characters()
        for each in passage["entities"]:
            span = each["start"], each["end"]
            pair = judged.pop((passage["id"], *span), AFFIRMED), scopes.columns(*span)["assertion"]
            pairs[pair] += 1
            cancers[pair] += each["type"] == "Cancer"
    assert not judged
    # Right, said by the rules, and judged so by the reader. Too many denials are of anatomy: a scope that reaches too far.
    right = {
        kind: (pairs[kind, kind], *(sum(n for pair, n in pairs.items() if pair[side] == kind) for side in (1, 0)))
        for kind in (NEGATED, UNCERTAIN, HISTORICAL)
    }
    assert right == {NEGATED: (55, 72, 56), UNCERTAIN: (9, 9, 12), HISTORICAL: (3, 4, 3)}
    assert sum(n for (judgement, rule), n in pairs.items() if judgement == rule) == 499 and pairs.total() == 521
    # Of a cancer.
    assert {pair: n for pair, n in cancers.items() if NEGATED in pair and n} == {(NEGATED, NEGATED): 51}


def test_marked_mentions_lie_in_one_part(passages):
    crossing = 0
    for passage in passages:
        part = parts(Reading(passage["text"]), range(len(passage["text"])))
        crossing += sum(part[each["start"]] != part[each["end"] - 1] for each in passage["entities"])
    # `RIGHT\nARYEPIGLOTTIC FOLD`, and a type in the line below a carcinoma.
    assert crossing == 2
