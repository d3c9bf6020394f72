import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from engine.errors import ConfigError, ContractError
from engine.explain.explanation import OTHER_ANSWER
from engine.explain.methods import known_methods
from engine.explain.settings import METHOD_NAMES
from engine.models import run
from engine.models.answered import draw, sample_below
from engine.models.base import ModelSpec
from engine.models.explanations import load
from engine.models.site_classifier.attributable import SiteExplainable
from engine.records import AUTO, NOT_APPLICABLE, REVIEW
from tests.models.conftest import TASKS, TEXTS, coded, coder, records, tiny_config, write_tiny

SHORT = [TEXTS[0], TEXTS[1], "Prostate needle biopsy. " * 14, "x"]
QUICK = {"steps": 30, "samples": 20, "perturbations": 2}
NO_KEEP = pa.schema([])
COLUMNS = ["record_id", "decision", "source", "position", "text_sha256", "site_code", "histology_code"]


def write_answers(path, model, texts, **changes):
    """The table of a run over `texts`, with the ids that `records` gives; `changes` are column -> row -> value."""
    table = records(texts).select(["record_id", "source", "position"]).to_pylist()
    rows = [{**about, **row} for about, row in zip(table, coded(coder(model, method="none"), texts), strict=True)]
    for column, values in changes.items():
        for row, value in values.items():
            rows[row][column] = value
    types = {"position": pa.int64(), "text_sha256": pa.binary(32)}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    pq.write_table(pa.Table.from_pylist([{n: row[n] for n in COLUMNS} for row in rows], schema=schema), path, row_group_size=2)
    return str(path)


# Those of the site classifier; `global` is the tagger's own.
METHODS = [name for name in METHOD_NAMES if name != "global"]


@pytest.fixture(scope="module")
def answers(tiny, tmp_path_factory):
    return write_answers(tmp_path_factory.mktemp("answers") / "0001-0000.parquet", tiny, SHORT)


def system(folder, answers, runtime=None, **options):
    values = {
        "run": "abc",
        "of": "engine.models.site_classifier",
        "faithfulness": 0.0,
        "stability": 0.0,
        **QUICK,
        **options,
    }
    spec = ModelSpec("", str(folder), values, {"answers": [answers], **(runtime or {})})
    return load(spec)


def explained(made, texts=SHORT):
    """Rows by record as the pipeline makes them: (meta failures, answers)."""
    meta, prepared = run.prepare(made, records(texts))
    failed = {row["row"]: row["failure"] for row in meta.to_pylist() if row["failure"]}
    return failed, {row["row"]: row for row in run.answer(made, prepared, NO_KEEP).to_pylist()}


def test_the_methods_are_those_of_the_model(tiny):
    assert set(METHODS) == set(known_methods(SiteExplainable(coder(tiny, method="none"), "site")))


def test_a_method_that_the_head_has_not_is_refused_before_any_work(tmp_path, answers):
    folder = write_tiny(tmp_path / "model", tiny_config(head="cls"))
    with pytest.raises(ConfigError, match=r"explain\.method: the head 'cls' has no 'pooling'; it has integrated_gradients"):
        system(folder, answers, method="pooling")
    assert system(folder, answers, method="attention").options.method == "attention"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_one_row_a_record_with_units_in_its_text(tiny, answers, method):
    failed, rows = explained(system(tiny, answers, method=method, faithfulness=1.0, stability=1.0))
    assert failed == {} and sorted(rows) == [0, 1, 2, 3]
    given = {row["record_id"]: row for row in pq.read_table(answers).to_pylist()}
    for index, text in enumerate(SHORT):
        row, run = rows[index], given[f"r{index}"]
        assert (row["failure"], row["method"], row["coded_run"]) == (None, method, "abc")
        assert row["text_sha256"] == run["text_sha256"] and row["faithfulness_sampled"] and row["stability_sampled"]
        assert [t["target_name"] for t in row["targets"]] == [run["site_code"], run["histology_code"]]
        assert row["decision"] == (AUTO if all(t["status"] == "ok" for t in row["targets"]) else REVIEW)
        for target in row["targets"]:
            assert target["target_source"] == "predicted" and target["unit_kind"] == "word"
            assert target["units_total"] == len(target["units"]) > 0 and target["weight_dropped"] == 0
            assert all(text[u["start"] : u["end"]].strip() == text[u["start"] : u["end"]] != "" for u in target["units"])
            assert target["n_perturb"] == 2
            if target["status"] == "ok":
                assert sum(u["weight"] for u in target["units"]) == pytest.approx(1, abs=1e-5)
                assert target["selected_spans"] and target["m_comp_aopc"] is not None and target["m_random_comp"] is not None
            assert isinstance(json.loads(target["method_params"]), dict)


@pytest.mark.parametrize("method", ["integrated_gradients", "fused", "lime"])
def test_a_record_is_explained_the_same_whatever_stands_beside_it(tiny, answers, method):
    options = {"method": method, "faithfulness": 1.0, "stability": 1.0}
    _, together = explained(system(tiny, answers, **options))
    alone = {}
    single = system(tiny, answers, {"batch_tokens": 60}, **options)
    for index in range(len(SHORT)):
        _, prepared = run.prepare(single, records(SHORT).slice(index, 1))
        alone |= {row["row"]: row for row in run.answer(single, prepared, NO_KEEP).to_pylist()}
    for index, row in together.items():
        for one, other in zip(row["targets"], alone[index]["targets"], strict=True):
            assert one["explanation_id"] == other["explanation_id"]
            assert [u["score"] for u in one["units"]] == pytest.approx([u["score"] for u in other["units"]], rel=1e-4, abs=1e-5)
            for name in ("m_comp_aopc", "m_suff_aopc", "m_random_comp"):
                assert one[name] == pytest.approx(other[name], abs=1e-5)


def encoded(made, texts, monkeypatch):
    """Windows that go through the encoder to explain texts, those with a way back apart."""
    counts = {True: 0, False: 0}
    network = made.explained.system.network
    encode = network.encode

    def counted(batch, embeds=None, chunk=0):
        counts[embeds is not None] += len(batch.ids)
        return encode(batch, embeds, chunk)

    monkeypatch.setattr(network, "encode", counted)
    explained(made, texts)
    return counts[False]


def test_tasks_share_the_copies_of_a_text(tiny, answers, monkeypatch):
    more = {
        tasks: encoded(system(tiny, answers, method="pooling", faithfulness=1.0, tasks=tasks), SHORT[:1], monkeypatch)
        for tasks in (("site",), ("site", "histology"))
    }
    # The 50 random copies and the text itself are encoded once; the other task adds ten copies of its own at most.
    windows = -(-len(SHORT[0].split()) // 10)
    assert more[("site", "histology")] - more[("site",)] <= 10 * windows


def test_the_first_task_is_measured_as_if_it_were_alone(tiny, answers):
    options = {"method": "pooling", "faithfulness": 1.0, "stability": 1.0}
    _, both = explained(system(tiny, answers, **options))
    _, one = explained(system(tiny, answers, **options, tasks=("site",)))
    for index, row in one.items():
        (alone,), (first, _) = row["targets"], both[index]["targets"]
        names = [name for name in alone if name.startswith("m_")]
        assert [first[n] for n in names] == pytest.approx([alone[n] for n in names], abs=1e-6)


def test_nothing_is_remembered_of_the_records_before(tiny, answers, monkeypatch):
    options = {"method": "pooling", "deterministic": True, "faithfulness": 1.0, "tasks": ("site",)}

    def one(made):
        """The third record's row, and how many windows were encoded for it."""
        windows, network = [], made.explained.system.network
        encode = network.encode
        monkeypatch.setattr(network, "encode", lambda batch, *a, **k: windows.append(len(batch.ids)) or encode(batch, *a, **k))
        _, prepared = run.prepare(made, records(SHORT).slice(2, 1))
        (row,) = run.answer(made, prepared, NO_KEEP).to_pylist()
        return row["targets"], sum(windows)

    made = system(tiny, answers, **options)
    _, together = explained(made)
    alone, again = one(made), one(system(tiny, answers, **options))
    assert alone == again and alone[1] > 0
    assert alone[0] == together[2]["targets"]


@pytest.mark.parametrize("method", ["pooling", "occlusion"])
def test_deterministic_is_bit_for_bit_whatever_the_batches(tiny, answers, method, monkeypatch):
    """The bits of a tiny model may be equal by chance, so what goes through the encoder together must be the same as well."""

    def explain(batch_tokens):
        made = system(tiny, answers, {"batch_tokens": batch_tokens}, method=method, deterministic=True, faithfulness=1.0)
        passes, network = [], made.explained.system.network
        states = network._states
        monkeypatch.setattr(network, "_states", lambda *args: passes.append(args[0].shape) or states(*args))
        return explained(made), passes

    (_, first), passes = explain(128)
    (_, second), others = explain(9999)
    assert first == second and passes == others


def test_integrated_gradients_leave_little_unexplained(tiny, answers):
    _, rows = explained(system(tiny, answers))
    for row in rows.values():
        for target in row["targets"]:
            gap = target["target_score"] - target["score_at_baseline"]
            assert sum(u["score"] for u in target["units"]) == pytest.approx(gap + target["residual"], abs=1e-4)
            assert abs(target["residual"]) <= 0.05 * abs(gap)
            assert target["m_comp_aopc"] is None and target["n_perturb"] is None


def test_sentences_and_the_strongest_units(tiny, answers):
    _, rows = explained(system(tiny, answers, units="sentence", max_units=3, tasks=("site",)))
    (target,) = rows[2]["targets"]
    assert (target["unit_kind"], target["units_total"], len(target["units"])) == ("sentence", 14, 3)
    kept = sum(u["weight"] for u in target["units"])
    assert target["weight_dropped"] == pytest.approx(1 - kept, abs=1e-5) and target["weight_dropped"] > 0
    assert SHORT[2][target["units"][0]["start"] : target["units"][0]["end"]] == "Prostate needle biopsy."


def test_a_sample_goes_by_id_and_the_others_are_not_applicable(tiny, answers):
    below = sample_below([answers], 2, 7)
    taken = {index for index in range(4) if draw(f"r{index}", 7) < below}
    assert len(taken) == 2
    _, rows = explained(system(tiny, answers, method="pooling", below=below, seed=7))
    assert {index for index, row in rows.items() if row["decision"] != NOT_APPLICABLE} == taken
    for index, row in rows.items():
        assert (row["targets"] is not None) == (index in taken) == (row["n_tokens"] is not None)
    assert sample_below([answers], 4, 7) is None
    _, rows = explained(system(tiny, answers, method="pooling", below=0))
    assert {row["decision"] for row in rows.values()} == {NOT_APPLICABLE}


def test_records_that_the_run_did_not_answer_so_fail(tiny, tmp_path):
    changes = {"decision": {1: "failed"}, "text_sha256": {1: None, 2: b"x" * 32}, "record_id": {3: "another"}}
    answers = write_answers(tmp_path / "a.parquet", tiny, SHORT, **changes)
    failed, rows = explained(system(tiny, answers, method="pooling"))
    assert {row: failure["kind"] for row, failure in failed.items()} == {1: "not_coded", 2: "text_changed", 3: "not_coded"}
    assert list(rows) == [0]


def test_an_answer_of_the_run_that_the_model_does_not_give_is_explained_and_flagged(tiny, tmp_path):
    given = coded(coder(tiny, method="none"), SHORT)
    other = next(code for code in ("C18", "C34") if code != given[0]["site_code"])
    answers = write_answers(tmp_path / "a.parquet", tiny, SHORT, site_code={0: other})
    _, rows = explained(system(tiny, answers, method="pooling", tasks=("site",)))
    (target,) = rows[0]["targets"]
    assert (rows[0]["decision"], target["status"], target["target_name"]) == (REVIEW, OTHER_ANSWER, other)
    assert target["selected_spans"] and rows[1]["decision"] == AUTO


def test_a_code_of_the_users_own(tiny, answers):
    _, rows = explained(system(tiny, answers, method="pooling", targets={"site": "C61"}))
    predicted = pq.read_table(answers)["site_code"].to_pylist()
    for index, row in rows.items():
        site, histology = row["targets"]
        assert site["target_name"] == "C61" and site["status"] == "ok"
        assert site["target_source"] == ("predicted" if predicted[index] == "C61" else "counterfactual")
        assert histology["target_source"] == "predicted"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"targets": {"site": "C99"}}, "no code 'C99'"),
        ({"targets": {"grade": "1"}}, "'grade' is not explained"),
        ({"tasks": ("grade",)}, "no task 'grade'"),
        ({"method": "magic"}, r"explain.method\): 'magic' is not allowed"),
        ({"units": "page"}, "explain.units"),
        ({"colour": 1}, "unknown options colour"),
        ({"perturb": "noise"}, r"explain\.perturb: .* has no 'noise'; it has mask$"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tiny, answers, options, told):
    with pytest.raises(ConfigError, match=told):
        system(tiny, answers, **options)


def test_scores_that_are_all_zero_or_no_numbers_are_flagged_and_the_others_go_on(tiny, answers, monkeypatch):
    made = system(tiny, answers, method="pooling", tasks=("site",), faithfulness=1.0, stability=1.0)
    (model,) = made.explained.models
    own = model.own

    def broken(method, batch, targets):
        scores = torch.split(own(method, batch, targets), [len(ids) for ids in batch.ids])
        bad = {"r0": 0.0, "r1": float("nan")}
        return torch.cat([s * 0 + bad[n] if n in bad else s for s, n in zip(scores, batch.record_ids, strict=True)])

    monkeypatch.setattr(model, "own", broken)
    _, rows = explained(made)
    status = {index: row["targets"][0]["status"] for index, row in rows.items()}
    assert status == {0: "degenerate", 1: "not_finite", 2: "ok", 3: "ok"}
    assert {index: row["decision"] for index, row in rows.items()} == {0: REVIEW, 1: REVIEW, 2: AUTO, 3: AUTO}
    assert rows[0]["targets"][0]["m_comp_aopc"] is None and rows[1]["failure"] is None


def test_several_labels_at_once_are_explained_together(tmp_path):
    model = write_tiny(tmp_path / "many", tiny_config(tasks=(TASKS[0], replace(TASKS[1], multi_label=True))))
    answers = write_answers(tmp_path / "a.parquet", model, SHORT, histology_code={3: ""})
    _, rows = explained(system(model, answers, method="pooling", tasks=("histology",)))
    assert rows[3]["targets"][0]["status"] == "degenerate" and rows[3]["decision"] == REVIEW
    assert {rows[index]["targets"][0]["target_score_kind"] for index in rows} == {"logit"}


def test_a_model_that_fails_on_everything_is_told_from_a_bad_record(tiny, answers, monkeypatch):
    made = system(tiny, answers, method="pooling")
    monkeypatch.setattr(made.explained, "groups", lambda *_: 1 / 0)
    with pytest.raises(ContractError, match="fails on any record"):
        explained(made)
