"""The documents keep up with the code: columns, words, keys, and every query that the README shows."""

import re
from pathlib import Path

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
    told = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", part("codes"), re.MULTILINE))
    for field in records.table_schema(records.codes_fields(["T"])):
        kind = str(field.type)
        expected = "list" if kind.startswith("list") else "struct" if kind.startswith("struct") else words[kind]
        assert told[field.name].startswith(expected), field.name
        assert ("never null" in told[field.name]) == (not field.nullable), field.name


def test_the_data_dictionary_has_every_word() -> None:
    assert first_cells(part("Reasons")) == set(records.REASONS)
    assert first_cells(part("Failure kinds")) == set(records.FAILURE_KINDS)
    for word in records.DECISIONS:
        assert f"`{word}`" in part("codes")


def test_every_key_of_every_job_has_a_meaning() -> None:
    from jobs._keys import keys_of

    for job in _help.jobs():
        for key in keys_of(job.schema):
            assert len(key.help.split()) >= 2 and key.help.endswith("."), f"jobs.{job.name}: {key.name}"


def test_the_configuration_page_is_what_the_keys_say() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert written == _help.page(), "docs/configuration.md is old: run make docs"


@pytest.mark.parametrize("job", _help.jobs(), ids=lambda job: job.name)
def test_the_examples_of_a_job_compose(job) -> None:
    import shlex

    for example in job.examples:
        job.compose(shlex.split(example), {})
