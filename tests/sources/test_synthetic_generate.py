import hashlib
import statistics
from collections import Counter
from itertools import pairwise

import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.registry import sites
from engine.sources.synthetic import SCHEMA, Settings, generate, vocabulary
from engine.sources.synthetic.generate import block


@pytest.fixture(scope="module")
def uniform() -> list[dict]:
    return generate(6000, 11, skew="uniform").to_pylist()


def phrases_of(row: dict, column: str) -> list[str]:
    return [row["text"][span["start"] : span["end"]] for span in row[column]]


def test_the_same_seed_gives_the_same_table():
    table = generate(300, 5)
    assert table.schema == SCHEMA
    assert table.equals(generate(300, 5))
    assert not table["text"].equals(generate(300, 6)["text"])


def test_a_longer_corpus_begins_with_a_shorter_one_and_any_stretch_can_be_made_alone():
    whole = generate(400, 5, broken=0.05)
    assert generate(150, 5, broken=0.05).equals(whole.slice(0, 150))
    assert generate(250, 5, start=150, broken=0.05).equals(whole.slice(150))
    parts = [block(Settings(5, broken=0.05), at, 100) for at in (300, 0, 200, 100)]
    assert pa.concat_tables([parts[1], parts[3], parts[2], parts[0]]).combine_chunks().equals(whole.combine_chunks())


def test_a_record_is_the_same_wherever_it_is_made():
    """A fixed record: fails when words, templates or the use of chance change. Then raise EDITION in generate.py as well."""
    row = generate(1, 7, start=4242).to_pylist()[0]
    assert row["record_id"] == "syn-7-00004242" and row["patient_id"] == "pat-7-00004242"
    assert (row["site"], row["histology"]) == ("C25", "8500/3")
    assert hashlib.sha256(row["text"].encode()).hexdigest()[:16] == "96734731379a960d"


def test_every_category_occurs_and_sex_fits(uniform):
    counts = Counter(row["site"] for row in uniform)
    assert set(counts) == set(sites())
    assert min(counts.values()) > 40 and max(counts.values()) < 140  # 6000 / 70 = 86 on average


def test_evidence_is_a_term_of_the_site_and_a_phrase_of_the_histology(uniform):
    terms = {site.code: {term.lower() for term in site.terms} for site in vocabulary.sites()}
    for row in uniform:
        site, histology = phrases_of(row, "evidence_site"), phrases_of(row, "evidence_histology")
        assert site and histology
        assert {phrase.lower() for phrase in site} <= terms[row["site"]]
        known = {word.lower() for word in vocabulary.phrases_for(row["histology"], row["site"]).words}
        assert {phrase.lower() for phrase in histology} <= known


def test_offsets_count_code_points_before_which_others_stand(uniform):
    rows = [row for row in uniform if row["style"] == "unicode"]
    assert any(len(row["text"][: row["evidence_site"][0]["start"]].encode()) > row["evidence_site"][0]["start"] for row in rows)


def test_spans_do_not_overlap_and_stand_in_order(uniform):
    for row in uniform:
        for column in ("evidence_site", "evidence_histology"):
            spans = [(span["start"], span["end"]) for span in row[column]]
            assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_the_registry_skew_makes_common_cancers_common():
    counts = Counter(generate(8000, 3)["site"].to_pylist())
    weights = {site.code: site.weight for site in vocabulary.sites()}
    assert {code for code, _ in counts.most_common(4)} == {"C50", "C61", "C34", "C18"}
    for code in ("C50", "C18", "C73"):
        expected = 8000 * weights[code] / sum(weights.values())
        assert counts[code] == pytest.approx(expected, abs=4 * expected**0.5)
    assert counts["C33"] + counts["C37"] < 40


def test_patients_have_one_site_and_one_split():
    rows = generate(4000, 9).to_pylist()
    patients: dict[str, set] = {}
    for row in rows:
        patients.setdefault(row["patient_id"], set()).add((row["site"], row["histology"], row["split"], row["facility"]))
    assert len(patients) == 3500  # every eighth record is a second report
    assert all(len(found) == 1 for found in patients.values())
    assert len({row["text"] for row in rows}) > 3990
    shares = Counter(row["split"] for row in rows)
    assert 0.76 < shares["train"] / 4000 < 0.84 and 0.07 < shares["valid"] / 4000 < 0.13 and shares["test"] > 280


@pytest.mark.parametrize("median", [60, 120, 800])
def test_the_median_length_is_about_what_was_asked(median):
    words = [len(text.split()) for text in generate(600, 2, median_words=median)["text"].to_pylist()]
    assert statistics.median(words) == pytest.approx(median, rel=0.12)


def test_length_spreads_as_asked():
    narrow = [len(t.split()) for t in generate(300, 2, median_words=400, sigma=0.0)["text"].to_pylist()]
    wide = [len(t.split()) for t in generate(300, 2, median_words=400, sigma=1.0)["text"].to_pylist()]
    assert max(narrow) < 480 and min(narrow) > 320
    assert max(wide) > 1200 and min(wide) < 130


def test_a_metastasis_names_its_primary_and_where_it_was_found():
    rows = [row for row in generate(2000, 4).to_pylist() if "metastatic from known primary" in row["text"].lower()]
    assert rows
    for row in rows:
        assert row["evidence_site"] and row["style"] != "synoptic"


def test_no_records_is_an_empty_table():
    assert generate(0, 1).equals(SCHEMA.empty_table())


@pytest.mark.parametrize(
    ("wrong", "named"),
    [({"seed": -1}, "seed"), ({"skew": "even"}, "skew"), ({"broken": 0.9}, "broken"), ({"median_words": 1}, "text.median_words")],
)
def test_a_wrong_setting_is_refused_by_name(wrong, named):
    with pytest.raises(ConfigError, match=named):
        Settings(**{"seed": 1, **wrong})
