import re

import pyarrow.parquet as pq

from engine.registry import histologies, histology_name


def test_codes_are_well_formed_sorted_and_named():
    codes = histologies()
    assert list(codes) == sorted(set(codes))
    assert all(re.fullmatch(r"[89]\d{3}/[0-3]", code) for code in codes)
    assert all(histology_name(code).strip() and histology_name(code) != code for code in codes)


def test_an_unknown_code_names_itself():
    assert "8247/3" not in histologies()
    assert histology_name("8247/3") == "8247/3"
    assert histology_name("8140/3") == "adenocarcinoma"


def test_every_histology_of_the_public_reports_has_a_name(shared_data):
    files = sorted((shared_data / "pathology_tcga").glob("*.parquet"))
    found = {code for file in files for code in pq.read_table(file, columns=["icdo3_histology"])[0].to_pylist() if code}
    assert len(found) > 70
    assert found <= set(histologies())
