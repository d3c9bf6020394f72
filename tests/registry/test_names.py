import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import engine.models.site_classifier as site_classifier
from engine.registry import code_name, histologies, histology_name, is_site, site_name, sites

SHIPPED = Path(site_classifier.__file__).parent / "shipped"


@pytest.mark.parametrize(
    ("task", "code", "name"),
    [
        ("site", "C50", "breast"),
        ("histology", "8500/3", "invasive ductal carcinoma"),
        ("site", "C18;C50", "colon; breast"),
        ("site", "C18;C99", None),
        ("site", "8500/3", None),
        ("histology", "8247/3", None),
        ("grade", "C50", None),
        ("site", "", None),
        ("site", None, None),
    ],
)
def test_a_code_has_the_name_of_its_task_or_none(task, code, name):
    assert code_name(task, code) == name


def test_every_code_of_the_shipped_model_has_a_name():
    tasks = json.loads((SHIPPED / "labels.json").read_text(encoding="utf-8"))["tasks"]
    assert {task["name"] for task in tasks} == {"site", "histology"}
    assert [code for task in tasks for code in task["labels"] if code_name(task["name"], code) is None] == []


def test_there_are_the_70_categories_in_order():
    gaps = {27, 28, 29, 35, 36, 43, 45, 46, 59, 78, 79}
    existing = [f"C{n:02d}" for n in range(81) if n not in gaps]
    assert len(existing) == 70
    assert list(sites()) == existing


@pytest.mark.parametrize("code", ["C27", "C81", "C50.9", "c50", "", "50"])
def test_what_is_no_category_is_refused(code):
    assert not is_site(code)
    with pytest.raises(KeyError):
        site_name(code)


def test_names_are_short_and_tell_categories_apart():
    names = [site_name(code) for code in sites()]
    assert site_name("C50") == "breast"
    assert is_site("C50")
    assert len(set(names)) == 70
    assert all(0 < len(name) <= 40 for name in names)


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
