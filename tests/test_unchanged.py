"""What compares an earlier commit with this tree: that it sees what differs, and what it rightly passes over."""

import json
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unchanged import inputs
from tests.unchanged.__main__ import chosen
from tests.unchanged.allowed import ALLOWED, reason
from tests.unchanged.cases import FULL, QUICK, cases
from tests.unchanged.compare import Difference, Tensor, differences, digest, folders, masked, pages, table, tensors


def codes(**changes):
    columns = {
        "record_id": ["a", "b", "c"],
        "site_prob": [0.5, 0.25, None],
        "site_evidence": [[{"start": 0, "end": 4, "score": 1.0}, {"start": 6, "end": 9, "score": 0.5}], [], None],
        "run_id": ["r", "r", "r"],
        "model_digest": ["d", "d", "d"],
    }
    return pa.table({**columns, **changes})


def told(old, new):
    return differences(table(old), table(new))


def test_rows_are_joined_by_their_ids_and_the_names_of_runs_do_not_count():
    other = codes(run_id=["q", "q", "q"], model_digest=["e", "e", "e"]).take([2, 0, 1])
    assert told(codes(), other) == []


def test_a_number_is_told_with_its_largest_distance_and_the_rows():
    assert told(codes(), codes(site_prob=[0.5, 0.375, None])) == [Difference("site_prob", 1, 0.125, "b")]
    assert told(codes(), codes(site_prob=[0.75, 0.375, None])) == [Difference("site_prob", 2, 0.25, "a")]
    # A value that is missing on one side has no distance.
    assert told(codes(), codes(site_prob=[0.75, 0.25, 0.5])) == [Difference("site_prob", 2, None, "a")]
    nan = math.nan
    assert told(codes(site_prob=[nan, 0.25, None]), codes(site_prob=[nan, 0.25, None])) == []


def test_what_lies_within_lists_is_told_by_its_place():
    spans = [[{"start": 0, "end": 4, "score": 1.0}, {"start": 6, "end": 9, "score": 0.75}], [], None]
    assert told(codes(), codes(site_evidence=spans)) == [Difference("site_evidence.*.score", 1, 0.25, "a")]
    found = told(codes(), codes(site_evidence=[spans[0][:1], [], None]))
    assert found == [Difference("site_evidence.* (number of items)", 1, 1, "a")]


def test_rows_columns_and_types_that_only_one_side_has():
    fewer = codes().slice(0, 2)
    assert told(codes(), fewer) == [Difference("row only before", 1, None, "c")]
    assert told(fewer, codes()) == [Difference("row only now", 1, None, "c")]
    more = told(codes(), codes(extra=[1, 2, 3]))
    assert [(each.what, each.rows) for each in more] == [("extra (only now)", 4)]
    cast = codes(site_prob=pa.array([0.5, 0.25, None], pa.float32()))
    assert told(codes(), cast) == [Difference("site_prob", 1, None, "types of columns")]


def test_rows_without_an_id_are_compared_by_task_and_metric_or_in_their_order():
    names = {"task": ["site", "site"], "metric": ["a", "b"], "slice": ["all", "all"], "params": ["", ""]}
    old, new = pa.table({**names, "value": [1.0, 2.0]}), pa.table({**names, "value": [1.0, 2.5]})
    assert [(each.what, each.largest) for each in told(old, new.take([1, 0]))] == [("value", 0.5)]
    plain = pa.table({"x": [1, 2]})
    assert [each.what for each in told(plain, plain.take([1, 0]))] == ["x"]


def test_truth_values_are_no_numbers_and_speeds_are_no_figures():
    assert differences({"f": {"a": True}}, {"f": {"a": 1}}) == [Difference("a", 1, None, "f")]
    old = {"f": {"curve": [{"loss": 1.0, "tokens_per_second": 9.0}], "digest": "x"}}
    assert differences(old, {"f": {"curve": [{"loss": 1.0, "tokens_per_second": 7.0}], "digest": "y"}}) == []
    assert differences(old, {"f": {"curve": [{"loss": 1.5}], "digest": "x"}}) == [Difference("curve.*.loss", 1, 0.5, "f")]


def write_tensors(path, values):
    """safetensors by hand: the header's length, the header, the bytes."""
    header, content = {"__metadata__": {"by": "hand"}}, b""
    for name, (dtype, shape, data) in values.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(content), len(content) + len(data)]}
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return tensors(path)


def test_tensors_are_compared_by_name_type_shape_and_bytes(tmp_path):
    one, two = bytes.fromhex("0000803f"), bytes.fromhex("00000040")
    old = write_tensors(tmp_path / "a", {"x": ("F32", [2], one + two), "y": ("BF16", [1], b"ab")})
    assert old["x"] == Tensor("F32", (2,), one + two)
    same = write_tensors(tmp_path / "b", {"y": ("BF16", [1], b"ab"), "x": ("F32", [2], one + two)})
    assert differences(old, same) == [] and digest(old) == digest(same)
    for name, value, distance in (
        ("x", ("F32", [2], one + one), 1.0),
        ("x", ("F32", [1, 2], one + two), None),
        ("x", ("I32", [2], one + two), None),
        ("y", ("BF16", [1], b"ac"), None),
    ):
        other = write_tensors(tmp_path / "c", {**{"x": ("F32", [2], one + two), "y": ("BF16", [1], b"ab")}, name: value})
        assert differences(old, other) == [Difference("value", 1, distance, name)]
        assert digest(old) != digest(other)


def test_folders_are_compared_file_by_file_and_an_engines_own_files_are_left_out(tmp_path):
    for side, score in (("old", 0.5), ("new", 0.75)):
        (tmp_path / side / "codes").mkdir(parents=True)
        (tmp_path / side / "_plan").mkdir()
        (tmp_path / side / "_plan" / "part-0000.jsonl").write_text(side)
        pq.write_table(codes().slice(0, 1), tmp_path / side / "codes" / "0001-0000.parquet")
        pq.write_table(codes().slice(1), tmp_path / side / "codes" / "0001-0001.parquet")
        (tmp_path / side / "figures.json").write_text(json.dumps({"f1": score}))
        (tmp_path / side / "README.md").write_text(f"run {'0' * 12 if side == 'old' else '1' * 12}\n")
        (tmp_path / side / f"{side}.txt").write_text("")
    found = {
        name: (rows, [each.what for each in different]) for name, rows, different in folders(tmp_path / "old", tmp_path / "new")
    }
    assert found == {
        "README.md": (1, []),
        "codes/*.parquet": (3, []),
        "figures.json": (1, ["f1"]),
        "new.txt": (0, ["only now"]),
        "old.txt": (0, ["only before"]),
    }


def test_each_line_of_a_page_that_differs_is_told():
    old = f"model {'a' * 12}\nF1 0.5\nall of it\nmoved\n"
    new = f"moved\nmodel {'b' * 12}\nF1 0.75\nall of it\n"
    told = ["moved (only now)", "F1 0.5 (only before)", "F1 0.75 (only now)", "moved (only before)"]
    assert pages(old, old) == (4, [])
    assert [each.what for each in pages(old, new)[1]] == told


def test_a_value_that_one_side_lacks_is_told_apart_where_it_is_null():
    found = differences({"f": {"a": 1}}, {"f": {"a": 1, "b": None, "c": 0}})
    assert [each.what for each in found] == ["b (only now, null)", "c (only now)"]


def test_measured_costs_and_digests_are_masked_in_pages():
    row = "| valid | pooling | 0.136 | -0.000 | 0.136 | 0.049 | 0.533 | 1.06 |"
    assert masked(f"{row}\nmodel 53aa51172d14 at 0.5") == f"{row.removesuffix(' 1.06 |')} |\nmodel # at 0.5"
    assert masked("| all | 718 | 0.96 |") == "| all | 718 | 0.96 |"


@pytest.mark.parametrize("sizes", [FULL, QUICK])
def test_every_command_comes_after_those_whose_results_it_reads(sizes):
    every = cases(sizes)
    names = [case.name for case in every]
    assert len(set(names)) == len(names)
    for at, case in enumerate(every):
        assert set(case.after) <= set(names[:at])
    only = [case.name for case in chosen(every, ["evaluate"], quick=True, real=True)]
    assert only == ["corpus", "gold", "coded", "evaluated"]
    assert [case.name for case in chosen(every, ["calibrated"], quick=True, real=True)] == ["labelled", "calibrated"]
    assert not any(case.tcga for case in chosen(every, [], quick=False, real=False))


def test_a_command_is_spelled_as_its_tree_knows_it(tmp_path):
    (case,) = (case for case in cases(QUICK) if case.gone)
    assert case.spelled(tmp_path) == case.instead
    (tmp_path / case.gone).parent.mkdir()
    (tmp_path / case.gone).write_text("")
    assert case.spelled(tmp_path) == case.words


def test_made_up_sentences_are_iob2_and_none_stands_twice():
    made = [inputs.iob2(number) for number in range(40)]
    assert len(set(made)) == 40
    assert made[0].splitlines()[:2] == ["Visit\tO", "0\tO"]
    assert "lung\tB-Disease\ncancer\tI-Disease\n" in made[0] and "aspirin\tB-Drug\n" in made[0]


def test_every_allowed_difference_has_a_reason():
    assert all(pattern and len(why) > 10 for pattern, _, why in ALLOWED)


def test_a_figure_is_allowed_to_differ_up_to_its_bound():
    what = "trained_hybrid/figures.json: calibration.ece"
    assert reason(what, 1e-6) and reason(what, 1e-4) is None and reason(what, None) is None
    assert reason("trained_site/figures.json: tasks.site.model.ece", 1e-9) is None
