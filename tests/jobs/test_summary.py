"""The closing words, and the jobs that tell of a run without touching its input."""

import json
import re
from pathlib import Path

import duckdb
import pytest

from engine.errors import TooManyFailures
from engine.pipeline import Summary
from engine.pipeline.status import Lost
from jobs import _summary, code_reports, status


def summary(**changed: object) -> Summary:
    """A finished run of ten records, eight of them coded by this call in four seconds."""
    plain = {
        "output": "out's",
        "run_id": "abc",
        "table": "codes",
        "records": 10,
        "records_total": 10,
        "decisions": {"auto": 6, "review": 3, "failed": 1},
        "failures": {"missing_text": 1},
        "reasons": {"low_margin": 1, "low_confidence": 3},
        "shards": 2,
        "shards_total": 2,
        "bytes": 50,
        "bytes_total": 50,
        "generations": 1,
        "files": ("out's/codes/0001-0000.parquet",),
        "retried": 1,
        "work_seconds": {"read": 1.0, "model": 61.0},
        "new_records": 8,
        "seconds": 4.0,
    }
    return Summary(**{**plain, **changed})


def test_the_closing_words_count_everything() -> None:
    message = _summary.closing(summary())
    assert "Coded 8 records in 4 s (2.0/s, start included). Earlier runs had coded 2." in message
    rows = dict(re.findall(r"^  (\w+) +([\d,]+) +[\d.]+%$", message, re.MULTILINE))
    assert rows == {
        "auto": "6",
        "review": "3",
        "not_applicable": "0",
        "failed": "1",
        "low_confidence": "3",
        "low_margin": "1",
        "missing_text": "1",
    }
    assert message.index("low_confidence") < message.index("low_margin")
    assert "Tables: out's/codes" in message


@pytest.mark.parametrize(
    ("table", "decisions", "counted"),
    [
        ("entities", {"auto": 6, "review": 3, "failed": 1}, {"read": 9, "failed": 1}),
        (
            "explanations",
            {"auto": 2, "review": 1, "not_applicable": 6, "failed": 1},
            {"explained": 2, "explained in part": 1, "not in the sample": 6, "failed": 1},
        ),
    ],
)
def test_where_nothing_was_decided_nothing_is_said_of_decisions(table: str, decisions: dict, counted: dict) -> None:
    plain = summary(table=table, decisions=decisions, failures={}, reasons={"text_truncated": 3} if table == "entities" else {})
    for message in (_summary.closing(plain), _summary.standing(plain)):
        for word in ("decision", "auto", "review", "not_applicable", "oded"):
            assert word not in message
        rows = re.findall(r"^  (\w[\w ]*?)  +([\d,]+) +[\d.]+%$", message, re.MULTILINE)
        assert {word: int(count) for word, count in rows if word != "text_truncated"} == counted
        assert message.count("text_truncated") == (table == "entities")


def test_entities_are_counted_by_type() -> None:
    message = _summary.closing(summary(table="entities", entities={"Chemical": 1000, "Disease": 3000}))
    assert "Entities by type, 4,000 in all:\n  Disease         3,000   75.0%\n  Chemical        1,000   25.0%\n" in message


def test_a_slow_rate_is_told_by_the_record() -> None:
    assert "Coded 8 records in 28 s (3.5 s a record, start included)." in _summary.closing(summary(seconds=28.0))


def test_what_the_model_never_does_is_told_once_and_only_where_a_record_met_it() -> None:
    line = "2 of 3 codes."
    limits = {"rare_class_below_support": line, "no_threshold": line, "low_margin": "Never."}
    reasons = {"rare_class_below_support": 2, "no_threshold": 1}
    for message in (_summary.closing, _summary.standing):
        assert message(summary(limits=limits, reasons=reasons)).count(line) == 1
        assert "Never." not in message(summary(limits=limits, reasons=reasons))
        assert line not in message(summary(limits=limits))


@pytest.mark.parametrize(
    ("lost", "failures", "lines"),
    [
        ([], {"missing_text": 1}, []),
        (
            [("feed/march.csv", "missing_text", 5000)],
            {"missing_text": 5000},
            ["All 5,000 records of feed/march.csv failed: missing_text (check input.text)"],
        ),
        (
            [("a", "missing_text", 9), ("b", "missing_text", 4), ("c", "duplicate_id", 2), ("d", "model_error", 3)],
            {"missing_text": 20, "duplicate_id": 2, "model_error": 3},
            [
                "All 2 records of c failed: duplicate_id (check input.id and input.id_scope)",
                "All 3 records of d failed: model_error",
                "All 13 records of a, b failed: missing_text (check input.text)",
            ],
        ),
        (
            [(name, "too_large", 2) for name in "abcde"],
            {"too_large": 11},
            ["All 10 records of a, b, c and 2 more failed: too_large (check input.max_bytes)"],
        ),
        # A folder of texts, in which each file is a record.
        ([], {"invalid_encoding": 6000}, ["All 6,000 records of the run failed: invalid_encoding (check input.encoding)"]),
    ],
)
def test_what_failed_whole_is_told_in_the_last_line(lost: list, failures: dict, lines: list) -> None:
    files = tuple(Lost(*each) for each in lost)
    for message in (_summary.closing, _summary.standing):
        last = message(summary(lost=files, failures=failures, records=6000)).splitlines()
        assert [line for line in last if line.startswith("All ")] == lines
        assert last[len(last) - len(lines) :] == lines


def test_images_that_are_not_where_the_table_is_have_a_key() -> None:
    lost = (Lost("m.csv", "unreadable_file", 9), Lost("n.csv", "missing_image", 10))
    failures = {"unreadable_file": 9, "missing_image": 10}
    for table, check in (("findings", " (check input.image and input.root)"), ("codes", "")):
        *_, first, last = _summary.closing(summary(table=table, lost=lost, failures=failures, records=6000)).splitlines()
        assert first == f"All 9 records of m.csv failed: unreadable_file{check}"
        assert last == "All 10 records of n.csv failed: missing_image (check input.image)"


def test_a_run_that_had_nothing_to_do_says_so() -> None:
    assert _summary.closing(summary(new_records=0)).startswith("Nothing new to do")


def test_the_query_that_is_shown_works_whatever_the_folder_is_called(tmp_path: Path) -> None:
    folder = tmp_path / "out's"
    (folder / "codes").mkdir(parents=True)
    duckdb.sql("SELECT 'C50' AS site_code").write_parquet(str(folder / "codes" / "a.parquet"))
    message = _summary.closing(summary(output=str(folder)))
    query = re.search(r'duckdb\.sql\("(.*)"\)', message)[1]
    assert duckdb.sql(query).fetchall() == [("C50", 1)]


def test_the_standing_of_an_unfinished_run() -> None:
    message = _summary.standing(summary(shards=1, bytes=25, records_total=None, generations=0, files=()))
    assert "not finished" in message and "10 of an unknown number of records (50% of the text), 1 of 2 shards" in message
    assert "duckdb" not in message


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "not finished, and no command is at work on it: the same command again continues it."),
        (
            {"last_sign": 200.0, "last_shard": 230.0, "waits": "starting Ray"},
            "not finished, and no command is at work on it (last sign of life 3 min 20 s ago, last shard done 3 min 50 s ago): "
            "the same command again continues it.",
        ),
        ({"running": True, "last_sign": 4.0, "waits": "starting Ray"}, "running: last sign of life 4 s ago, starting Ray."),
        (
            {"running": True, "last_sign": 4.0, "last_shard": 12.0},
            "running: last sign of life 4 s ago, last shard done 12 s ago.",
        ),
        ({"generations": 1, "shards": 2, "last_sign": 4.0, "running": True}, "finished."),
    ],
)
def test_whether_a_run_is_at_work_is_told_first(changed: dict, message: str) -> None:
    run = summary(**{"shards": 1, "generations": 0, **changed})
    assert _summary.standing(run).splitlines()[0] == f"Run abc in out's: {message}"


def test_status_of_a_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("engine.pipeline.status", lambda output: summary(output=output))
    assert status.main.run(["output.path=a=b [1]"]) == 0
    assert "Run abc in a=b [1]: finished." in capsys.readouterr().out
    assert status.main.run(["output.path=x", "json=true"]) == 0
    message = json.loads(capsys.readouterr().out)
    assert (message["decisions"]["auto"], message["finished"], message["running"], message["last_sign"]) == (6, True, False, None)


def test_status_where_there_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert status.main.run([f"output.path={tmp_path}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_too_many_failures_are_told_after_the_counts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    def run(config: object, progress: object) -> None:
        raise TooManyFailures("3 of 4 records failed")

    monkeypatch.setattr("engine.pipeline.run", run)
    monkeypatch.setattr("engine.pipeline.status", lambda output: summary(output=output))
    assert code_reports.main.run(["input.path=x", "output.path=y"]) == 4
    out, err = capsys.readouterr()
    assert "Records by decision" in out and err == "code_reports: 3 of 4 records failed\n"


def test_every_setting_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def run(config: object, progress: object) -> Summary:
        seen.append(config)
        return summary()

    monkeypatch.setattr("engine.pipeline.run", run)
    argv = ["input.path=in put", "output.path=out", "input.delimiter=\\t", "input.keep=[a b]", "cluster=gpu_box", "explain=none"]
    argv += ["decision.thresholds.site=0.9", "cluster.child_memory_gb=2", "cluster.shard_kb=3", "max_failed=0.5"]
    assert code_reports.main.run(argv) == 0
    (config,) = seen
    assert (config.input.path, config.input.delimiter, config.input.keep) == ("in put", "\t", ("a b",))
    assert config.model.options["method"] == "none" and config.model.options["thresholds"] == {"site": 0.9}
    assert config.model.runtime["device"] == "cuda" and config.cluster.gpus_per_actor == 1
    assert (config.cluster.child_memory, config.shard_bytes, config.max_failed) == (2 * 1024**3, 3 * 1024, 0.5)


def test_the_options_are_those_that_the_site_classifier_knows() -> None:
    from dataclasses import fields

    from engine.models.site_classifier import Options
    from jobs._run import run_config

    known = {field.name for field in fields(Options)}
    for head in ("dpla", "null"):
        values, _ = code_reports.main.compose(["input.path=x", "output.path=y", f"model.head={head}"], {})
        config = run_config(code_reports.main.configured(values))
        assert set(config.model.options) == known


def test_a_second_text_that_is_not_kept_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert code_reports.main.run(["input.path=x", "output.path=y", "text.pair=question"]) == 2
    assert "text.pair" in (message := capsys.readouterr().err) and "input.keep" in message and message.count("\n") == 1


@pytest.mark.parametrize("system", ["engine.models.nothing", "nowhere.at.all", "..", "not a name"])
def test_a_system_that_is_not_there_is_refused(system: str, capsys: pytest.CaptureFixture) -> None:
    assert code_reports.main.run(["input.path=x", "output.path=y", f"model.system={system}"]) == 2
    assert "model.system: there is no package" in capsys.readouterr().err
