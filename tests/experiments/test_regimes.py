import pytest

from engine.errors import ConfigError
from engine.experiments.rationale_sets import TASK, Marked, read_marked
from engine.experiments.regimes import BASE, Regime, Texts, origin
from engine.experiments.sufficiency import rule
from tests.experiments.marked import CELL, VESSEL, write_abstracts

A, B = "The cells died .", "New vessels grew ."


def count(texts):
    return [len(text.split()) for text in texts]


def one(record_id, split, labels, spans, text=f"{A} {B} That was all ."):
    return Marked(record_id, record_id, split, text, labels, spans, ())


def three():
    """One report of train with both labels, and a text each of valid and test."""
    return [
        one("t", "train", ("a", "b"), {"a": [(0, 16)], "b": [(0, 16), (17, 35)]}),
        one("v", "valid", ("a",), {"a": [(35, 50)]}),
        one("e", "test", ("b",), {"b": [(17, 35)]}),
    ]


@pytest.fixture
def texts(tmp_path):
    return Texts(read_marked(write_abstracts(tmp_path / "set", 24)), True, 0.4, count)


def test_names_of_regimes():
    assert Regime.of("ratio.0.25") == Regime("ratio", 0.25)
    assert Regime.of("filter.random.top.0.25").rule == rule("random(top(0.25))")
    assert Regime.of("filter.drop_wrong").rule == rule("drop_wrong")
    for name in ("rationale", "ratio", "ratio.x", "swap.2", "shift.0", "reports.1"):
        with pytest.raises(ConfigError, match="regimes"):
            Regime.of(name)
    with pytest.raises(ConfigError, match=r"frozen encoder do not change.*learn\.marking"):
        Regime.of("marking")
    with pytest.raises(ConfigError, match="is no rule"):
        Regime.of("filter.best")


def test_a_rationale_teaches_every_label_that_its_parts_were_marked_for():
    found = Texts(three(), True, 1.0, count).rationales
    told = dict(zip(found["text"].to_pylist(), found[TASK].to_pylist(), strict=True))
    # The first sentence was marked for both; the rationale of b touches nothing of a's but that.
    assert told == {A: ["a", "b"], f"{A} {B}": ["a", "b"]}
    complements = Texts(three(), True, 1.0, count).samples("complement", three())
    assert complements[TASK].to_pylist() == [["a", "b"], ["a", "b"]]
    assert [text.split() for text in complements["text"].to_pylist()] == [
        f"{B} That was all .".split(),
        ["That", "was", "all", "."],
    ]


def test_the_rest_of_a_test_text_has_nothing_marked_in_it():
    held = Texts(three(), True, 1.0, count).held
    rest = held.filter([kind == "rest" for kind in held["kind"].to_pylist()]).to_pylist()
    assert [(row["record_id"], row["split"], row["text"].split()) for row in rest] == [
        ("e#rest", "rest", f"{A} That was all .".split())
    ]


def test_every_regime_has_the_same_reports_and_held_texts(texts):
    base = set(texts.base["record_id"].to_pylist())
    assert len(base) == 6 and not base & set(texts.pool["record_id"].to_pylist())
    for name in ("reports", "rationales", "extra", "extra.tokens", "complements", "shift.2", "drop.0.5", "swap.1"):
        table = texts.of(Regime.of(name), 1)
        ids = table["record_id"].to_pylist()
        assert base <= set(ids) and len(set(ids)) == len(ids)
        assert table.schema == texts.base.schema
        assert (len(table) == len(texts.base) + len(texts.held)) == (name == BASE)


def test_more_reports_are_as_many_as_the_rationales_or_their_tokens(texts):
    wanted = len(texts.rationales)
    own = texts.of(Regime.of("extra"), 1)
    assert 0 < wanted <= len(texts.pool)
    assert len(own) - len(texts.base) - len(texts.held) == wanted
    tokens = sum(count(texts.rationales["text"].to_pylist()))
    names = set(texts.base["record_id"].to_pylist()) | set(texts.held["record_id"].to_pylist())
    table = texts.of(Regime.of("extra.tokens"), 1).to_pylist()
    used = sum(count([row["text"] for row in table if row["record_id"] not in names]))
    assert 0 < used <= tokens < used + max(count(texts.pool["text"].to_pylist()))


def test_too_few_more_reports_are_told_before_a_training():
    said = [(f"t{number}", f"Cell {number} died .") for number in range(5)]
    marked = [one(name, "train", ("a",), {"a": [(0, 13)]}, f"{text} That was all .") for name, text in said]
    texts = Texts([*marked, *three()[1:]], False, 0.6, count)
    # Three reports give one rationale each, four words long; two texts of eight words are left.
    regimes = [Regime.of(name) for name in ("reports", "rationales", "extra.tokens")]
    texts.enough(regimes)
    assert (len(texts.rationales), len(texts.pool)) == (3, 2)
    with pytest.raises(ConfigError, match=r"grid\.share: extra wants 3 texts of more reports.*and 2 are left"):
        texts.enough([*regimes, Regime.of("extra")])
    long = Texts([*marked, *three()[1:]], False, 0.8, count)
    with pytest.raises(ConfigError, match=r"extra\.tokens wants \d+ tokens"):
        long.enough(regimes)


def test_noise_changes_what_its_name_says_and_the_same_way_again(texts):
    plain = dict(zip(texts.rationales["record_id"].to_pylist(), texts.rationales.to_pylist(), strict=True))

    def changed(name, seed=1):
        found = texts.of(Regime.of(name), seed)
        assert found.equals(texts.of(Regime.of(name), seed))
        return {row["record_id"]: row for row in found.to_pylist() if row["kind"] == "rationale"}

    dropped = changed("drop.0.5")
    assert dropped.keys() == plain.keys()
    assert all(1 <= len(row["text"].split()) <= len(plain[name]["text"].split()) for name, row in dropped.items())
    assert any(row["text"] != plain[name]["text"] for name, row in dropped.items())
    replaced = changed("replace.1")
    assert all(len(row["text"].split()) == len(plain[name]["text"].split()) for name, row in replaced.items())
    swapped = changed("swap.1")
    assert all(
        row[TASK] != plain[name][TASK] and len(row[TASK]) == 1 for name, row in swapped.items() if len(plain[name][TASK]) == 1
    )
    assert all(row["text"] == plain[name]["text"] for name, row in swapped.items())
    shifted = {row["text"] for row in changed("shift.3").values()}
    assert shifted and shifted != {row["text"] for row in plain.values()}
    named = {row["text"] for row in changed("label_only").values()}
    assert named <= {CELL, VESSEL}


def test_an_end_moves_by_whole_words_and_no_further_than_told(texts):
    (each,) = (mark for mark in texts.marked if mark.record_id == sorted(texts.reports)[0])
    moved = texts._shifted(each, 2, 3)
    for label, spans in each.spans.items():
        for (a, b), (c, d) in zip(spans, moved.spans[label], strict=True):
            assert each.text[c:d] == each.text[c:d].strip() and c < d
            assert len(each.text[min(a, c) : max(a, c)].split()) <= 2 and len(each.text[min(b, d) : max(b, d)].split()) <= 2
    other = next(mark for mark in texts.marked if mark.split == "test")
    assert texts._shifted(other, 2, 3) is other


def test_a_sample_names_its_report():
    assert origin("a#b#rationale12") == ("a#b", 12)


def test_a_set_without_a_split_is_refused():
    with pytest.raises(ConfigError, match="no text of valid"):
        Texts([each for each in three() if each.split != "valid"], True, 0.5, count)
