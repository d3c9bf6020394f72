"""The plain loop: the rows of a few texts are those that the job writes, and Ray is not needed for them."""

import json
import subprocess
import sys
import weakref
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from engine.errors import ConfigError
from engine.models import run
from engine.models.base import ModelSpec, load
from engine.models.run import rows
from engine.pipeline import ClusterConfig, RunConfig
from engine.sources import InputConfig
from tests.models.conftest import TEXTS
from tests.models.prompt_mrc.conftest import World, taught, tiny_learner, write
from tests.pipeline.conftest import Bench, write_input
from tests.toys import plain

FAILING = {"empty": "", "blank": " \n", "silent": "\x00\x01"}
REPORTS = {f"r{number}": text for number, text in enumerate(TEXTS)} | FAILING


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extractor")
    learner = tiny_learner()
    taught(learner, folder)
    return write(learner, folder / "model")


def written(tmp_path, system, model, options, texts):
    """The table that a job writes for some texts, two files of them, in the order of the texts."""
    names = list(texts)
    for part in range(2):
        write_input(tmp_path / "in" / f"{part}.jsonl", {name: texts[name] for name in names[part::2]})
    spec = ModelSpec(system, str(model), options, {"threads": 1})
    bench = Bench(RunConfig(InputConfig(str(tmp_path / "in"), id="id"), spec, str(tmp_path / "out"), ClusterConfig()))
    bench.code()
    bench.publish()
    table = pa.concat_tables(pq.read_table(path) for path in sorted((tmp_path / "out" / bench.system.table).glob("*.parquet")))
    order = table["record_id"].to_pylist()
    return table.take([order.index(name) for name in names])


def same(table, job):
    """Whether two tables are alike but for where the records came from."""
    apart = ["source", "position", "run_id"]
    assert table.schema.equals(job.schema)
    return table.drop_columns(apart).to_pylist() == job.drop_columns(apart).to_pylist()


def test_codes_are_those_that_the_job_writes(tmp_path, tiny):
    options = {"precision": "fp32", "deterministic": True, "checks": 0.5}
    table = rows(REPORTS, model=str(tiny), options=options, runtime={"threads": 1})
    assert same(table, written(tmp_path, "engine.models.site_classifier", tiny, options, REPORTS))
    found = {row["record_id"]: row for row in table.to_pylist()}
    assert list(found) == list(REPORTS)
    assert {name: row["failure"]["kind"] for name, row in found.items() if row["failure"]} == dict.fromkeys(
        FAILING, "missing_text"
    )
    assert found["r0"]["site_evidence"] and found["r0"]["site_name"]
    assert any(row["site_comprehensiveness"] is not None for row in found.values())


def test_entities_are_those_that_the_job_writes(tmp_path, extractor):
    options = {"precision": "fp32", "deterministic": True}
    texts = {f"r{number}": text for number, text in enumerate(World.make(6, seed=5).texts)} | FAILING
    table = rows(texts, model=str(extractor), options=options, runtime={"threads": 1})
    assert same(table, written(tmp_path, "engine.models.prompt_mrc", extractor, options, texts))
    assert sum(len(found or ()) for found in table["entities"].to_pylist()) > 6


def test_without_options_a_system_has_the_defaults_of_its_job():
    from engine.keys import build
    from jobs._run import run_config, schema

    for path in sorted((Path(__file__).parents[2] / "conf" / "model").glob("*.yaml")):
        model = yaml.safe_load(path.read_text(encoding="utf-8"))
        values = {"input": {"path": "in"}, "output": {"path": "out"}, "model": model}
        spec = run_config(build(schema(model["system"]), values)).model
        assert load(ModelSpec(spec.system, spec.path)).options == load(spec).options


def test_ids_and_texts_that_are_none_are_failed_rows(tiny):
    texts = {"a": None, "b": "colon \ud800", " ": "colon", "c": "x" * 5_000_000}
    found = rows(texts, model=str(tiny), options={"method": "none"})
    assert [row["failure"]["kind"] for row in found.to_pylist()] == [
        "missing_text",
        "invalid_encoding",
        "parse_error",
        "too_large",
    ]


def test_no_text_gives_a_table_without_rows(tiny):
    assert rows({}, model=str(tiny)).num_rows == 0


def test_findings_are_those_of_images_by_path_or_by_bytes(radiographs, tmp_path):
    one, other = radiographs.images(2)
    (tmp_path / "a.png").write_bytes(one)
    options = {"precision": "fp32", "deterministic": True}
    given = {"path": tmp_path / "a.png", "bytes": one, "two": [str(tmp_path / "a.png"), other]}
    given |= {"gone": str(tmp_path / "b.png"), "none": None, "half": [one, tmp_path / "b.png"], "text": b"no image"}
    found = rows(given, system=radiographs.system, model=radiographs.serving, options=options, runtime={"threads": 1})
    found = {row["record_id"]: row for row in found.to_pylist()}
    assert list(found) == list(given)
    kinds = {name: row["failure"]["kind"] for name, row in found.items() if row["failure"]}
    assert kinds == {**dict.fromkeys(("gone", "none", "half"), "missing_image"), "text": "not_an_image"}
    assert found["path"]["labels"] == found["bytes"]["labels"] != found["two"]["labels"]
    assert [image["source"] for image in found["two"]["images"]] == ["a.png", "two/1"]


def test_what_is_no_mapping_is_refused():
    with pytest.raises(ConfigError, match="give ids with their texts"):
        rows(["colon"])


def test_without_a_system_and_a_model_the_codes_of_the_one_that_comes_along(monkeypatch):
    asked = []
    monkeypatch.setattr(run, "system_of", lambda spec: asked.append(spec) or (_ for _ in ()).throw(ConfigError("enough")))
    for given in ({}, {"system": "engine.models.prompt_mrc"}):
        with pytest.raises(ConfigError, match="enough"):
            rows({"a": "colon"}, **given)
    assert [spec.system for spec in asked] == ["engine.models.site_classifier", "engine.models.prompt_mrc"]


@pytest.mark.parametrize("known", [{}, {"engine.models.site_classifier": "codes", "engine.models.prompt_mrc": "codes"}])
def test_where_codes_could_come_of_several_systems_one_must_be_named(monkeypatch, known):
    monkeypatch.setattr(run, "systems", lambda: known)
    with pytest.raises(ConfigError, match=f"^system: name one; .* are: {', '.join(known) or 'none'}$"):
        rows({"a": "colon"})


def test_a_model_is_loaded_once(tiny, monkeypatch):
    loaded = []
    monkeypatch.setattr(run, "_systems", {})
    monkeypatch.setattr(run, "load", lambda spec: loaded.append(spec) or load(spec))
    for _ in range(2):
        rows({"a": "colon"}, model=str(tiny), options={"method": "none"})
    rows({"a": "colon"}, model=str(tiny), options={"method": "none", "min_support": 3})
    assert len(loaded) == 2


def test_ray_is_not_imported(tiny):
    code = (
        "import json, sys\n"
        "from engine.models.run import rows\n"
        f"table = rows({{'a': 'colon'}}, model={str(tiny)!r})\n"
        "print(json.dumps([table['decision'][0].as_py(), 'ray' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    decision, has_ray = json.loads(done.stdout)
    assert decision in ("auto", "review") and not has_ray


def test_what_ran_out_of_memory_lets_go_of_it_before_the_next_try():
    class Held: ...

    alive = []

    class Greedy(plain.Plain):
        def run(self, prepared):
            assert not any(each() for each in alive)
            held = Held()
            alive.append(weakref.ref(held))
            if prepared.num_rows > 1 or "endless" in prepared["record_id"].to_pylist():
                raise MemoryError
            return super().run(prepared)

    records = run.records_of(["a", "b", "endless"], ["one", "two", "three"])
    made = Greedy(ModelSpec("tests.toys.plain"))
    found = {row["row"]: row for row in run.answer(made, run.prepare(made, records)[1], pa.schema([])).to_pylist()}
    assert [found[row]["failure"] for row in range(3)] == [None, None, {"kind": "out_of_memory", "detail": "MemoryError"}]
    # The three, the harmless record, two and one of them, and then each alone.
    assert len(alive) == 6


def test_of_several_systems_that_come_along_the_default_fills_a_table(monkeypatch, tmp_path):
    monkeypatch.setattr(run.checkpoint, "shipped", lambda name: tmp_path)
    monkeypatch.setattr(run, "systems", lambda: {"tests.toys.plain": "codes", "tests.toys.mean": "codes"})
    with pytest.raises(
        ConfigError, match=r"^system: name one; those that fill the table codes are: tests.toys.plain, tests.toys"
    ):
        run.shipped_system("codes")
    monkeypatch.setattr("tests.toys.mean.DEFAULT", True, raising=False)
    assert run.shipped_system("codes") == "tests.toys.mean"
    monkeypatch.setattr(run, "systems", lambda: {"tests.toys.plain": "codes"})
    assert run.shipped_system("codes") == "tests.toys.plain"
