"""What goes wrong between us and an object store, and what becomes of it."""

import pickle
import time

import pytest

from engine.errors import ConfigError, InputChanged, RetryableError
from engine.storage import S3Config, probe, s3_config, storage_for, use_s3
from engine.storage.s3 import S3Storage
from tests.store import CUT, LOST, SLOW, UNCONDITIONAL, Fault, error

pytestmark = pytest.mark.timeout(240)
# More than any of these tests takes.
ALWAYS = 10_000


@pytest.fixture
def storage(bucket):
    return storage_for(bucket)


def impatient(store, **more):
    """A storage that soon gives up, and has been told that all has worked before."""
    return S3Storage(S3Config(**{"endpoint": store.url, "region": "us-east-1", "retry_seconds": 1.0, "proven": True, **more}))


@pytest.mark.parametrize(
    "fault",
    [
        error("SlowDown", 503, times=3),
        error("InternalError", 500, times=2),
        Fault(".", "error", 2, status=502, body="<html>bad gateway</html>"),
        error("ConditionalRequestConflict", 409, "PUT"),
        error("RequestTimeout", 400),
        Fault(".", LOST, 2),
        Fault(".", SLOW, 1, seconds=4.0),
        Fault("GET", CUT, 2),
    ],
    ids=lambda fault: f"{fault.does}-{fault.status}",
)
def test_what_passes_is_tried_again_and_costs_nothing(bucket, store, fault):
    storage = impatient(store, retry_seconds=60.0, timeout_seconds=2.0)
    with store.harmed(fault):
        assert storage.create(f"{bucket}/a", b"first" * 1000)
        assert storage.read(f"{bucket}/a") == b"first" * 1000
    assert fault.met >= 1
    assert storage.create(f"{bucket}/a", b"second") is False
    assert storage.read(f"{bucket}/a") == b"first" * 1000


@pytest.mark.parametrize("does", [LOST, SLOW])
def test_a_put_whose_answer_was_lost_is_known_as_ours(bucket, store, does):
    storage = impatient(store, retry_seconds=60.0, timeout_seconds=1.0)
    with store.harmed(Fault("PUT", does, seconds=3.0)):
        assert storage.create(f"{bucket}/lock", b"mine") is True
    # The name was taken by the first attempt, which the second one was told.
    assert store.count("PUT") >= 2 and store.count("HEAD") >= 1


def test_a_put_that_another_won_while_ours_failed_is_not_ours(bucket, store):
    storage = impatient(store, retry_seconds=60.0)
    storage.create(f"{bucket}/lock", b"same")
    with store.harmed(error("SlowDown", 503, "PUT")):
        assert storage.create(f"{bucket}/lock", b"same") is False


def test_a_completed_upload_whose_answer_was_lost_is_known_as_ours(bucket, store):
    storage = impatient(store, retry_seconds=60.0, timeout_seconds=5.0)
    data = b"x" * (17 * 2**20)
    with store.harmed(Fault(r"POST .*uploadId", LOST)), storage.writer(f"{bucket}/big") as file:
        file.write(data)
    assert storage.read(f"{bucket}/big") == data


@pytest.mark.parametrize(
    "fault",
    [error("SlowDown", 503, times=ALWAYS), Fault(".", LOST, ALWAYS), Fault("GET", CUT, ALWAYS)],
    ids=lambda fault: fault.does,
)
def test_what_does_not_pass_is_worth_another_run_within_bounded_time(bucket, store, storage, fault):
    storage.create(f"{bucket}/a", b"some content")
    begun = time.monotonic()
    with store.harmed(fault), pytest.raises(RetryableError, match="run the same command again") as caught:
        impatient(store).read(f"{bucket}/a")
    assert time.monotonic() - begun < 60
    assert store.url not in str(caught.value) and "\n" not in str(caught.value)


def test_an_object_that_changes_between_two_reads_is_told(bucket, storage):
    path = f"{bucket}/a"
    storage.create(path, b"a" * 5 * 2**20)
    with storage.open(path, storage.stat(path)) as file:
        assert file.read(10) == b"a" * 10
        with storage.writer(path) as other:
            other.write(b"b" * 5 * 2**20)
        with pytest.raises(InputChanged):
            file.read()


def test_a_bucket_that_vanishes_is_worth_another_run(bucket, store, storage):
    storage.create(f"{bucket}/a", b"1")
    entry = storage.stat(f"{bucket}/a")
    with store.harmed(error("NoSuchBucket", 404, times=ALWAYS)):
        for call in (
            lambda: storage.read(f"{bucket}/a"),
            lambda: list(storage.list(bucket)),
            lambda: storage.open(f"{bucket}/a", entry).read(),
            lambda: storage.create(f"{bucket}/b", b""),
            lambda: storage.link(f"{bucket}/a", f"{bucket}/b"),
        ):
            with pytest.raises(RetryableError, match="the bucket is gone"):
                call()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (error("InvalidAccessKeyId", 403, times=ALWAYS), "access is refused .InvalidAccessKeyId.; check the AWS credentials"),
        (error("SignatureDoesNotMatch", 403, times=ALWAYS), "access is refused"),
        (error("AccessDenied", 403, times=ALWAYS), "access is refused"),
        (error("NoSuchBucket", 404, times=ALWAYS), "there is no such bucket"),
        (error("PermanentRedirect", 301, times=ALWAYS), "storage.region"),
        (
            error("AuthorizationHeaderMalformed", 400, times=ALWAYS, more="<Region>eu-central-1</Region>"),
            "is in region eu-central-1; set storage.region",
        ),
        (Fault(".", "error", ALWAYS, 404, "<html>a web server</html>"), "no such bucket; check the path, storage.endpoint"),
        (Fault(".", "error", ALWAYS, 400, "<html>a web server</html>"), "check storage.endpoint"),
    ],
    ids=lambda value: "" if isinstance(value, str) else value.body[-60:],
)
def test_a_wrong_setting_is_one_line_before_anything_has_worked(bucket, store, fault, message):
    begun = time.monotonic()
    with store.harmed(fault), pytest.raises(ConfigError, match=message) as caught:
        list(impatient(store, proven=False, retry_seconds=60.0).list(f"{bucket}/in"))
    assert time.monotonic() - begun < 60
    assert "\n" not in str(caught.value) and store.url not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid", "http://"])
def test_a_wrong_endpoint_is_one_line_within_a_minute(store, endpoint):
    begun = time.monotonic()
    with pytest.raises(ConfigError, match=r"storage\.endpoint"):
        list(impatient(store, endpoint=endpoint, proven=False, retry_seconds=1.0).list("s3://bucket/in"))
    assert time.monotonic() - begun < 60


def test_missing_credentials_are_one_line(bucket, store, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no AWS credentials; set AWS_ACCESS_KEY_ID"):
        impatient(store).read(f"{bucket}/a")


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "http://user:secret@host"])
def test_an_endpoint_is_a_plain_url_and_what_is_given_is_not_repeated(endpoint):
    with pytest.raises(ConfigError, match=r"storage\.endpoint") as caught:
        S3Config(endpoint=endpoint)
    assert endpoint not in str(caught.value)


def test_a_denied_object_is_as_a_denied_file(bucket, store, storage):
    storage.create(f"{bucket}/a", b"1")
    entry = storage.stat(f"{bucket}/a")
    with store.harmed(error("AccessDenied", 403, "GET", ALWAYS)), pytest.raises(PermissionError):
        storage.open(f"{bucket}/a", entry).read()
    with store.harmed(error("AccessDenied", 403, times=ALWAYS)):
        for call in (storage.read, storage.stat, storage.open, storage.remove, lambda path: list(storage.list(path))):
            with pytest.raises(ConfigError, match="access is denied by the store"):
                call(f"{bucket}/a")
    with (
        store.harmed(error("AccessDenied", 403, "PUT", ALWAYS)),
        pytest.raises(ConfigError, match="access is denied by the store"),
    ):
        storage.create(f"{bucket}/b", b"1")


@pytest.mark.parametrize("fault", [Fault("PUT", UNCONDITIONAL, ALWAYS), error("NotImplemented", 501, "PUT", ALWAYS)])
def test_a_store_without_conditional_put_is_found_out(bucket, store, fault):
    if fault.does == "error":
        # The plain PUT of the probe comes first.
        store.faults = [Fault("PUT", UNCONDITIONAL, 1), fault]
    else:
        store.faults = [fault]
    assert probe(f"{bucket}/out") is False
    store.faults = []
    assert not storage_for(bucket).is_folder(bucket)
    assert s3_config().conditional is False
    storage = storage_for(bucket)
    assert storage.create(f"{bucket}/a", b"1") is True and storage.create(f"{bucket}/a", b"2") is False
    assert storage.read(f"{bucket}/a") == b"1"


def test_the_environment_names_the_endpoint_and_the_config_goes_to_workers_without_secrets(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://somewhere:1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    config = S3Config().with_environment()
    assert (config.endpoint, config.region) == ("http://somewhere:1", "eu-north-1")
    assert S3Config(endpoint="https://own:2", region="r").with_environment().endpoint == "https://own:2"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    assert b"hush" not in pickle.dumps(config)


def test_requests_are_few(bucket, store, storage):
    """What an operation costs on the way that it nearly always takes."""
    path, big = f"{bucket}/a", f"{bucket}/big"

    def cost(call):
        store.reset()
        result = call()
        assert len(store.requests) == 1, store.requests
        return result

    cost(lambda: storage.create(path, b"x" * 2**20))
    entry = cost(lambda: storage.stat(path))
    cost(lambda: storage.read(path))
    cost(lambda: list(storage.list(bucket)))
    cost(lambda: storage.link(path, f"{bucket}/b"))
    cost(lambda: storage.remove_all([path, f"{bucket}/b"]))
    storage.create(path, b"x" * 2**20)

    def jumping(file):
        for at in (2**20 - 8, 0, 500_000):
            file.seek(at)
            file.read(1000)

    cost(lambda: jumping(storage.open(path, entry)))
    cost(lambda: jumping(storage.open(path)))
    storage.create(big, b"y" * 30 * 2**20)
    entry = storage.stat(big)
    store.reset()
    with storage.open(big, entry) as file:
        while file.read(2**20):
            pass
    assert len(store.requests) <= 9


def test_each_process_makes_its_own(bucket, monkeypatch):
    one = storage_for(bucket)
    assert storage_for(bucket) is one
    monkeypatch.setattr("engine.storage.os.getpid", lambda: -1)
    assert storage_for(bucket) is not one
    monkeypatch.undo()
    use_s3(S3Config(endpoint="http://other:1"))
    assert storage_for(bucket) is not one
