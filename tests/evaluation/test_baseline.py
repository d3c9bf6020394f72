"""The baseline on a corpus where the word decides the class."""

import pytest

from engine.errors import ContractError
from engine.evaluation import baseline

TEXTS = ["carcinoma of the breast", "carcinoma of the lung", "tumour in the breast", "tumour in the lung"] * 4
LABELS = ["C50", "C34", "C50", "C34"] * 4


def test_words_decide():
    scored = baseline.fit_and_score(TEXTS, LABELS, ["breast biopsy", "lung lobe"])
    assert scored.predicted.tolist() == ["C50", "C34"]
    assert scored.codes.tolist() == ["C34", "C50"]
    assert scored.probabilities.sum(axis=1) == pytest.approx([1.0, 1.0])
    assert scored.prob.tolist() == scored.probabilities.max(axis=1).tolist()
    assert scored.converged


def test_figures_and_rows_scored_apart():
    figures = baseline.baseline_figures(
        TEXTS, LABELS, ["breast", "lung", "lung"], ["C50", "C34", "C50"], apart=[True, False, False]
    )
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["macro_f1"] == pytest.approx(2 / 3)  # C34: 1 hit of 1 gold, 2 called; C50: 1 hit of 2 gold, 1 called
    assert figures["flagged"]["n"] == 1 and figures["flagged"]["accuracy"] == 1.0
    assert figures["unflagged"]["n"] == 2 and figures["unflagged"]["accuracy"] == 0.5


def test_nothing_to_fit_on_is_refused():
    with pytest.raises(ContractError, match="to fit on"):
        baseline.fit_and_score([], [], ["x"])


@pytest.mark.long
def test_the_figures_of_the_real_reports(shared_data):
    """On the 718 labelled test reports of both tables the plain rival has the figures that our model is held against."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = ["split", "icdo3_topography_3", "text"]
    tables = [pq.read_table(path, columns=columns) for path in sorted((shared_data / "pathology_tcga").glob("*.parquet"))]
    rows = [row for row in pa.concat_tables(tables).to_pylist() if row["icdo3_topography_3"] is not None]
    train = [row for row in rows if row["split"] in ("train", "valid")]
    test = [row for row in rows if row["split"] == "test"]
    figures = baseline.baseline_figures(
        [row["text"] for row in train],
        [row["icdo3_topography_3"] for row in train],
        [row["text"] for row in test],
        [row["icdo3_topography_3"] for row in test],
    )
    assert figures["n"] == 718 and figures["converged"]
    assert figures["accuracy"] == pytest.approx(0.936, abs=0.002)
    assert figures["macro_f1"] == pytest.approx(0.730, abs=0.01)
    assert figures["keepable_share"] == pytest.approx(0.901, abs=0.005)


def test_a_few_texts_with_no_word_in_common_are_enough():
    found = baseline.fit_and_score(["colon polyp", "lung mass"], ["C18", "C34"], ["mass"])
    assert found.predicted.tolist() == ["C34"]
