"""`s3://` paths through the front doors."""

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.keys import build
from engine.storage import S3Config, s3_config, storage_for
from jobs._run import run_config, schema
from jobs._summary import closing
from jobs.make_corpus import main as make_corpus
from jobs.status import main as status
from tests.jobs.test_summary import summary

SYSTEM = "engine.models.site_classifier"
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


@pytest.fixture
def place(bucket, store):
    return bucket, ["storage.region=us-east-1", f"storage.endpoint={store.url}", "storage.retry_seconds=2"]


def test_a_corpus_goes_to_s3_and_the_settings_come_from_the_command_line(place, capsys):
    bucket, settings = place
    assert make_corpus.run([f"output.path={bucket}/my corpus", "records=30", "output.format=csv", *settings]) == 0
    assert [entry.path for entry in storage_for(bucket).list(bucket)] == [f"{bucket}/my corpus/corpus-00000.csv"]
    assert make_corpus.run([f"output.path={bucket}/my corpus", "records=30", "output.format=csv", *settings]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert s3_config().retry_seconds == 2.0


@pytest.mark.parametrize(
    ("path", "more", "message"),
    [
        ("{bucket}/none", [], "holds no run"),
        ("s3://no-such-bucket-at-all/out", [], "no such bucket"),
        ("{bucket}/none", ["storage.endpoint=http://127.0.0.1:9"], "storage.endpoint: no S3 service answers there"),
        ("{bucket}/none", ["storage.endpoint=127.0.0.1"], "storage.endpoint: give a URL"),
        ("s3:///none", [], "names no bucket"),
        ("gs://bucket/none", [], "gs:// paths are not supported"),
    ],
)
def test_a_wrong_setting_is_exit_2_and_one_line(place, capsys, path, more, message):
    bucket, settings = place
    assert status.run([f"output.path={path.format(bucket=bucket)}", *settings, *more]) == 2
    told = capsys.readouterr().err
    assert message in told and len(told.splitlines()) == 1


def test_the_engine_gets_what_is_set_and_no_credentials(monkeypatch):
    for name in CREDENTIALS:
        monkeypatch.setenv(name, "hush-hush")
    values = {
        "input": {"path": "s3://b/in"},
        "output": {"path": "s3://b/out"},
        "model": {"system": SYSTEM},
        "storage": {"endpoint": "https://s3.local", "region": "eu", "retry_seconds": 5.0, "timeout_seconds": 3.0},
    }
    found = run_config(build(schema(SYSTEM), values))
    assert found.s3 == S3Config("https://s3.local", "eu", 5.0, 3.0)
    assert (found.input.path, found.output) == ("s3://b/in", "s3://b/out")
    assert "hush" not in repr(found)


def test_what_the_closing_words_say_to_do_works(bucket, store, monkeypatch):
    with storage_for(bucket).writer(f"{bucket}/it's out/codes/0001-0000.parquet") as file:
        pq.write_table(pa.table({"site_code": ["C50", "C50", "C34"]}), file)
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    said = [line.strip() for line in closing(summary(output=f"{bucket}/it's out")).splitlines()[-2:]]
    assert said[0] == "import polars"
    assert sorted(eval(said[1], {"polars": polars}).rows()) == [("C34", 1), ("C50", 2)]
