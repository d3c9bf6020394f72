"""What the regimes add to reports, on invented texts."""

import pytest

from engine.errors import ConfigError
from engine.studies.marked_sets import MarkedText, read_set
from engine.studies.regimes import TASK, Regime, Texts, _generated, origin
from tests.studies.marked import CELL, VESSEL, write_abstracts

A, B = "The cells died .", "New vessels grew ."


def count(texts):
    return [len(text.split()) for text in texts]


def one(record_id, split, labels, spans, text=f"{A} {B} That was all ."):
    return MarkedText(record_id, record_id, split, text, labels, spans, ())


def three():
    """One report of train with both labels, and a text each of valid and test."""
    return [
        one("t", "train", ("a", "b"), {"a": [(0, 16)], "b": [(0, 16), (17, 35)]}),
        one("v", "valid", ("a",), {"a": [(35, 50)]}),
        one("e", "test", ("b",), {"b": [(17, 35)]}),
    ]


@pytest.fixture
def texts(tmp_path):
    return Texts(read_set(f"{write_abstracts(tmp_path / 'set', 24)}/hoc.parquet").texts, True, 0.4, count)


@pytest.fixture
def many(tmp_path):
    return Texts(read_set(f"{write_abstracts(tmp_path / 'set', 36)}/hoc.parquet").texts, True, 1.0, count)


def single(label="a"):
    """Six reports of one label, two of another, and texts to hold back."""
    marked = [MarkedText(f"t{i}", f"t{i}", "train", f"Text {i} says so .", (label,), {label: [(0, 6)]}, ()) for i in range(6)]
    marked += [MarkedText(f"o{i}", f"o{i}", "train", f"Other {i} .", ("o",), {"o": [(0, 7)]}, ()) for i in range(2)]
    marked += [MarkedText(split, split, split, "Held .", ("o",), {}, ()) for split in ("valid", "test")]
    return Texts(marked, False, 1.0, count)


def training(texts, seed=1, **settings):
    return texts.training(Regime(**settings), seed, lambda: set())[0]


def few(texts, label, **settings):
    return training(texts, regime="few", classes=(label,), kept=2, **settings).to_pylist()


def test_a_rationale_teaches_every_label_that_its_parts_were_marked_for():
    texts = Texts(three(), True, 1.0, count)
    labels = dict(zip(texts.rationales["text"].to_pylist(), texts.rationales[TASK].to_pylist(), strict=True))
    # The first sentence was marked for both; the rationale of b touches nothing of a's but that.
    assert labels == {A: ["a", "b"], f"{A} {B}": ["a", "b"]}
    complements = texts.samples("complement", three())
    assert complements[TASK].to_pylist() == [["a", "b"], ["a", "b"]]
    assert [text.split() for text in complements["text"].to_pylist()] == [
        f"{B} That was all .".split(),
        ["That", "was", "all", "."],
    ]
    assert [text.split() for text in texts.complements["text"].to_pylist()] == [f"{A} That was all .".split()]


def test_every_regime_has_the_same_reports(texts):
    base = set(texts.base["record_id"].to_pylist())
    assert len(base) == 6 and not base & set(texts.pool["record_id"].to_pylist())
    noise = [{"regime": "shift", "amount": 2}, {"regime": "drop", "amount": 0.5}, {"regime": "swap", "amount": 1}]
    for settings in (*({"regime": name} for name in ("reports", "rationales", "extra", "complements", "label_only")), *noise):
        table = training(texts, **settings)
        ids = table["record_id"].to_pylist()
        assert base <= set(ids) and len(set(ids)) == len(ids) and table.schema == texts.base.schema
        assert (len(table) == len(texts.base)) == (settings["regime"] == "reports")


def test_extra_reports_are_as_many_as_the_rationales_or_their_tokens(texts):
    wanted = len(texts.rationales)
    assert 0 < wanted <= len(texts.pool) and len(training(texts, regime="extra")) - len(texts.base) == wanted
    tokens = sum(count(texts.rationales["text"].to_pylist()))
    base = set(texts.base["record_id"].to_pylist())
    rows = training(texts, regime="extra", tokens=True).to_pylist()
    used = sum(count([row["text"] for row in rows if row["record_id"] not in base]))
    assert 0 < used <= tokens < used + max(count(texts.pool["text"].to_pylist()))


def test_too_few_extra_reports_are_refused():
    said = [(f"t{number}", f"Cell {number} died .") for number in range(5)]
    marked = [one(name, "train", ("a",), {"a": [(0, 13)]}, f"{text} That was all .") for name, text in said]
    # Three reports give one rationale each, four words long; two texts of eight words are left.
    texts = Texts([*marked, *three()[1:]], False, 0.6, count)
    training(texts, regime="extra", tokens=True)
    with pytest.raises(ConfigError, match="extra reports need 3 texts and 2 are left"):
        training(texts, regime="extra")
    with pytest.raises(ConfigError, match="no text of valid"):
        Texts([each for each in three() if each.split != "valid"], True, 0.5, count)


def test_noise_changes_what_its_name_says_and_the_same_way_again(texts):
    plain = {row["record_id"]: row for row in texts.rationales.to_pylist()}

    def changed(**settings):
        table = training(texts, **settings)
        assert table.equals(training(texts, **settings))
        return {row["record_id"]: row for row in table.to_pylist() if row["kind"] == "rationale"}

    dropped = changed(regime="drop", amount=0.5)
    assert dropped.keys() == plain.keys()
    assert all(1 <= len(row["text"].split()) <= len(plain[name]["text"].split()) for name, row in dropped.items())
    assert any(row["text"] != plain[name]["text"] for name, row in dropped.items())
    replaced = changed(regime="replace", amount=1)
    assert all(len(row["text"].split()) == len(plain[name]["text"].split()) for name, row in replaced.items())
    swapped = changed(regime="swap", amount=1)
    assert all(row["text"] == plain[name]["text"] for name, row in swapped.items())
    assert all(row[TASK] != plain[name][TASK] for name, row in swapped.items() if len(plain[name][TASK]) == 1)
    shifted = {row["text"] for row in changed(regime="shift", amount=3).values()}
    assert shifted and shifted != {row["text"] for row in plain.values()}
    assert {row["text"] for row in changed(regime="label_only").values()} <= {CELL, VESSEL}


def test_an_end_moves_by_whole_words_and_no_further_than_it_may(texts):
    (each,) = (mark for mark in texts.marked if mark.record_id == sorted(texts.reports)[0])
    moved = texts._shifted(each, 2, 3)
    for label, spans in each.spans.items():
        for (a, b), (c, d) in zip(spans, moved.spans[label], strict=True):
            assert each.text[c:d] == each.text[c:d].strip() and c < d
            assert len(each.text[min(a, c) : max(a, c)].split()) <= 2 and len(each.text[min(b, d) : max(b, d)].split()) <= 2
    assert texts._shifted(texts.test[0], 2, 3) is texts.test[0]


def test_with_one_label_a_text_few_reports_are_left():
    texts = single()
    assert len(few(texts, "a")) == 2 + 2
    rows = few(texts, "a", added="rationales", amount=3)
    left = {row["record_id"] for row in rows if row["kind"] == "real"}
    samples = [row["record_id"] for row in rows if row["kind"] == "rationale"]
    assert len(samples) == 3 and not left & {origin(name)[0] for name in samples}
    assert len(few(texts, "a", added="reports", amount=3)) == 2 + 2 + 3 and len(few(texts, "a", added="reports")) == 8


def test_with_several_labels_a_text_answers_become_unknown(many):
    rows = few(many, CELL)
    assert len(rows) == len(many.base)
    assert sum(CELL in row[TASK] and CELL not in (row["unknown"] or ()) for row in rows) == 2
    rows = few(many, CELL, added="rationales", amount=4)
    samples = [row for row in rows if row["kind"] == "rationale"]
    assert 0 < len(samples) <= 4 and all(row["unknown"] == [VESSEL] for row in samples)
    assert not any(row["unknown"] for row in few(many, CELL, added="reports"))


def test_added_reports_of_some_sites_are_synthetic():
    texts = single("C15")
    rows = [row for row in few(texts, "C15", added="reports", amount=3, synthetic=("C15",)) if row["kind"] == "synthetic"]
    assert len(rows) == 3 and {row[TASK] for row in rows} == {"C15"}
    with pytest.raises(ConfigError, match="no synthetic report has the site X"):
        _generated(texts.base.schema, "X", 2, 1)
    with pytest.raises(ConfigError, match="no label 'C99'"):
        few(texts, "C99")


@pytest.mark.parametrize(
    "settings", [{"regime": "rationale"}, {"regime": "swap", "amount": 2}, {"regime": "shift"}, {"regime": "few"}]
)
def test_what_is_no_regime_is_refused(settings):
    with pytest.raises(ConfigError, match=r"data\.(regime|amount|added)"):
        Regime(**settings)
