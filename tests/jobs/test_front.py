"""The front door, with a toy job that only tells what it was given."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.errors import ConfigError, ContractError, RetryableError, TooManyFailures
from engine.keys import MISSING, key, keys_of, section
from jobs._front import DEBUG, Job, job
from tests.jobs.conftest import CodedRun

ODD_NAMES = [
    "plain.csv",
    "my reports.csv",
    "two  blanks.csv",
    " blank in front.csv",
    "reports [2024].parquet",
    "a=b.csv",
    "a,b.csv",
    "a=b, [c], {d}~.csv",
    "~draft.csv",
    "#1.csv",
    "$HOME.csv",
    "${input.id}.csv",
    "\\${x}.csv",
    "it's.csv",
    '"quoted".csv',
    "'quoted'",
    "C:reports.csv",
    "back\\slash\\",
    "Größe é 病理 🩺.csv",
    "null",
    "true",
    "1e5",
    "???.csv",
    "*.csv",
    "(a|b)&c;d<e>.csv",
    "tab\there.csv",
    "line\nbreak.csv",
    "text_value_0000_.csv",
    "s3://bucket/a b=c.csv",
    "/data/my reports [2024], a=b~.csv",
]


@dataclass
class Input:
    path: str = key(MISSING, "File, folder or glob.", path=True)
    id: str | None = key(None, "Column with ids.")
    text: str = key("text", "Column with text.")
    keep: list[str] = key([], "Columns to keep.")
    format: str | None = key(None, "Format.", choices=["csv", "parquet"])


@dataclass
class Cluster:
    threads: int | None = key(None, "Threads of an actor.", low=1)


@dataclass
class Config:
    input: Input = section(Input)
    cluster: Cluster = section(Cluster)
    spans: int = key(5, "Evidence spans.", low=0, high=50)
    share: float = key(1.0, "Share allowed.", low=0, high=1)
    thresholds: dict[str, float] = key({}, "Threshold of each task.", low=0, high=1)
    questions: dict[str, str] = key({}, "A question for each type.")
    deterministic: bool = key(False, "Same bits.")

    def __post_init__(self) -> None:
        if self.spans == 49:
            raise ConfigError("spans: 49 is unlucky")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A conf folder with a primary file, a group and an preset."""
    folder = tmp_path / "conf"
    for name, text in {
        "toy.yaml": "defaults:\n  - toy_schema\n  - cluster: laptop\n  - _self_\n  - preset: null\n",
        "cluster/laptop.yaml": "threads: 2\n",
        "cluster/gpu_box.yaml": "threads: 8\n",
        "preset/big.yaml": "# @package _global_\ndefaults:\n  - override /cluster: gpu_box\nspans: 7\n",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def toy(conf: Path) -> Job:
    """A job that keeps the configuration it was started with in `toy.schema.seen`."""

    @job("toy", Config, "Does nothing, carefully.", ["input.path=reports.csv"], conf=conf)
    def body(config: Config) -> None:
        Config.seen = config

    Config.seen = None
    return body


def raising(conf: Path, error: BaseException) -> Job:
    def body(config: Config) -> None:
        raise error

    return job("toy", Config, "Fails.", conf=conf)(body)


def refused(toy: Job, capsys: pytest.CaptureFixture, *argv: str) -> str:
    """The one line on stderr of a command that must be refused before its work starts."""
    assert toy.run(argv) == 2
    assert Config.seen is None
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("toy: ")
    return err


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_name_arrives_as_the_shell_gives_it(toy: Job, name: str) -> None:
    assert toy.run([f"input.path={name}"]) == 0
    assert Config.seen.input.path == name


@pytest.mark.parametrize("name", ["Device", "cell-line", "Körperteil", "Drug.Name", "adverse event", "B&B (old)"])
def test_an_entrys_name_is_the_users_own(toy: Job, name: str) -> None:
    assert toy.run(["input.path=x", f"questions.{name}=Which, or ${{what}}?", f"thresholds.{name}=0.5"]) == 0
    assert (Config.seen.questions, Config.seen.thresholds) == ({name: "Which, or ${what}?"}, {name: 0.5})


def test_braces_that_cannot_be_read_are_told_in_our_words(toy: Job, capsys: pytest.CaptureFixture) -> None:
    message = refused(toy, capsys, "input.path=x", 'questions={Körperteil: "Wo?"}')
    assert "questions: the value in braces cannot be read; give each entry by itself, as in questions.<name>=<value>" in message


def test_a_name_that_is_not_utf8_arrives(toy: Job) -> None:
    name = os.fsdecode(b"caf\xe9.csv")
    assert toy.run([f"input.path={name}"]) == 0
    assert Config.seen.input.path == name


def test_home_is_filled_in_for_a_tilde_and_slash_alone(toy: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.chdir(tmp_path)
    toy.run(["input.path=~/reports"])
    assert Config.seen.input.path == "/home/ada/reports"
    (tmp_path / "~").mkdir()
    toy.run(["input.path=~/reports"])
    assert Config.seen.input.path == "~/reports"


def test_column_names_may_be_odd_too(toy: Job) -> None:
    assert toy.run(["input.path=x", "input.text=Report Text [2]: é", "input.keep=[case id,'a, b', \"c]\",d=e]"]) == 0
    assert Config.seen.input.text == "Report Text [2]: é"
    assert Config.seen.input.keep == ["case id", "a, b", "c]", "d=e"]


def test_a_list_needs_no_brackets(toy: Job) -> None:
    toy.run(["input.path=x", "input.keep=a,b"])
    assert Config.seen.input.keep == ["a", "b"]


def test_values_get_their_types(toy: Job) -> None:
    argv = ["input.path=x", "spans=3", "share=.25", "deterministic=true", "thresholds={site: 0.9}", "thresholds.histology=0.5"]
    assert toy.run(argv) == 0
    seen = Config.seen
    assert (seen.spans, seen.share, seen.deterministic) == (3, 0.25, True)
    assert seen.thresholds == {"site": 0.9, "histology": 0.5}
    assert seen.input.id is None


def test_null_is_none_where_a_key_may_be_empty(toy: Job) -> None:
    toy.run(["input.path=x", "input.id=case", "input.id=null", "cluster.threads=null"])
    assert Config.seen.input.id is None
    assert Config.seen.cluster.threads is None


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("inptu.path=x", "did you mean 'input.path'?"),
        ("path=x", "did you mean 'input.path'?"),
        ("clutser=laptop", "did you mean 'cluster'?"),
        ("wholly.unknown=1", "unknown key 'wholly.unknown'"),
        ("+new.key=1", "unknown key 'new.key'"),
        ("hydra.run.dir=/tmp", "unknown key 'hydra.run.dir'"),
        ("cluster=gpu_bx", "did you mean 'gpu_box'?"),
        ("cluster=/tmp", "give cluster.threads=..."),
        ("preset=small", "no choice 'small'"),
        ("spans=abc", "spans: 'abc' is not allowed; wants a whole number from 0 to 50"),
        ("spans=1.5", "wants a whole number"),
        ("spans=51", "spans: 51 is not allowed"),
        ("spans=-1", "spans: -1 is not allowed"),
        ("spans=null", "wants a whole number"),
        ("spans=", "wants a whole number"),
        ("spans=1,2", "wants a whole number"),
        ("spans=[1", "wants a whole number"),
        ("spans=${nowhere}", "spans: "),
        ("share=nan", "share: nan is not allowed"),
        ("deterministic=maybe", "wants true or false"),
        ("thresholds.site=high", "thresholds.site: 'high' is not allowed"),
        ("thresholds.site=1.5", "thresholds: 1.5 is not allowed"),
        ("input.format=cvs", "did you mean 'csv'?"),
        ("spans=49", "49 is unlucky"),
        ("reports.csv", "'reports.csv' is not key=value"),
        ("~spans", "cannot be removed"),
        ("--multirun", "not supported"),
        ("-m", "not supported"),
        ("--hlep", "did you mean '--help'?"),
        ("--cfg=hydra", "only --cfg job"),
        ("--config-dir=/nowhere", "no folder /nowhere"),
        ("--config-name=other", "no file other.yaml"),
    ],
)
def test_a_mistake_is_refused_in_one_line(toy: Job, capsys: pytest.CaptureFixture, argument: str, message: str) -> None:
    assert message in refused(toy, capsys, "input.path=x", argument)


def test_what_must_be_given_is_asked_for_by_name_and_meaning(toy: Job, capsys: pytest.CaptureFixture) -> None:
    assert "missing input.path (File, folder or glob): give input.path=..." in refused(toy, capsys)
    assert "input.path: is empty" in refused(toy, capsys, "input.path=")


def test_groups_presets_and_later_words_win(toy: Job) -> None:
    toy.run(["input.path=x"])
    assert (Config.seen.cluster.threads, Config.seen.spans) == (2, 5)
    toy.run(["input.path=x", "preset=big"])
    assert (Config.seen.cluster.threads, Config.seen.spans) == (8, 7)
    toy.run(["input.path=x", "preset=big", "cluster=laptop", "spans=9"])
    assert (Config.seen.cluster.threads, Config.seen.spans) == (2, 9)


def test_choices_of_the_users_own_folder(toy: Job, tmp_path: Path) -> None:
    mine = tmp_path / "my conf [1], a=b'"
    (mine / "cluster").mkdir(parents=True)
    (mine / "cluster" / "mine.yaml").write_text("threads: 16\n")
    assert toy.run(["--config-dir", str(mine), "input.path=x", "cluster=mine"]) == 0
    assert Config.seen.cluster.threads == 16


def test_a_wrong_value_in_a_file_is_refused_too(toy: Job, conf: Path, capsys: pytest.CaptureFixture) -> None:
    (conf / "cluster" / "bad.yaml").write_text("threads: many\n")
    assert "cluster.threads: 'many' is not allowed" in refused(toy, capsys, "input.path=x", "cluster=bad")
    (conf / "cluster" / "bad.yaml").write_text("thraeds: 1\n")
    assert "thraeds" in refused(toy, capsys, "input.path=x", "cluster=bad")
    (conf / "cluster" / "bad.yaml").write_text("threads: [1\n")
    assert "no valid YAML" in refused(toy, capsys, "input.path=x", "cluster=bad")


def test_cfg_prints_what_would_run(toy: Job, capsys: pytest.CaptureFixture) -> None:
    import yaml

    assert toy.run(["--cfg", "job", "input.path=a b [1], ${x}: '.csv", "preset=big"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["input"]["path"] == "a b [1], ${x}: '.csv"
    assert shown["spans"] == 7
    assert Config.seen is None


def test_help_tells_every_key_choice_and_example(toy: Job, capsys: pytest.CaptureFixture) -> None:
    assert toy.run(["--help"]) == 0
    message = capsys.readouterr().out
    for each in keys_of(Config):
        assert f"    {each.name} [" in message
        assert each.help in message
    assert "cluster.threads [2]" in message
    assert "cluster=gpu_box|laptop" in message
    assert "python -m jobs.toy input.path=reports.csv" in message


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no such file"), 2),
        (RetryableError("disk full"), 3),
        (TooManyFailures("3 of 4 failed"), 4),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_expected_end_has_one_line_and_its_code(
    conf: Path, capsys: pytest.CaptureFixture, error: BaseException, code: int
) -> None:
    assert raising(conf, error).run(["input.path=x"]) == code
    err = capsys.readouterr().err
    assert err == f"toy: {str(error) or 'interrupted; run the same command again'}\n"


def closed_pipe(command: list[str]) -> tuple[int, str]:
    """Exit code and stderr of a command whose reader has left before its first word."""
    reading, writing = os.pipe()
    os.close(reading)
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, *command], cwd=root, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    return ended.returncode, ended.stderr


def test_a_reader_that_has_seen_enough_ends_a_job_quietly(coded_run: CodedRun) -> None:
    assert closed_pipe(["-m", "jobs.status", f"output.path={coded_run.output}"]) == (141, "")
    assert closed_pipe(["-m", "jobs.status", "--help"]) == (141, "")
    assert closed_pipe(["-m", "jobs"]) == (141, "")


@pytest.mark.parametrize("door", ["jobs", "jobs.status output.path=/nowhere"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_was_closed_from_the_start_changes_no_exit_code(door: str, closed: str) -> None:
    command = f"{sys.executable} -m {door} {closed}"
    ended = subprocess.run(["bash", "-c", command], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert ended.returncode == (2 if "nowhere" in door else 0)
    assert "Traceback" not in ended.stderr and "bug" not in ended.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("door", ["jobs", "jobs.status --help"])
def test_a_full_disk_behind_the_printed_lines_is_no_bug(door: str) -> None:
    root = Path(__file__).parents[2]
    ended = subprocess.run(["bash", "-c", f"{sys.executable} -m {door} >/dev/full"], cwd=root, capture_output=True, text=True)
    assert ended.returncode == 3
    assert ended.stderr.count("\n") == 1 and "a disk is full" in ended.stderr
    both = subprocess.run(["bash", "-c", f"{sys.executable} -m {door} &>/dev/full"], cwd=root)
    assert both.returncode == 3


def test_both_streams_closed_in_the_middle_of_the_work(conf: Path) -> None:
    """As `2>&1 | head` leaves them, with more than a pipe holds still to come."""
    script = (
        "import sys; from tests.jobs.test_front import Config; from jobs._front import job\n"
        "def body(config):\n"
        "    for number in range(100_000): print(number)\n"
        "    print('not stopped', file=open(sys.argv[1], 'w'))\n"
        "job('toy', Config, 'Prints.')(body).run(['input.path=x']) == 141 or sys.exit(9)\n"
    )
    witness = conf / "witness"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script, str(witness)]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout.readline() == "0\n"
    process.stdout.close()
    assert process.wait(60) == 0
    assert not witness.exists()


def test_a_broken_pipe_that_is_not_ours_is_a_bug(conf: Path, capsys: pytest.CaptureFixture) -> None:
    assert raising(conf, BrokenPipeError(32, "the other end of a socket")).run(["input.path=x"]) == 1
    assert "unexpected BrokenPipeError; this is a bug" in capsys.readouterr().err


def test_a_bug_shows_where_but_not_what(conf: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    try:
        raise KeyError("the patient's name")
    except KeyError as behind:
        error = ValueError("the patient's words")
        error.__cause__ = behind
    failing = raising(conf, error)
    assert failing.run(["input.path=x"]) == 1
    err = capsys.readouterr().err
    assert "patient" not in err.replace('KeyError("the patient\'s name")', "")
    assert "ValueError" in err and "KeyError" in err and "test_front.py" in err
    monkeypatch.setenv(DEBUG, "1")
    failing.run(["input.path=x"])
    assert "the patient's words" in capsys.readouterr().err


def test_our_own_bug_says_what_promise_was_broken(conf: Path, capsys: pytest.CaptureFixture) -> None:
    assert raising(conf, ContractError("rows were lost")).run(["input.path=x"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("toy: rows were lost\n") and "test_front.py" in err


def test_nothing_is_left_behind(toy: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert toy.run(["input.path=x"]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    assert Path.cwd() == tmp_path


def test_a_real_job_answers_help_quickly_and_refuses_from_the_shell() -> None:
    root = Path(__file__).parents[2]
    begun = time.monotonic()
    shown = subprocess.run([sys.executable, "-m", "jobs.code_reports", "--help"], cwd=root, capture_output=True, text=True)
    assert shown.returncode == 0 and "input.path [???]" in shown.stdout
    assert time.monotonic() - begun < 10
    wrong = [sys.executable, "-m", "jobs.code_reports", "input.path=x y.csv", "outptu.path=z"]
    refusal = subprocess.run(wrong, cwd=root, capture_output=True, text=True)
    assert refusal.returncode == 2
    assert refusal.stderr == "code_reports: unknown key 'outptu.path' (did you mean 'output.path'?); --help lists them all\n"
    heavy = "import sys; import jobs.code_reports; sys.exit(bool({'torch', 'ray', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", heavy], cwd=root).returncode == 0
