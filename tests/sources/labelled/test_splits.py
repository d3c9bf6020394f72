"""Splits that a corpus has, and those that are cut."""

from collections import Counter

import pytest

from engine.errors import ConfigError
from engine.sources.labelled.documents import Document
from engine.sources.labelled.splits import with_splits


def corpus(name, **counts):
    return [
        Document(f"{name}-{split}-{at}", "a", dataset=name, split=split) for split, count in counts.items() for at in range(count)
    ]


def splits(documents):
    return Counter(document.split for document in with_splits(documents))


def test_a_corpus_with_all_splits_stays_and_one_without_test_tests_on_valid():
    assert splits(corpus("full", train=50, valid=5, test=5)) == {"train": 50, "valid": 5, "test": 5}
    cut = splits(corpus("half", train=500, valid=40))
    assert cut["test"] == 40 and 30 < cut["valid"] < 75 and cut["train"] + cut["valid"] == 500
    only = splits(corpus("other", train=500, test=7))
    assert only["test"] == 7 and 30 < only["valid"] < 75
    assert splits(corpus("target", test=7)) == {"test": 7}


def test_a_missing_test_set_can_be_cut_from_train():
    half = corpus("half", train=500, valid=40)
    found = with_splits(half, tested=0.2)
    counts = Counter(document.split for document in found)
    # Valid stays what it is, and nothing of it is tested on.
    assert counts["valid"] == 40 and 70 < counts["test"] < 130 and counts["train"] == 500 - counts["test"]
    assert all(document.split == "valid" for document in found if "-valid-" in document.record_id)
    # A larger share holds a smaller one, and the neighbours of a document decide nothing.
    ids = {document.record_id for document in found if document.split == "test"}
    assert ids < {document.record_id for document in with_splits(half, tested=0.4) if document.split == "test"}
    assert {document.record_id for document in with_splits(half[:250], tested=0.2) if document.split == "test"} == {
        document.record_id for document in half[:250] if document.record_id in ids
    }


def test_a_share_to_test_on_is_of_no_account_where_there_is_a_test_set():
    for counts in ({"train": 50, "valid": 5, "test": 5}, {"train": 500, "test": 7}, {"test": 7}):
        documents = corpus("full", **counts)
        assert with_splits(documents, tested=0.3) == with_splits(documents)
    plain = [Document(f"p{at}", "a", dataset="p") for at in range(100)]
    assert with_splits(plain, tested=0.3) == with_splits(plain)


def test_train_alone_gives_both():
    counts = Counter(document.split for document in with_splits(corpus("only", train=500), 0.1, 0.2))
    assert 70 < counts["test"] < 130 and 20 < counts["valid"] < 70 and sum(counts.values()) == 500


def test_a_corpus_without_splits_is_cut_by_ids_alone():
    plain = [Document(f"p{at}", "a", dataset="p") for at in range(600)]
    found = {document.record_id: document.split for document in with_splits(plain)}
    assert {name: round(count / 600, 1) for name, count in Counter(found.values()).items()} == {
        "train": 0.8,
        "valid": 0.1,
        "test": 0.1,
    }
    assert all(found[document.record_id] == document.split for document in with_splits(plain[100:200]))


def test_corpora_do_not_touch_each_other_and_broken_documents_have_no_say():
    both = [
        *corpus("full", train=5, valid=5, test=5),
        *corpus("half", train=20, valid=5),
        Document("x", "", dataset="half", broken="b"),
    ]
    found = {(document.dataset, document.split) for document in with_splits(both)}
    assert ("full", "valid") in found and ("half", "test") in found and ("half", None) in found


def test_half_said_is_refused():
    with pytest.raises(ConfigError, match="some documents of p have a split and some have none"):
        with_splits([Document("a", "a", dataset="p"), Document("b", "a", dataset="p", split="train")])
