"""Images from files, manifests and tables with bytes."""

import json
import os
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError, InputChanged, RowError
from engine.records import IMAGES
from engine.sources import InputConfig, cut, from_json, keep_fields, list_files, read, survey, to_json
from engine.sources.base import MOST_STUDIES
from engine.sources.images import image_bytes, image_path
from engine.storage import LocalStorage, storage_for
from tests.small_images import dicom, png, put


@pytest.fixture
def images(load):
    return lambda path, **settings: load(path, **{"reads": IMAGES, **settings})


def manifest(folder: Path, rows: list[dict], name: str = "m.csv") -> Path:
    """A manifest as CSV, JSONL or Parquet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith("jsonl"):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        names = list(rows[0])
        lines = [",".join(str("" if row[n] is None else row[n]) for n in names) for row in rows]
        path.write_text("\n".join([",".join(names), *lines]) + "\n")
    return path


def test_each_file_of_a_folder_is_a_study(images, tmp_path):
    put(tmp_path / "a", x__png=png(1), IM0001=dicom(), y__JPEG=b"broken")
    put(tmp_path / "b", notes__md=b"", z__dcm=dicom())
    (tmp_path / "b" / "1.2.840.5").write_bytes(dicom())
    loaded = images(tmp_path)
    assert loaded.ids == ["a/IM0001", "a/x.png", "a/y.JPEG", "b/1.2.840.5", "b/z.dcm"]
    assert loaded.images == [[name] for name in loaded.ids] and loaded.failures == [None] * 5
    first = loaded.rows[1]["images"][0]
    assert first["data"] is None and first["size"] == len(png(1)) and image_bytes(first) == png(1)


def test_globs_and_single_files(images, tmp_path):
    put(tmp_path, a__png=png(1), b__png=png(2), scan=dicom())
    assert images(tmp_path / "a.png").ids == ["a.png"]
    assert images(tmp_path / "*.png").ids == ["a.png", "b.png"]
    assert images(tmp_path / "scan").ids == ["scan"]
    with pytest.raises(ConfigError, match=r"input\.path.*none that can be read.*\.dcm"):
        images(put(tmp_path / "c", a__txt=b"x"))


def test_tables_beside_images_must_be_told_apart(images, tmp_path):
    put(tmp_path, a__png=png(1))
    manifest(tmp_path, [{"image": "a.png"}])
    with pytest.raises(ConfigError, match=r"holds tables and images; set input\.format \(csv, image\)"):
        images(tmp_path)
    assert images(tmp_path, format="image").ids == ["a.png"]
    assert images(tmp_path, format="csv").ids == ["m.csv:0"]


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_a_row_of_a_manifest_is_an_image(images, tmp_path, name):
    put(tmp_path / "x", a__png=png(1), b__png=png(2))
    rows = [{"id": "one", "image": "x/a.png"}, {"id": "two", "image": "./x/b.png"}, {"id": None, "image": "x/a.png"}]
    loaded = images(manifest(tmp_path, rows, name), id="id")
    assert loaded.ids == ["one", "two", f"{name}:2"] and loaded.places == [(name, i) for i in range(3)]
    assert loaded.failures == [None, None, ("parse_error", "missing_id")]
    assert loaded.images == [["x/a.png"], ["./x/b.png"], None]
    assert image_bytes(loaded.rows[1]["images"][0]) == png(2)


@pytest.mark.parametrize("name", ["m.csv", "m.jsonl", "m.parquet"])
def test_rows_with_one_study_id_are_one_study_wherever_they_stand(images, tmp_path, name):
    put(tmp_path, a__png=png(1), b__png=png(2), c__png=png(3), d__png=png(4))
    rows = [
        {"image": "a.png", "case": 7, "view": "PA"},
        {"image": "b.png", "case": None, "view": "AP"},
        {"image": "c.png", "case": 7, "view": "L"},
        {"image": "d.png", "case": 8, "view": None},
    ]
    loaded = images(manifest(tmp_path, rows, name), study="case", keep=["view", "case"])
    assert loaded.ids == ["7", f"{name}:1", "8"]
    assert loaded.images == [["a.png", "c.png"], ["b.png"], ["d.png"]]
    # CSV has no nulls.
    none = "" if name == "m.csv" else None
    assert [row["keep"]["view"] for row in loaded.rows] == ["PA", "AP", none]
    assert images(tmp_path / name, study="case", id="view").ids[:2] == ["PA", "AP"]
    assert images(tmp_path / name, study="case", id_scope="file").ids[0] == f"{name}:7"


def test_studies_never_cross_a_shard(images, tmp_path):
    count = 3 * MOST_STUDIES
    put(tmp_path, **{f"i{n:03}__png": png(n % 250) for n in range(count)})
    rows = [{"image": f"i{n:03}.png", "case": n % (count // 2)} for n in range(count)]
    loaded = images(manifest(tmp_path, rows), study="case", shard_bytes=10**9)
    assert [shard.rows for shard in loaded.shards] == [64, 32] and loaded.ids == [str(n) for n in range(count // 2)]
    loaded = images(tmp_path / "m.csv", study="case", shard_bytes=2 * len(png(1)))
    assert {shard.rows for shard in loaded.shards} == {1}
    assert [shard.rows for shard in images(tmp_path, format="image", shard_bytes=10**9).shards] == [64, 64, 64]


def test_a_study_fails_if_one_of_its_images_is_missing(images, tmp_path):
    put(tmp_path, a__png=png(1), big__png=b"x" * 2000)
    rows = [
        {"image": "a.png", "case": "whole"},
        {"image": "a.png", "case": "half"},
        {"image": "gone.png", "case": "half"},
        {"image": "", "case": "empty"},
        {"image": "http://patient/1.png", "case": "address"},
        {"image": "/" + "x" * 5000, "case": "long"},
        {"image": "big.png", "case": "big"},
    ]
    loaded = images(manifest(tmp_path, rows), study="case", keep=["case"], max_bytes=1000)
    assert loaded.failures == [
        None,
        ("unreadable_file", "missing=1 of 2"),
        ("missing_image", ""),
        ("unreadable_file", "missing=1 of 1"),
        ("unreadable_file", "missing=1 of 1"),
        ("too_large", "bytes=2000"),
    ]
    assert [row["keep"]["case"] for row in loaded.rows] == loaded.ids == ["whole", "half", "empty", "address", "long", "big"]


def test_broken_rows_of_a_manifest_are_failed_records(images, tmp_path):
    put(tmp_path, a__png=png(1))
    (tmp_path / "m.jsonl").write_text('{"image": "a.png"}\n{"image": \n{"image": ["a.png"]}\n')
    assert [failure and failure[0] for failure in images(tmp_path / "m.jsonl").failures] == [None, "parse_error", "parse_error"]
    (tmp_path / "m.parquet").write_bytes(b"PAR1 no")
    loaded = images(tmp_path / "m.parquet")
    assert loaded.ids == ["m.parquet"] and loaded.failures[0][0] == "unreadable_file"


def test_paths_begin_at_the_root_or_stand_for_themselves(images, tmp_path):
    put(tmp_path / "files", a__png=png(1))
    outside = put(tmp_path / "other", b__png=png(2)) / "b.png"
    rows = [{"image": "a.png"}, {"image": str(outside)}, {"image": "../other/b.png"}]
    table = manifest(tmp_path / "lists", rows)
    loaded = images(table, root=str(tmp_path / "files"))
    assert loaded.failures == [None] * 3
    assert [image_bytes(row["images"][0]) for row in loaded.rows] == [png(1), png(2), png(2)]
    with pytest.raises(ConfigError, match=r"input\.root: there is no folder .*nowhere"):
        images(table, root=str(tmp_path / "nowhere"))
    assert image_path("s3://b/r", "x/../y.png") == "s3://b/r/y.png" and image_path("/r", "s3://b/y") == "s3://b/y"


def test_an_image_that_has_changed_is_told_by_name(images, tmp_path):
    put(tmp_path, a__png=png(1))
    for loaded in (images(manifest(tmp_path, [{"image": "a.png"}])), images(tmp_path, format="image")):
        (file,) = loaded.rows[0]["images"]
        put(tmp_path, a__png=png(1, 5))
        with pytest.raises(InputChanged, match=r"a\.png"):
            image_bytes(file)
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputChanged, match=r"a\.png"):
        image_bytes(file)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_image_without_permission_is_a_failed_record(images, tmp_path):
    put(tmp_path, a__png=png(1))
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(RowError, match="unreadable_file"):
        image_bytes(images(tmp_path).rows[0]["images"][0])


BYTES = [png(1), png(2), None, b"", png(3)]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.mark.parametrize(
    ("column", "names"),
    [
        (pa.array(BYTES), ["m.parquet:0", "m.parquet:1", None, None, "m.parquet:4"]),
        (
            pa.array([data if data is None else {"bytes": data, "path": f"{i}.png"} for i, data in enumerate(BYTES)], STRUCT),
            ["0.png", "1.png", None, None, "4.png"],
        ),
        (pa.array([data and [data] for data in BYTES], pa.list_(pa.large_binary())), None),
        (pa.array([[{"bytes": data, "path": None}] for data in BYTES], pa.large_list(STRUCT)), None),
    ],
)
@pytest.mark.parametrize("shard_bytes", [1, 10**6])
def test_bytes_in_parquet(images, tmp_path, column, names, shard_bytes):
    table = pa.table({"id": list("abcde"), "image": column, "age": [1, 2, 3, None, 5]})
    pq.write_table(table, tmp_path / "m.parquet", row_group_size=3)
    loaded = images(tmp_path / "m.parquet", id="id", keep=["age"], shard_bytes=shard_bytes)
    assert loaded.ids == list("abcde") and [row["keep"]["age"] for row in loaded.rows] == [1, 2, 3, None, 5]
    assert [failure and failure[0] for failure in loaded.failures] == [None, None, "missing_image", "missing_image", None]
    expected = names or ["m.parquet:0:0", "m.parquet:1:0", None, None, "m.parquet:4:0"]
    assert [names and names[0] for names in loaded.images] == expected
    assert [row["images"] and image_bytes(row["images"][0]) for row in loaded.rows] == [png(1), png(2), None, None, png(3)]
    assert len(loaded.shards) == (5 if shard_bytes == 1 else 1)


def test_a_list_of_images_in_parquet_is_one_study(images, tmp_path):
    column = [[png(1), png(2)], [png(3)], [], [png(4), None]]
    pq.write_table(pa.table({"image": column, "case": list("aabb")}), tmp_path / "m.parquet")
    loaded = images(tmp_path / "m.parquet")
    assert [row["images"] and len(row["images"]) for row in loaded.rows] == [2, 1, None, None]
    assert loaded.failures[2:] == [("missing_image", ""), ("missing_image", "images=1 of 2")]
    with pytest.raises(ConfigError, match=r"input\.study: m\.parquet holds the images themselves; write one row a study"):
        images(tmp_path / "m.parquet", study="case")


def test_bytes_are_cut_by_count_too(images, tmp_path):
    pq.write_table(pa.table({"image": [png(n % 250) for n in range(200)]}), tmp_path / "m.parquet")
    loaded = images(tmp_path / "m.parquet", shard_bytes=10**9)
    assert [shard.rows for shard in loaded.shards] == [50] * 4
    assert [row["images"][0]["data"] for row in loaded.rows] == [png(n % 250) for n in range(200)]
    assert images(tmp_path / "m.parquet", max_bytes=10).failures == [
        ("too_large", f"bytes={len(png(n % 250))}") for n in range(200)
    ]


def test_values_of_dicom_headers_are_kept_by_name_alone(images, tmp_path):
    put(tmp_path, a__dcm=dicom(PatientID="P1", ViewPosition="PA"), b=dicom(PatientID="P2"), c__png=png(1))
    assert [row["keep"] for row in images(tmp_path).rows] == [{}] * 3
    loaded = images(tmp_path, keep=["ViewPosition", "PatientID"])
    assert [tuple(row["keep"].values()) for row in loaded.rows] == [("PA", "P1"), (None, "P2"), (None, None)]
    with pytest.raises(ConfigError, match=r"input\.keep: .*'Patient'"):
        images(tmp_path, keep=["Patient"])
    (tmp_path / "a.dcm").rename(tmp_path / "d.dcm")
    assert images(tmp_path / "d.dcm", keep=["PatientID"], max_bytes=10).failures[0][0] == "too_large"


def test_a_folder_of_partitions_is_kept(images, tmp_path):
    for year, folder in (("2023", tmp_path / "year=2023"), ("2024", tmp_path / "year=2024")):
        put(folder, a__png=png(1))
        manifest(folder, [{"image": "a.png", "view": year}])
    loaded = images(tmp_path, format="image", keep=["year"])
    assert [row["keep"]["year"] for row in loaded.rows] == ["2023", "2024"]
    loaded = images(tmp_path, format="csv", keep=["view", "year"])
    assert [row["keep"] for row in loaded.rows] == [{"view": "2023", "year": "2023"}, {"view": "2024", "year": "2024"}]


def test_kept_columns_keep_their_types(images, tmp_path):
    put(tmp_path, a__png=png(1))
    columns = {
        "day": pa.array([date(2024, 2, 29), None]),
        "at": pa.array([datetime(2024, 1, 2, 3, 4, 5, 6, UTC), None], pa.timestamp("us", "UTC")),
        "dose": pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)),
        "labels": pa.array([["x", None], []], pa.list_(pa.string())),
        "box": pa.array([{"x": 1.5, "n": None}, None], pa.struct([("x", pa.float32()), ("n", pa.int8())])),
        "share": pa.array([0.1, float("nan")], pa.float32()),
        "large": pa.array([2**63 + 1, None], pa.uint64()),
        "sure": pa.array([True, None]),
        "word": pa.array(["a", None]).dictionary_encode(),
        "nothing": pa.nulls(2),
    }
    pq.write_table(pa.table({"image": ["a.png", "a.png"], **columns}), tmp_path / "m.parquet")
    loaded = images(tmp_path / "m.parquet", keep=list(columns))
    expected = {name: column.to_pylist() for name, column in columns.items()} | {"share": [pytest.approx(0.1), None]}
    assert [row["keep"] for row in loaded.rows] == [{name: values[i] for name, values in expected.items()} for i in range(2)]
    pq.write_table(pa.table({"image": ["a.png"], "raw": [b"x"]}), tmp_path / "n.parquet")
    with pytest.raises(ConfigError, match=r"input\.keep: column 'raw' is binary, which cannot be kept"):
        images(tmp_path / "n.parquet", keep=["raw"])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"study": "stay"}, r"input\.study: m\.csv has no column 'stay'"),
        ({"image": "file"}, r"input\.image: m\.csv has no column 'file'"),
        ({"id": "name"}, r"input\.id: m\.csv has no column 'name'"),
        ({"keep": ["image"]}, r"input\.keep: 'image' is the column of images"),
        ({"study": "image"}, r"input\.study: 'image' is the column of images"),
        ({"image": ""}, r"input\.image: name a column"),
        ({"format": "text"}, r"input\.format: images are not read from text files"),
        ({"reads": "sounds"}, r"input\.reads: 'sounds'"),
    ],
)
def test_a_wrong_setting_is_one_readable_line(images, tmp_path, settings, words):
    put(tmp_path, a__png=png(1))
    table = manifest(tmp_path, [{"image": "a.png", "case": "1"}])
    with pytest.raises(ConfigError, match=words) as caught:
        images(table, **settings)
    assert "\n" not in str(caught.value)


def test_image_files_have_no_columns_and_wrong_types_are_refused(images, tmp_path):
    put(tmp_path, a__png=png(1))
    for setting in ("id", "study"):
        with pytest.raises(ConfigError, match=rf"input\.{setting}: image files have no columns"):
            images(tmp_path, **{setting: "x"})
    pq.write_table(pa.table({"image": [1], "case": [[1]]}), tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match=r"input\.image: column 'image' of m\.parquet is int64, neither paths nor bytes"):
        images(tmp_path / "m.parquet")
    pq.write_table(pa.table({"image": ["a.png"], "case": [[1]]}), tmp_path / "m.parquet")
    with pytest.raises(ConfigError, match=r"input\.study: column 'case'"):
        images(tmp_path / "m.parquet", study="case")
    with pytest.raises(ConfigError, match=r"input\.format: text are not read|input\.format: texts? "):
        InputConfig("x", format="image")


def test_a_text_plan_is_stored_as_before(load, tmp_path):
    (tmp_path / "a.csv").write_text("text\nx\n")
    (shard,) = load(tmp_path).shards
    assert list(to_json(shard)["slices"][0]) == [
        *("format", "file", "source", "rows", "bytes", "start", "stop", "position", "group", "groups", "broken", "torn", "extra")
    ]


@given(st.lists(st.tuples(st.sampled_from(["a.png", "b.png", "gone.png", ""]), st.sampled_from(["1", "2", ""])), min_size=1))
def test_every_row_is_in_one_study_and_order_is_by_first_row(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("m")
    put(folder, a__png=png(1), b__png=png(2))
    path = manifest(folder, [{"image": name, "case": case} for name, case in rows])
    config, storage = InputConfig(str(path), study="case", reads=IMAGES), LocalStorage()
    shards = list(cut(config, storage, list_files(config, storage), 1))
    found = [
        row
        for shard in shards
        for row in read(config, storage, from_json(json.loads(json.dumps(to_json(shard)))), []).to_pylist()
    ]
    groups: dict[object, list[str]] = {}
    for i, (name, case) in enumerate(rows):
        groups.setdefault(case or i, []).append(name)
    assert [row["images"] and [image["source"] for image in row["images"]] for row in found] == [
        names if all(name in ("a.png", "b.png") for name in names) else None for names in groups.values()
    ]
    firsts = [rows.index(next(r for r in rows if r[1] == key)) if isinstance(key, str) else key for key in groups]
    assert [row["position"] for row in found] == firsts == sorted(firsts)


def test_the_same_on_s3(bucket, store):
    files = {"in/a.png": png(1), "in/b": dicom(PatientID="P"), "lists/m.csv": b"image,case\na.png,1\nb,1\ngone.png,2\n"}
    for name, data in files.items():
        assert storage_for(bucket).create(f"{bucket}/{name}", data)
    storage = storage_for(bucket)
    config = InputConfig(f"{bucket}/in", reads=IMAGES, keep=("PatientID",))
    listed = survey(config, storage).files
    keep = keep_fields(config, storage, listed)
    (shard,) = cut(config, storage, listed, 10**6)
    rows = read(config, storage, shard, keep).to_pylist()
    assert [(row["record_id"], row["keep"]["PatientID"]) for row in rows] == [("a.png", None), ("b", "P")]
    config = InputConfig(f"{bucket}/lists/m.csv", reads=IMAGES, study="case", root=f"{bucket}/in")
    store.reset()
    (shard,) = cut(config, storage, list_files(config, storage), 10**6)
    assert store.count(r"GET /[^/]*/?\?.*prefix=in%2F&max-keys=1000") == 1
    whole, half = read(config, storage, shard, []).to_pylist()
    assert [image_bytes(image) for image in whole["images"]] == [files["in/a.png"], files["in/b"]]
    assert half["failure"] == {"kind": "unreadable_file", "detail": "missing=1 of 1"}
    storage.remove(f"{bucket}/in/a.png")
    assert storage.create(f"{bucket}/in/a.png", png(9))
    with pytest.raises(InputChanged, match=r"a\.png"):
        image_bytes(whole["images"][0])


def test_the_public_images(images, shared_data):
    loaded = images(shared_data / "cxr_nih" / "labels.parquet", id="image_id", keep=["patient_id", "finding_labels", "view"])
    assert len(loaded.rows) == 818 and set(loaded.failures) == {None}
    assert loaded.rows[0]["keep"]["patient_id"] == 1280 and isinstance(loaded.rows[0]["keep"]["finding_labels"], list)
    loaded = images(shared_data / "cxr_ieee8023" / "pairs.parquet", study="patient_id", keep=["split"])
    assert sum(len(names) for names in loaded.images) == 183 and set(loaded.failures) == {None}
    assert len(loaded.rows) == len(set(loaded.ids)) < 183
    assert len(images(shared_data / "dicom", format="image").rows) == len(list((shared_data / "dicom").glob("*.dcm")))
