"""What every system promises to all that is done with it, asked of each that a name in conf/model stands for, and of a toy that
reads images."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from engine.benchmarks.gpu_check import answer_of, key_of
from engine.errors import ConfigError, ContractError
from engine.models.base import ModelSpec, load, module_of, systems
from engine.models.checkpoint import shipped
from engine.models.findings.decide import FindingCalibration
from engine.models.options import options_of, reads_of, without_evidence
from engine.models.rows import answers_schema, nan_rows
from engine.models.run import answer, prepare, records_of
from engine.records import AUTO, FINDINGS, IMAGES
from tests.radiographs import SYSTEM as CLEAR
from tests.toys import seen

FILES = sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
SYSTEMS = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))["system"] for file in FILES}
TEXTS = {
    "breast": "Left breast, mastectomy. Final diagnosis: invasive ductal carcinoma, grade 2, 2.1 cm; margins are free.",
    "drug": "She was given tamoxifen for breast cancer with metastases in the liver.",
    "short": "头痛",
    "long": "Colon, sigmoid: adenocarcinoma of the colon 😀 pT3 N1.\r\n" * 10,
    "silent": "\x00\x01",
    "blank": " \n",
}
SOUND = [0, 1, 2, 3]
TOY = "tests.toys.seen"
# The checkpoints of systems that come without one.
PATHS = {}


@pytest.fixture(scope="module")
def records(package, radiographs):
    """The texts; or studies of radiographs like them, four that can be read, one of two images, and two that cannot."""
    if reads_of(package) != IMAGES:
        return records_of(TEXTS, TEXTS.values())
    one, other, third = radiographs.images(3)
    dark = seen.picture((0, 0, 8, 30), size=(90, 70))
    return seen.studies(one=[one], dark=[dark], other=[other], two=[third, dark], broken=[b"?"], none=[])


def spec(package, path=None, **options):
    path = path or PATHS.get(package, "shipped")
    return ModelSpec(package, path, {"precision": "fp32", "deterministic": True, **options}, {"threads": 1})


@pytest.fixture(scope="module", autouse=True)
def checkpoints(radiographs, tmp_path_factory):
    bounds = {name: FindingCalibration(threshold=0.5, lower=0.3, upper=0.7) for name in seen.NAMES}
    PATHS[TOY] = str(seen.write(tmp_path_factory.mktemp("seen") / "model", bounds))
    PATHS[CLEAR] = radiographs.serving


@pytest.fixture(scope="module", params=[*SYSTEMS.values(), TOY], ids=[*SYSTEMS, "seen"])
def package(request):
    return request.param


@pytest.fixture(scope="module")
def system(package):
    return load(spec(package))


@pytest.fixture(scope="module")
def prepared(system, records):
    return prepare(system, records)[1]


@pytest.fixture(scope="module")
def scores(system, prepared):
    return system.scores(prepared)


@pytest.fixture(scope="module")
def coded(system, prepared):
    return system.run(prepared)


def by_row(table):
    return {row["row"]: row for row in table.to_pylist()}


def test_every_system_that_comes_along_has_a_name_and_says_what_it_fills(package):
    assert set(systems()) == set(SYSTEMS.values())
    system, module = load(spec(package)), importlib.import_module(package)
    assert (module.TABLE, reads_of(package)) == (system.table, system.reads)
    assert package == TOY or systems()[package] == system.table
    assert package in PATHS or shipped(package).is_dir()
    own = {"max_pixels", "max_frames"} if system.reads == IMAGES else {"max_tokens"}
    assert own | {"precision", "deterministic"} <= set(options_of(package).__dataclass_fields__)


def test_importing_it_takes_neither_torch_nor_ray(package):
    code = f"import sys, {package} as p; p.TABLE, p.Options, p.load; print({{'torch', 'ray'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "set()"), done.stderr


def test_what_is_prepared_is_every_record_once_and_has_no_text(system, records):
    table = system.prepare(records.filter(records["failure"].is_null()))
    kinds = {row["row"]: row["failure"] and row["failure"]["kind"] for row in table.to_pylist()}
    broken = {4: "not_an_image", 5: "missing_image"} if system.reads == IMAGES else {4: "missing_text"}
    assert kinds == {**dict.fromkeys(SOUND), **broken}
    assert not any(pa.types.is_large_string(field.type) for field in table.schema)


def test_run_and_scores_have_a_row_for_each_prepared_row(system, prepared, scores, coded):
    assert sorted(prepared["row"].to_pylist()) == SOUND
    assert sorted(scores["row"].to_pylist()) == sorted(coded["row"].to_pylist()) == SOUND
    assert set(answers_schema(system.fields()).names) <= set(coded.column_names)
    coded.select(answers_schema(system.fields()).names).cast(answers_schema(system.fields()))
    assert len(scores.column_names) > 1 and not nan_rows(scores) and not nan_rows(coded)


def test_answers_go_by_row_and_not_by_place(system, prepared, scores, coded):
    backward = prepared.take(list(range(len(prepared)))[::-1])
    assert by_row(system.scores(backward)) == by_row(scores)
    assert by_row(system.run(backward)) == by_row(coded)


def test_no_records_give_empty_tables_of_the_same_columns(system, records, scores, coded):
    nothing = system.prepare(records.slice(0, 0))
    for found, table in ((system.scores(nothing), scores), (system.run(nothing), coded)):
        assert len(found) == 0 and found.schema.equals(table.schema)


def test_it_answers_what_it_knows_and_auto_is_of_that(system, coded):
    known, auto = system.known(), system.auto()
    assert known and all(answers and len(set(answers)) == len(answers) for answers in known.values())
    assert all(set(answers) <= set(known[name]) for name, answers in auto.items())
    for row in coded.to_pylist():
        for name, answers in known.items():
            if name == FINDINGS:
                said = [each["name"] for each in row["labels"] if each["pred"]]
            else:
                said = [each["type"] for each in row[name]] if name in row else row[f"{name}_code"].split(";")
            assert set(said) <= set(answers)
            if name in auto and row["decision"] == AUTO and row.get(f"{name}_decision", AUTO) == AUTO:
                assert set(said) <= set(auto[name])


def test_evidence_lies_within_what_was_read(package, system, prepared):
    if system.reads != IMAGES:
        pytest.skip("spans of texts are asked of each system by itself")
    # At this threshold every finding is positive, and has evidence unless all its scores are 0.
    open_to_all = load(spec(package, thresholds=dict.fromkeys(system.names, 0.0)))
    for row in open_to_all.run(prepared).to_pylist():
        assert {region["label"] for region in row["evidence"]} <= set(system.names) and row["evidence"]
        for region in row["evidence"]:
            image = row["images"][region["image"]]
            assert 0 <= region["x0"] < region["x1"] <= image["width"]
            assert 0 <= region["y0"] < region["y1"] <= image["height"]


def test_limits_tell_of_reasons_in_one_line_each(system):
    assert all("\n" not in line and line.endswith(".") for line in system.limits().values())


def test_an_option_that_there_is_not_is_refused_in_one_line(package):
    with pytest.raises(ConfigError, match=r"^model: unknown options no_such_option[^\n]*$"):
        load(spec(package, no_such_option=1))


def test_a_model_of_another_system_is_refused_in_one_line(package):
    others = [other for other in SYSTEMS.values() if other != package]
    assert others
    for other in others:
        told = rf"^model\.system: .* is a model of {other} and not of {package}; set model\.system={other}$"
        with pytest.raises(ConfigError, match=told):
            load(spec(package, PATHS.get(other) or str(shipped(other))))


def test_a_folder_that_is_no_checkpoint_is_refused(package, tmp_path):
    with pytest.raises(ConfigError, match="is no checkpoint folder"):
        load(spec(package, str(tmp_path)))


def test_not_a_number_is_no_answer(package, prepared):
    broken = load(spec(package))
    with torch.no_grad():
        for name, value in broken.network.named_parameters():
            if "encoder" not in name:
                value.fill_(np.nan)
    try:
        found = answer(broken, prepared, pa.schema([]))
    except ContractError as error:
        assert "the model fails on any record" in str(error)
    else:
        assert {failure and failure["kind"] for failure in found["failure"].to_pylist()} == {"model_error"}


def test_what_it_asks_of_a_gpu_holds_here(package, prepared, coded):
    own = module_of(package, "gpu_check")
    plain = load(without_evidence(spec(package)))
    if hasattr(own, "unsure"):
        few = prepared.slice(0, 3)
        never, always = (own.unsure(plain, few, by) for by in (0.0, 0.999))
        rows = {row: values for row, values in by_row(coded).items() if row in always}
        assert set(never) == set(always) == set(few["row"].to_pylist()) == set(rows)
        assert any(always.values()) and not any(never.values())
        # With every probability open, so is every answer that a probability decides.
        for row, keys in always.items():
            answers = set(answer_of(rows[row])[0])
            assert {key for key in answers if isinstance(key, tuple)} <= set(map(key_of, keys))
            assert {key for key in map(key_of, keys) if isinstance(key, str)} <= answers
    if hasattr(own, "extra"):
        checks = own.extra(plain, prepared.slice(0, 3))
        assert checks and all(checks.values()), checks
