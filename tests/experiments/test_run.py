"""The frame of an experiment, with a toy that counts how often it is asked."""

import json
from dataclasses import dataclass, field

import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError, ContractError
from engine.experiments.run import SCHEMA, Arm, Result, markdown, run, to_table


@dataclass
class Toy:
    size: int = 1
    stop_at: str = ""
    asked: list[str] = field(default_factory=list)
    name: str = "explain/toy"

    def settings(self):
        return {"size": self.size, "shares": (0.5, 1)}

    def arms(self):
        return [Arm("one"), Arm("two", seed=3)]

    def measure(self, arm, work, say):
        self.asked.append(arm.name)
        if arm.name == self.stop_at:
            raise KeyboardInterrupt
        (work / f"{arm.name}.txt").write_text("kept")
        return [Result("right", 0.5, 0.25, 0.75, n=4), Result("cost", None, note="no clock")]


def silent(line):
    pass


def test_the_same_command_goes_on_where_it_stopped(tmp_path):
    output, said = tmp_path / "out", []
    with pytest.raises(KeyboardInterrupt):
        run(Toy(stop_at="two"), output, "command", silent)
    assert not (output / "results.md").exists()
    second = Toy()
    table = run(second, output, "command", said.append)
    assert second.asked == ["two"]
    assert said[:2] == ["one: done before", "two: started"]
    assert (output / "work" / "one.txt").read_text() == "kept"
    third = Toy()
    assert run(third, output, "command", silent).equals(table) and third.asked == []


def test_results_carry_experiment_arm_and_seed(tmp_path):
    table = run(Toy(), tmp_path / "out", "command", silent)
    assert table.schema.equals(SCHEMA)
    assert pq.read_table(tmp_path / "out" / "results.parquet").equals(table)
    rows = table.to_pylist()
    assert [(row["experiment"], row["arm"], row["metric"], row["seed"]) for row in rows] == [
        ("explain/toy", "one", "right", 0),
        ("explain/toy", "one", "cost", 0),
        ("explain/toy", "two", "right", 3),
        ("explain/toy", "two", "cost", 3),
    ]
    assert rows[0]["value"] == 0.5 and rows[0]["n"] == 4 and rows[1]["value"] is None
    page = (tmp_path / "out" / "results.md").read_text()
    assert page.startswith("`command`\n") and '"size": 1' in page and markdown(table) in page


def test_a_folder_belongs_to_one_set_of_settings(tmp_path):
    run(Toy(), tmp_path / "out", "command", silent)
    with pytest.raises(ConfigError, match=r"other settings: size \(1 there, 2 here\)"):
        run(Toy(size=2), tmp_path / "out", "command", silent)
    with pytest.raises(ConfigError, match=r"experiment \(explain/toy there, explain/other here\)"):
        run(Toy(name="explain/other"), tmp_path / "out", "command", silent)


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        run(Toy(), tmp_path, "command", silent)
    with pytest.raises(ConfigError, match="is a file"):
        run(Toy(), tmp_path / "mine.txt", "command", silent)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_start_that_died_at_once_does_not_close_the_folder(tmp_path):
    (tmp_path / "settings.tmp").write_text("{")
    run(Toy(), tmp_path, "command", silent)
    assert json.loads((tmp_path / "settings.json").read_text())["settings"]["size"] == 1


def test_the_table_says_where_a_number_rests_on_fewer_records():
    results = [Result("a", 1, n=30), Result("b", 0.25, 0, 0.5, n=30), Result("c", -1, n=8, note="8 only"), Result("d", None)]
    table = to_table("explain/toy", Arm("one"), results)
    assert markdown(table).splitlines() == [
        "| arm | n | a | b | c | d |",
        "| --- | --- | --- | --- | --- | --- |",
        "| one | 30 | 1.000 | 0.250 (0.000 to 0.500) | -1.000 [n 8] | – |",
        "",
        "* one: c: 8 only",
    ]


def test_arms_with_other_metrics_share_a_table_and_a_note_is_told_once():
    import pyarrow as pa

    one = to_table("explain/toy", Arm("one"), [Result("a", 1, note="same")])
    two = to_table("explain/toy", Arm("two"), [Result("a", 2, note="same"), Result("b", 3)])
    assert markdown(pa.concat_tables([one, two])).splitlines()[2:] == [
        "| one |  | 1.000 |  |",
        "| two |  | 2.000 | 3.000 |",
        "",
        "* one, two: a: same",
    ]


def test_figures_of_parts_stand_below_a_line_each():
    import pyarrow as pa

    results = [Result("f1", 0.5, n=9), Result("f1:a", 0.25, n=4), Result("f1:b", 0.75, n=9, note="few")]
    arms = [to_table("explain/toy", Arm(name), results) for name in ("one", "two")]
    arms += [to_table("explain/toy", Arm("three"), [Result("f1", 1, n=9), Result("f1:c", 1, n=9)])]
    assert markdown(pa.concat_tables(arms)).splitlines() == [
        "| arm | n | f1 |",
        "| --- | --- | --- |",
        *(f"| {arm} | 9 | {value} |" for arm, value in (("one", "0.500"), ("two", "0.500"), ("three", "1.000"))),
        "",
        "| metric | one | two |",
        "| --- | --- | --- |",
        "| f1:a | 0.250 [n 4] | 0.250 [n 4] |",
        "| f1:b | 0.750 | 0.750 |",
        "",
        "| metric | three |",
        "| --- | --- |",
        "| f1:c | 1.000 |",
        "",
        "* one, two: f1:b: few",
    ]


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "two words", "../up"])
def test_an_arm_is_named_as_a_file_can_be(name):
    with pytest.raises(ContractError, match="file's name"):
        Arm(name)
