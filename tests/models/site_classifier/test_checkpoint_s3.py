"""The shipped checkpoint read from S3: copied once a machine, verified each time."""

import pytest

from engine.errors import ConfigError
from engine.models import checkpoint
from engine.models.site_classifier.checkpoint import SHIPPED, read_checkpoint
from engine.storage import storage_for
from tests.models.conftest import revise
from tests.store import error


@pytest.fixture
def remote(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for file in (each for each in SHIPPED.rglob("*") if each.is_file()):
        assert storage_for(bucket).create(f"{bucket}/model/{file.relative_to(SHIPPED)}", file.read_bytes())
    return f"{bucket}/model"


def test_a_remote_checkpoint_is_the_same_model_and_is_fetched_once(remote, store, tmp_path):
    shipped = read_checkpoint("shipped")
    fetched = read_checkpoint(remote + "/")
    assert fetched.digest == shipped.digest and fetched.config == shipped.config
    assert fetched.folder.is_relative_to(tmp_path)
    store.reset()
    assert read_checkpoint(remote).folder == fetched.folder
    lists = [f"{part}digest.json" for part in ("", "heads/dpla/")]
    assert store.requests == [f"GET /{remote.removeprefix('s3://')}/{name}" for name in lists]


def test_a_damaged_copy_is_fetched_again_and_a_damaged_original_is_refused(remote):
    copy = read_checkpoint(remote).folder / "model.safetensors"
    copy.write_bytes(b"damaged")
    assert read_checkpoint(remote).digest == read_checkpoint("shipped").digest
    with storage_for(remote).writer(f"{remote}/labels.json") as file:
        file.write(b"{}")
    copy.with_name("labels.json").unlink()
    with pytest.raises(ConfigError, match=r"labels\.json in .* is not the file that was trained"):
        read_checkpoint(remote)


def test_a_missing_checkpoint_is_refused_in_one_line(bucket):
    with pytest.raises(ConfigError, match=r"model\.path: .*no checkpoint folder"):
        read_checkpoint(f"{bucket}/nothing")


def test_a_revision_is_written_to_s3_and_can_be_read(remote, bucket, store):
    base = read_checkpoint(remote)
    store.reset()
    digest = revise(base, f"{bucket}/new/", base.calibration, "another card\n")
    assert [each for each in store.requests if each.startswith("PUT")][-1].endswith("/new/digest.json")
    revised = read_checkpoint(f"{bucket}/new")
    assert revised.digest == digest != base.digest and revised.calibration == base.calibration
    assert storage_for(bucket).read(f"{bucket}/new/README.md") == b"another card\n"
    before = list(storage_for(bucket).list(bucket))
    with pytest.raises(ConfigError, match="exists; a revision is written to a new folder"):
        revise(base, f"{bucket}/new", {})
    assert list(storage_for(bucket).list(bucket)) == before


def test_a_revision_that_cannot_be_written_whole_leaves_nothing(remote, bucket, store):
    base = read_checkpoint(remote)
    with store.harmed(error("AccessDenied", 403, "PUT .*/new/model.safetensors")), pytest.raises(ConfigError, match="denied"):
        revise(base, f"{bucket}/new", base.calibration)
    assert not storage_for(bucket).is_folder(f"{bucket}/new")


def test_of_two_revisions_to_one_name_the_first_stays(remote, bucket, monkeypatch):
    base = read_checkpoint(remote)
    first = revise(base, f"{bucket}/new", base.calibration, "first")
    # Both looked before either wrote.
    monkeypatch.setattr(checkpoint, "check_new", lambda output: None)
    with pytest.raises(ConfigError, match="exists"):
        revise(base, f"{bucket}/new", {}, "second")
    assert read_checkpoint(f"{bucket}/new").digest == first
