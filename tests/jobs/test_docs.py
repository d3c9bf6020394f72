"""The documents keep up with the code: columns, words, keys, and every query that they show."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from engine import records
from jobs import _help

ROOT = Path(__file__).parents[2]
DICTIONARY = (ROOT / "docs" / "data-dictionary.md").read_text(encoding="utf-8")


def first_cells(text: str) -> set[str]:
    """The names in the first column of every table of a page."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


def part(title: str) -> str:
    """One chapter of the data dictionary."""
    return DICTIONARY.split(f"\n## {title}\n")[1].split("\n## ")[0]


def test_the_data_dictionary_has_every_column_and_no_other() -> None:
    schema = records.table_schema(records.codes_fields(["T"]))
    assert first_cells(part("codes")) == set(schema.names)


def test_the_data_dictionary_has_the_type_of_every_column() -> None:
    words = {"string": "string", "float": "float32", "int32": "int32", "int64": "int64", "fixed_size_binary[32]": "fixed binary"}
    listed = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", part("codes"), re.MULTILINE))
    for field in records.table_schema(records.codes_fields(["T"])):
        kind = str(field.type)
        expected = "list" if kind.startswith("list") else "struct" if kind.startswith("struct") else words[kind]
        assert listed[field.name].startswith(expected), field.name
        assert ("never null" in listed[field.name]) == (not field.nullable), field.name


def test_the_data_dictionary_has_every_column_of_explanations_and_every_field_of_a_target() -> None:
    from engine.explain.explanation import STATUSES
    from engine.explain.rows import TARGET, explanations_fields

    columns, fields = part("explanations").split("\n### A target\n")
    assert first_cells(columns) == set(records.table_schema(explanations_fields()).names)
    assert first_cells(fields) == {field.name for field in TARGET}
    assert all(f"`{word}`" in fields for word in STATUSES)


@pytest.mark.parametrize(
    ("chapter", "schema"),
    [("wrong", records.wrong_schema(["S"])), ("wrong entities", records.wrong_entities_schema(["S"]))],
)
def test_the_data_dictionary_has_every_column_of_wrong_answers(chapter: str, schema: pa.Schema) -> None:
    listed = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", part(chapter), re.MULTILINE)
    assert [name for name, _ in listed] == schema.names
    for (name, kind), field in zip(listed, schema, strict=True):
        words = {"float": "float32", "list<element: string>": "list of string", "list<item: string>": "list of string"}
        assert kind == words.get(str(field.type), str(field.type)) + ", never null" * (not field.nullable), name


def test_the_data_dictionary_has_every_column_and_reason_of_rejected_rationales() -> None:
    from engine.models.site_classifier.rationales import REASONS, REJECTED

    assert first_cells(part("rejected_rationales")) == set(REJECTED.names)
    for word in REASONS:
        assert f"`{word}`" in part("rejected_rationales")


def test_the_data_dictionary_has_every_column_of_entities_and_every_field_of_an_entity() -> None:
    columns, fields = part("entities").split("\n### An entity\n")
    assert first_cells(columns) == set(records.table_schema(records.entities_fields()).names)
    assert first_cells(fields) == {field.name for field in records.ENTITY}


def test_the_data_dictionary_has_every_column_of_findings_and_every_field_of_a_finding() -> None:
    columns, fields = part("findings").split("\n### A finding\n")
    assert first_cells(columns) == set(records.table_schema(records.findings_fields()).names)
    assert first_cells(fields) == {field.name for field in records.LABEL}


def test_the_data_dictionary_has_every_word() -> None:
    assert first_cells(part("Reasons")) == set(records.REASONS)
    assert first_cells(part("Failure kinds")) == set(records.FAILURE_KINDS)
    for word in records.DECISIONS:
        assert f"`{word}`" in part("codes")


def test_every_key_of_every_job_has_a_meaning() -> None:
    from engine.keys import keys_of

    for job in _help.jobs():
        composed = [job.compose([], {})[0], *_help.systems(job).values()]
        for key in [key for values in composed for key in keys_of(job.schema_of(values))]:
            assert len(key.help.split()) >= 2 and key.help.endswith("."), f"jobs.{job.name}: {key.name}"


def test_the_configuration_page_is_what_the_keys_say() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == _help.page(), "docs/configuration.md is old: run make docs"


@pytest.mark.parametrize("job", _help.jobs(), ids=lambda job: job.name)
def test_the_examples_of_a_job_compose(job) -> None:
    import shlex

    for example in job.examples:
        job.compose(shlex.split(example), {})


README = (ROOT / "README.md").read_text(encoding="utf-8")
QUERIES = (ROOT / "docs" / "queries.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", QUERIES, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def analyst(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reports.csv and its table of codes: three good reports, one broken. Beside them Chinese records (`visits`)
    and their table of entities (`derm`)."""
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("analyst")
    texts = {"007": "Brêast 🩺  carcinoma", "b": "Colon, NOS", "c": "Lung?", "d": None}
    with (folder / "reports.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("report_no", "report"), *texts.items()])
    schema = records.table_schema(records.codes_fields(["site", "histology"]))

    def row(record_id: str, decision: str, code: str | None, prob: float | None, reasons: list, spans: list) -> dict:
        evidence = [{"start": a, "end": b, "score": w, "weight": w} for a, b, w in spans]
        failure = {"kind": "missing_text", "detail": ""} if decision == "failed" else None
        known = {"source": "reports.csv", "position": 0, "run_id": "r", "model_digest": "m", "failure": failure}
        return {"record_id": record_id, "decision": decision, "reasons": reasons, **known} | (
            {"site_code": code, "site_prob": prob, "site_evidence": evidence} if code else {}
        )

    rows = [
        row("007", "auto", "C50", 0.99, [], [(0, 6, 0.5), (10, 19, 0.25)]),
        row("b", "review", "C18", 0.75, ["low_confidence"], [(0, 5, 0.5)]),
        row("c", "review", "C34", 0.5, ["low_confidence", "low_margin"], []),
        row("d", "failed", None, None, [], []),
    ]
    table = pa.Table.from_pylist(rows, schema=schema)
    (folder / "coded" / "codes").mkdir(parents=True)
    for number in range(2):
        pq.write_table(table.slice(2 * number, 2), folder / "coded" / "codes" / f"0001-{number:04d}.parquet")
    write_visits(folder)
    return folder


def write_visits(folder: Path) -> None:
    """Three visits of two patients. The second one names a symptom twice, denies one and has a drug of the past; in the third
    nothing counts; a fourth has no text."""
    import pyarrow.parquet as pq

    visits = {"1": ("p", "2024-01-02", "红斑，予糠酸莫米松"), "2": ("p", "2024-02-03", "🩺瘙痒，红斑，瘙痒，无发热，曾用泼尼松")}
    visits |= {"3": ("q", "2024-01-02", "湿疹，曾用泼尼松"), "4": ("q", "2024-03-04", None)}
    marks = [("1", "SYMPTOM", "红斑", "affirmed"), ("1", "DRUG", "糠酸莫米松", "affirmed"), ("2", "SYMPTOM", "瘙痒", "affirmed")]
    marks += [("2", "SYMPTOM", "红斑", "affirmed"), ("2", "SYMPTOM", "瘙痒", "affirmed"), ("2", "SYMPTOM", "发热", "negated")]
    marks += [("2", "DRUG", "泼尼松", "historical"), ("3", "DISEASE", "湿疹", "affirmed"), ("3", "DRUG", "泼尼松", "historical")]
    kept = [pa.field(name, pa.string()) for name in ("patient_id", "visit_date")]
    rows: dict[str, dict] = {}
    for record_id, (patient, day, text) in visits.items():
        known = {"record_id": record_id, "patient_id": patient, "visit_date": day, "source": "a", "position": 0}
        known |= {"reasons": [], "run_id": "r", "model_digest": "m"}
        failed = {"decision": "failed", "failure": {"kind": "missing_text", "detail": ""}}
        rows[record_id] = known | (failed if text is None else {"decision": "auto", "entities": []})
    for record_id, kind, word, said in marks:
        entities, text = rows[record_id]["entities"], visits[record_id][2]
        start = text.index(word, max((each["end"] for each in entities), default=0))
        entities.append({"type": kind, "start": start, "end": start + len(word), "assertion": said})
    for path in ("visits", "derm/entities"):
        (folder / path).mkdir(parents=True)
    schema = pa.schema([*records.table_schema(records.entities_fields()), *kept])
    pq.write_table(pa.Table.from_pylist(list(rows.values()), schema), folder / "derm" / "entities" / "0001-0000.parquet")
    texts = [{"record_id": number, "patient_id": a, "visit_date": b, "text": c} for number, (a, b, c) in visits.items()]
    pq.write_table(pa.Table.from_pylist(texts), folder / "visits" / "corpus-00000.parquet")


EXPECTED = [
    {("auto", 1), ("review", 2), ("failed", 1)},
    {("c", "C34", 0.5, "low_confidence, low_margin"), ("b", "C18", 0.75, "low_confidence")},
    {("low_confidence", 2), ("low_margin", 1)},
    {("reports.csv", "missing_text", 1)},
    {("007", "C50", "Brêast", 0.5), ("007", "C50", "carcinoma", 0.25), ("b", "C18", "Colon", 0.5)},
    {
        ("p", "2024-01-02", "DRUG", "糠酸莫米松", ""),
        ("p", "2024-01-02", "SYMPTOM", "红斑", ""),
        ("p", "2024-02-03", "SYMPTOM", "瘙痒, 红斑", "发热"),
    },
]


def test_every_query_of_the_readme_gives_the_right_answer_both_ways(analyst: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(analyst)
    first, *queries = BLOCKS
    assert len(queries) == 2 * len(EXPECTED)
    space: dict = {}
    exec(first, space)
    for number, query in enumerate(queries):
        exec(query, space)
        answer = space["answer"]
        rows = answer.rows() if hasattr(answer, "rows") else answer.fetchall()
        assert len(rows) == len(set(rows)) and set(rows) == EXPECTED[number // 2], query


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_commands_of_the_page_of_queries_make_what_its_last_query_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shlex
    import subprocess
    import sys

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^    python (-m jobs\..+)$", QUERIES, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        done = subprocess.run([sys.executable, *shlex.split(command)], capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    space: dict = {}
    exec("import duckdb\nimport polars as pl", space)
    exec(BLOCKS[-2], space)
    in_polars = space["answer"].rows()
    exec(BLOCKS[-1], space)
    assert in_polars == space["answer"].fetchall()
    assert {kind for _, _, kind, affirmed, _ in in_polars if affirmed} == {"SYMPTOM", "DRUG"}
    assert any(negated for *_, negated in in_polars)


PANDAS = [
    {("auto", 1), ("review", 2), ("failed", 1)},
    {("c", "C34", 0.5, "low_confidence, low_margin"), ("b", "C18", 0.75, "low_confidence")},
    {("reports.csv", "missing_text", 1)},
    EXPECTED[4],
]


def test_every_example_of_the_python_page_gives_what_is_shown_or_right(analyst: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ast

    pd = pytest.importorskip("pandas")
    monkeypatch.chdir(analyst)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    space: dict = {}
    frames = []
    blocks = re.findall(r"^```python\n(.*?)^```\n(?:\n    (\[\n.*?\n    \])\n)?", page, re.MULTILINE | re.DOTALL)
    for code, shown in blocks:
        space["answer"] = None
        exec(code, space)
        answer = space["answer"]
        if shown:
            assert answer == ast.literal_eval(shown), code
        elif answer is not None:
            frame = answer.reset_index() if isinstance(answer, pd.Series) else answer
            frames.append(set(frame.itertuples(index=False, name=None)))
    assert frames == PANDAS and sum(bool(shown) for _, shown in blocks) == 3


def test_the_example_of_asking_about_one_text_gives_what_is_shown() -> None:
    import ast

    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    ((code, shown),) = re.findall(r"^```python\n(.*?)^```\n\n    (\[.*?\])\n", page, re.MULTILINE | re.DOTALL)
    space: dict = {}
    exec(code, space)
    assert space["answer"] == ast.literal_eval(shown)


def test_the_readme_tells_of_every_job_within_two_hundred_lines() -> None:
    assert first_cells(README.split("\n## Every command\n")[1]) == {job.name for job in _help.jobs()}
    assert len(README.splitlines()) <= 200


def test_the_commands_for_every_kind_of_input_compose() -> None:
    import shlex

    from jobs.code_reports import main

    page = (ROOT / "docs" / "input.md").read_text(encoding="utf-8")
    commands = re.findall(r"`([^`\n]*input\.path=[^`\n]*output\.path=coded)`", page)
    assert len(commands) == 10
    for command in commands:
        assert main.compose(shlex.split(command), {})[1] == []


def test_every_link_of_a_page_leads_to_a_file_and_a_heading() -> None:
    def anchors(page: Path) -> set[str]:
        titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "engine").rglob("README.md")]:
        for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            assert target.exists(), f"{page.relative_to(ROOT)}: {link}"
            assert not anchor or anchor in anchors(target), f"{page.relative_to(ROOT)}: {link}"


def data_sets() -> dict[str, str]:
    """The files of docs/data.md, each with its digest."""
    page = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| `(\S+)` \| `([0-9a-f]{64})` \|", page, re.MULTILINE))


def test_every_data_set_that_a_command_reads_is_described() -> None:
    pages = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "engine").rglob("*.md")]
    named = set(re.findall(r"<folder>/(\w+)", "".join(each.read_text(encoding="utf-8") for each in pages)))
    assert named and named <= {name.split("/")[0] for name in data_sets()}


def test_the_data_sets_are_those_that_figures_were_measured_on(shared_data: Path) -> None:
    import hashlib

    for name, digest in data_sets().items():
        assert hashlib.sha256((shared_data / name).read_bytes()).hexdigest() == digest, name


def test_the_notice_names_every_licence_of_others() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    licences = [path.relative_to(ROOT).as_posix() for path in (ROOT / "engine").rglob("LICENSE.*")]
    shipped = [path.relative_to(ROOT).as_posix() for path in (ROOT / "engine" / "models").glob("*/shipped")]
    assert len(licences) >= 2 and len(shipped) >= 2
    assert all(name in notice for name in (*licences, *shipped))


def test_the_readme_names_the_sites_that_the_shipped_model_can_code_without_review() -> None:
    from engine.models.base import ModelSpec
    from engine.models.site_classifier import load

    coder = load(ModelSpec("engine.models.site_classifier", "shipped"))
    codes = coder.auto()["site"]
    (message,) = re.findall(r"With the shipped model (.*?)\.\s", README, re.DOTALL)
    assert re.findall(r"C\d\d", message) == codes and coder.auto()["histology"] == []
    assert message.startswith(f"{len(codes)} of its {len(coder.config.task('site').labels)} sites can be `auto`")


def test_every_test_that_the_guarantees_name_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")))
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named and not {name for name in named if f"def {name}(" not in written}
