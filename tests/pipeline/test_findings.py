"""The guarantees for a model of findings: identifiers stay where they are, a killed run goes on, broken files fail alone, and
rows do not depend on how the work is cut."""

import csv
import io
import json
import signal
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from engine.models.base import ModelSpec
from engine.pipeline import ClusterConfig, RunConfig, run, status
from engine.records import IMAGES
from engine.sources import InputConfig
from engine.storage import s3_config, storage_for
from tests.images.test_dicom import OUTCOMES
from tests.pipeline.conftest import Bench
from tests.pipeline.drivers import ended, start
from tests.radiographs import SYSTEM, Made
from tests.small_images import dicom, put

NAME, CASE, PATIENT = "CANARYNAME", "CANARYCASE", "CANARYPATIENT"
CLOSE = 1e-5
pytestmark = pytest.mark.timeout(900)


def settings(made: Made, path: Path | str, output: Path | str, *, shard_bytes: int = 20_000, **more) -> RunConfig:
    """A run of the model; `options` and `runtime` are the model's, `actors` the cluster's, the rest is the input's."""
    options = {"precision": "fp32", **more.pop("options", {})}
    spec = ModelSpec(SYSTEM, made.serving, options, {"threads": 1, **more.pop("runtime", {})})
    cluster = ClusterConfig(actors=more.pop("actors", 1))
    return RunConfig(InputConfig(str(path), **{"reads": IMAGES, **more}), spec, str(output), cluster, shard_bytes=shard_bytes)


def alone(config: RunConfig) -> dict[str, dict]:
    """The rows of a run without Ray."""
    bench = Bench(config)
    bench.code()
    bench.publish()
    return rows(config.output)


def rows(output: Path | str) -> dict[str, dict]:
    found = [row for path in sorted(Path(output, "findings").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len({row["record_id"] for row in found}) == len(found)
    return {row["record_id"]: row for row in found}


def failures(found: dict[str, dict]) -> dict[str, str]:
    return {name: row["failure"]["kind"] for name, row in found.items() if row["failure"]}


def manifest(folder: Path, made: Made, count: int) -> Path:
    """A folder of radiographs, two to a study, with a table of them."""
    put(folder, **{f"{at}__png": data for at, data in enumerate(made.images(count))})
    with (folder / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "exam"), *((f"{at}.png", f"e{at // 2}") for at in range(count))])
    return folder / "m.csv"


def secretive(data: bytes) -> bytes:
    """A PNG with a name among its texts."""
    notes, stream = PngImagePlugin.PngInfo(), io.BytesIO()
    notes.add_text("Comment", NAME)
    Image.open(io.BytesIO(data)).save(stream, "PNG", pnginfo=notes)
    return stream.getvalue()


def test_a_killed_run_goes_on_and_no_identifier_gets_out(radiographs, tmp_path, cluster, capfd, caplog):
    import ray

    headers = {"PatientName": NAME, "AccessionNumber": CASE, "PatientBirthDate": "19120603"}
    files = {f"d{at}__dcm": dicom(30 + at, PatientID=f"{PATIENT}{at}", **headers) for at in range(12)}
    whole = dicom(9, PatientID=f"{PATIENT}x", **headers)
    files |= {"cut__dcm": whole[:-1], "torn__dcm": whole[: len(whole) // 2]}
    files |= {"odd__dcm": dicom(9, PatientID=f"{PATIENT}y", **headers | {"PhotometricInterpretation": NAME})}
    files |= {f"p{at}__png": secretive(data) for at, data in enumerate(radiographs.images(6))}
    put(tmp_path / "in", **files, not__png=NAME.encode())
    order = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "system": SYSTEM, "path": radiographs.serving}
    order |= {"reading": {"reads": IMAGES, "keep": ["PatientID"]}, "options": {"precision": "fp32"}, "runtime": {"threads": 1}}
    order |= {"shard_bytes": 1500, "cluster": {"child_memory_gb": 8.0}}
    code, _, err = ended(start(cluster, **order, die="update:2"))
    assert code == -signal.SIGKILL, err
    assert 0 < status(str(tmp_path / "out")).shards < status(str(tmp_path / "out")).shards_total
    code, out, told = ended(start(cluster, **order))
    assert code == 0 and json.loads(out)["records"] == len(files) + 1 > json.loads(out)["new"], told
    found = rows(tmp_path / "out")
    assert sorted(found) == sorted(path.name for path in (tmp_path / "in").iterdir())
    assert failures(found) == {
        "cut.dcm": "not_an_image",
        "torn.dcm": "not_an_image",
        "odd.dcm": "unsupported_pixels",
        "not.png": "not_an_image",
    }
    # The kept tag stands in its column and nowhere else; what is not kept stands nowhere.
    assert {row.pop("PatientID") for name, row in found.items() if name[0] == "d"} == {f"{PATIENT}{at}" for at in range(12)}
    assert found["p0.png"].pop("PatientID") is None
    kept = {row.pop("PatientID", None) for row in found.values()}
    assert kept <= {None, f"{PATIENT}x", f"{PATIENT}y"}
    secrets = (NAME, CASE, PATIENT, "19120603")
    assert not [secret for secret in secrets if secret in str(found)]
    said = capfd.readouterr()
    assert not [secret for secret in secrets if secret in err + out + told + said.out + said.err + caplog.text]
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    places = [path for path in [*session.rglob("*"), *Path(tmp_path, "out").rglob("*")] if path.is_file()]
    places = [path for path in places if path.parent.name != "findings"]
    assert len(places) > 10
    assert not [path for path in places if any(secret.encode() in path.read_bytes() for secret in secrets)]


def test_every_dicom_file_of_the_collection_has_its_outcome(radiographs, shared_data, tmp_path):
    found = alone(settings(radiographs, shared_data / "dicom", tmp_path / "out", format="image", shard_bytes=10**6))
    assert failures(found) == {name: values[0] for name, values in OUTCOMES.items() if isinstance(values[0], str)}
    assert set(found) == set(OUTCOMES) and len(found) == 37
    chest = found["RG1_J2KI.dcm"]["images"]
    assert [(image["frame"], image["width"], image["height"]) for image in chest] == [(0, 1841, 1955)]


@pytest.mark.parametrize(
    ("table", "reading", "studies"),
    [
        ("cxr_nih/labels.parquet", {"id": "image_id", "keep": ("patient_id",)}, 818),
        ("cxr_ieee8023/pairs.parquet", {"study": "case_group"}, 84),
        ("cxr_ieee8023/images", {}, 183),
    ],
)
@pytest.mark.long
def test_real_radiographs_from_tables_and_folders(radiographs, shared_data, tmp_path, table, reading, studies):
    options = {"evidence": "none", "concepts": 1}
    found = alone(settings(radiographs, shared_data / table, tmp_path / "out", options=options, shard_bytes=10**7, **reading))
    assert len(found) == studies and failures(found) == {}
    assert sum(len(row["images"]) for row in found.values()) == (818 if studies == 818 else 183)


def test_repeated_ids_and_broken_files_fail_alone(radiographs, tmp_path):
    table = manifest(tmp_path / "in", radiographs, 8)
    sound = alone(settings(radiographs, table, tmp_path / "sound", study="exam"))
    (tmp_path / "in" / "2.png").write_bytes(b"no image")
    lines = [("image", "id"), *((f"{at}.png", f"i{at % 7}") for at in range(8))]
    with (tmp_path / "in" / "n.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    found = alone(settings(radiographs, tmp_path / "in" / "n.csv", tmp_path / "out", id="id"))
    assert failures(found) == {"i2": "not_an_image", "n.csv#7": "duplicate_id"} and len(found) == 8
    found = alone(settings(radiographs, table, tmp_path / "part", study="exam"))
    # A study with a readable image is answered from it, by a person.
    assert "image_unreadable" in found["e1"]["reasons"] and found["e1"]["decision"] == "review"
    assert [len(found[name]["images"]) for name in ("e0", "e1", "e2")] == [2, 1, 2]
    assert answers(found["e0"]) == answers(sound["e0"])


def answers(row: dict) -> dict:
    """A row without its run."""
    return {name: value for name, value in row.items() if name != "run_id"}


def near(one: dict, other: dict) -> bool:
    """Whether two rows of a study, which must be close to each other, are far enough from every bound to be asked for the same
    answers, which they then must have."""
    pairs = list(zip(one["labels"], other["labels"], strict=True))
    for a, b in pairs:
        # Probabilities are what is promised; logits are log-odds, which may be large.
        assert a["prob"] == pytest.approx(b["prob"], abs=CLOSE)
        assert a["logit"] == pytest.approx(b["logit"], rel=1e-4, abs=CLOSE)
        if any(abs(a["prob"] - a[cut]) <= CLOSE for cut in ("threshold", "lower", "upper") if a[cut] is not None):
            return False
    assert (one["decision"], one["reasons"], one["images"]) == (other["decision"], other["reasons"], other["images"])
    assert [(a["name"], a["pred"], a["clear"]) for a, _ in pairs] == [(b["name"], b["pred"], b["clear"]) for _, b in pairs]
    return True


def test_shards_batches_and_actors_change_no_row(radiographs, tmp_path, cluster):
    table = manifest(tmp_path / "in", radiographs, 40)
    small = settings(radiographs, table, tmp_path / "small", study="exam", runtime={"batch_images": 3}, actors=2)
    large = settings(radiographs, table, tmp_path / "large", study="exam", runtime={"batch_images": 64}, shard_bytes=10**7)
    assert run(small).shards > 2
    spread, whole = rows(small.output), alone(large)
    assert spread.keys() == whole.keys() and len(whole) == 20
    assert sum(near(spread[name], whole[name]) for name in whole) >= 15
    exact = {"options": {"deterministic": True}, "study": "exam"}
    small = settings(radiographs, table, tmp_path / "small1", runtime={"batch_images": 3}, actors=2, **exact)
    large = settings(radiographs, table, tmp_path / "large1", runtime={"batch_images": 64}, shard_bytes=10**7, **exact)
    run(small)
    assert rows(small.output) == alone(large)


def test_images_and_rows_on_s3(radiographs, bucket, cluster):
    storage, files = storage_for(bucket), dict(enumerate(radiographs.images(4)))
    for at, data in files.items():
        assert storage.create(f"{bucket}/in/{at}.png", data)
    assert storage.create(f"{bucket}/in/broken.dcm", dicom(9, PatientName=NAME)[:-1])
    table = "image,exam\n" + "".join(f"{at}.png,e{at // 2}\n" for at in files) + "broken.dcm,e9\n"
    assert storage.create(f"{bucket}/in/m.csv", table.encode())
    config = settings(radiographs, f"{bucket}/in/m.csv", f"{bucket}/out", study="exam")
    assert run(replace(config, s3=s3_config())).records == 3
    (file,) = storage.list(f"{bucket}/out/findings")
    found = {row["record_id"]: row for row in pq.read_table(io.BytesIO(storage.read(file.path))).to_pylist()}
    assert failures(found) == {"e9": "not_an_image"} and len(found["e0"]["images"]) == 2
