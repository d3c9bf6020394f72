"""Label maps of public sets of radiographs, on invented folders of their layouts."""

import csv
import gzip
import io

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from engine.errors import ConfigError
from engine.sources.labelled.chest import LAYOUTS, SCHEMA, findings_of, read_layout
from engine.storage import storage_for
from engine.text.chest import FINDINGS

BLANK = dict.fromkeys(FINDINGS, "")
READERS = (
    *("Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema"),
    *("Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift"),
    *("Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture"),
    *("Other lesion", "COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other disease", "No finding"),
)


def lines(rows):
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def put(folder, name, rows):
    data = lines(rows).encode() if isinstance(rows, list) else rows
    assert storage_for(str(folder)).create(f"{folder}/{name}", gzip.compress(data) if name.endswith(".gz") else data)


def states(row):
    return {each["name"]: each["state"] for each in row["findings"]}


def read(layout, folder):
    table = read_layout(layout, str(folder))
    assert table.schema == SCHEMA
    return table.to_pylist()


def dicom(width, height):
    """A DICOM file without pixels."""
    data = Dataset()
    data.Rows, data.Columns = height, width
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = io.BytesIO()
    data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPClassUID, data.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3"
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def test_mimic_cxr_jpg(tmp_path):
    stated = {**BLANK, "Cardiomegaly": "1.0", "Edema": "-1.0", "Pneumothorax": "0.0"}
    put(tmp_path, "mimic-cxr-2.0.0-chexpert.csv.gz", [{"subject_id": 10000032, "study_id": 50414267, **stated}])
    images = [("a-b", 50414267), ("c-d", 50414267), ("e-f", 51111111)]
    table = [{"dicom_id": image, "subject_id": 10000032, "study_id": study, "Rows": 2} for image, study in images]
    put(tmp_path, "mimic-cxr-2.0.0-metadata.csv", table)
    put(tmp_path, "mimic-cxr-2.0.0-split.csv", [{"dicom_id": "c-d", "split": "validate"}])
    first, second, third = read("mimic-cxr-jpg", tmp_path)
    assert first["image"] == "files/p10/p10000032/s50414267/a-b.jpg"
    assert (first["study_id"], first["patient_id"], first["split"]) == ("50414267", "10000032", None)
    assert states(first) == states(second) == {"Cardiomegaly": 1, "Edema": -1, "Pneumothorax": 0}
    assert second["split"] == "validate" and first["boxes"] is None
    assert third["findings"] == [] and third["failure"] is None


def test_chexpert(tmp_path):
    path = "CheXpert-v1.0/train/patient00001/study2/view1_frontal.jpg"
    rest = {"Sex": "Female", "Age": 68, "Frontal/Lateral": "Frontal", "AP/PA": "AP"}
    good = {"Path": path, **rest, **BLANK, "No Finding": "1.0", "Fracture": "0.0"}
    put(tmp_path, "train.csv", [good, {**good, "Fracture": "2.0"}, {**good, "Path": "x.jpg"}])
    put(tmp_path, "valid.csv", [{**good, "Path": path.replace("train", "valid")}])
    row, unknown, pathless, valid = read("chexpert", tmp_path)
    assert (row["study_id"], row["patient_id"]) == ("patient00001/study2", "patient00001")
    assert row["image"] == "train/patient00001/study2/view1_frontal.jpg" and row["split"] == "train"
    assert states(row) == {"Fracture": 0, "No Finding": 1}
    assert unknown["findings"] is None and unknown["failure"]["kind"] == pathless["failure"]["kind"] == "parse_error"
    assert "Fracture" in unknown["failure"]["detail"] and valid["split"] == "valid"


def test_padchest(tmp_path):
    columns = {"ImageID": "1_2.png", "ImageDir": "0", "StudyID": "s", "PatientID": "p", "Report": "radio\ngrafia", "Labels": ""}
    labels = [
        "['cardiomegaly', 'laminar atelectasis', ' scoliosis']",
        "['normal']",
        "['unchanged', 'NSG tube']",
        "",
        "['a', 3]",
        "__import__('os').getcwd()",
    ]
    rows = [{**columns, "Labels": each} for each in labels]
    put(tmp_path, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", rows)
    several, normal, unchanged, empty, wrong, code = read("padchest", tmp_path)
    assert (several["image"], several["study_id"], several["patient_id"]) == ("0/1_2.png", "s", "p")
    assert {name for name, state in states(several).items() if state} == {"Cardiomegaly", "Atelectasis", "Lung Opacity"}
    assert set(states(several)) == set(FINDINGS) and states(several)["No Finding"] == 0
    assert {name for name, state in states(normal).items() if state} == {"No Finding"}
    assert states(unchanged) == {"Support Devices": 1} and empty["findings"] == []
    assert wrong["failure"] == code["failure"] == {"kind": "parse_error", "detail": "Labels is no list of words"}


def vindr(folder, boxes, votes=((), (), ())):
    """Three readers' votes, each the labels that one names, and boxes of the image `a`."""
    table = [
        {"image_id": "a", "rad_id": f"R{at}", **{label: int(label in named) for label in READERS}}
        for at, named in enumerate(votes)
    ]
    put(folder, "annotations/image_labels_train.csv", table)
    names = ("image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max")
    put(folder, "annotations/annotations_train.csv", [dict(zip(names, ("a", "R1", *box), strict=True)) for box in boxes])


def test_vindr_cxr_takes_the_votes_of_its_readers_and_their_boxes(tmp_path):
    boxes = [("Cardiomegaly", 1.5, 2, 30, 40), ("Aortic enlargement", 0, 0, 9, 9), ("No finding", "", "", "", "")]
    vindr(tmp_path, boxes, [("Cardiomegaly", "ILD"), ("Cardiomegaly", "Nodule/Mass"), ("Lung tumor", "Nodule/Mass")])
    (row,) = read("vindr-cxr", tmp_path)
    assert (row["study_id"], row["patient_id"], row["image"], row["split"]) == ("a", None, "train/a.dicom", "train")
    named = {name: state for name, state in states(row).items() if state}
    # Lung Opacity: one reader says ILD, but most say Lung Lesion, which is one.
    assert named == {"Cardiomegaly": 1, "Lung Lesion": 1, "Lung Opacity": 1}
    assert "Support Devices" not in states(row) and states(row)["No Finding"] == 0
    assert row["boxes"] == [{"name": "Cardiomegaly", "x0": 1.5, "y0": 2.0, "x1": 30.0, "y1": 40.0}]


def test_vindr_cxr_without_a_majority_is_uncertain(tmp_path):
    vindr(tmp_path, [("No finding", "", "", "", "")], [("Edema",), (), ()])
    (row,) = read("vindr-cxr", tmp_path)
    assert {name: state for name, state in states(row).items() if state} == {"Edema": -1, "Lung Opacity": -1}


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 9),
        (5, 9, 8, 5),
        (-1, 0, 5, 5),
        ("", "", "", ""),
        ("nan", 0, 5, 5),
        (0, 0, "inf", 5),
        (0, 0, 21, 5),
        (0, 0, 5, 11),
    ],
)
def test_a_bad_box_fails_its_row(tmp_path, box):
    vindr(tmp_path, [("Cardiomegaly", 1, 1, 20, 10), ("Nodule/Mass", *box)])
    put(tmp_path, "train/a.dicom", dicom(20, 10))
    (row,) = read("vindr-cxr", tmp_path)
    assert row["failure"]["kind"] == "bad_box" and "1 of 2" in row["failure"]["detail"]
    assert row["findings"] is None and row["boxes"] is None


def test_boxes_up_to_the_edge_are_good_and_an_image_that_is_none_fails(tmp_path):
    vindr(tmp_path / "good", [("Cardiomegaly", 0, 0, 20, 10)])
    put(tmp_path / "good", "train/a.dicom", dicom(20, 10))
    assert read("vindr-cxr", tmp_path / "good")[0]["failure"] is None
    vindr(tmp_path / "bad", [("Cardiomegaly", 0, 0, 20, 10)])
    put(tmp_path / "bad", "train/a.dicom", b"nothing")
    assert read("vindr-cxr", tmp_path / "bad")[0]["failure"]["kind"] == "not_an_image"


def open_i(*headings, images=("CXR1_1_IM-0001",)):
    coded = "".join(f"<major>{heading}</major>" for heading in headings)
    shown = "".join(f'<parentImage id="{image}"/>' for image in images)
    return f'<eCitation><uId id="CXR1"/><MeSH>{coded}</MeSH>{shown}</eCitation>'.encode()


def test_open_i(tmp_path):
    put(tmp_path, "ecgen-radiology/1.xml", open_i("Opacity/lung/base/left", "Cardiomegaly/borderline", images=("one", "two")))
    put(tmp_path, "ecgen-radiology/2.xml", open_i("No Indexing"))
    put(tmp_path, "ecgen-radiology/3.xml", b"<eCitation>")
    put(tmp_path, "png/two.png", b"")
    one, two, uncoded, broken = read("open-i", tmp_path)
    assert (one["study_id"], one["image"], two["image"]) == ("CXR1", "one.png", "png/two.png")
    assert {name: state for name, state in states(one).items() if state} == {"Lung Opacity": 1, "Cardiomegaly": -1}
    assert uncoded["findings"] == [] and broken["failure"]["kind"] == "parse_error"


def test_headings_count_by_their_qualifiers():
    assert findings_of("open-i", ["normal"])["No Finding"] == 1
    assert findings_of("open-i", ["Mass/breast/large"])["Lung Lesion"] == 0
    assert findings_of("open-i", ["Mass/lung/base/left"])["Lung Lesion"] == 1
    assert findings_of("open-i", ["Thickening/pleura/right"])["Pleural Other"] == 1
    assert findings_of("open-i", ["Costophrenic Angle/left/blunted"])["Pleural Effusion"] == -1


def test_a_set_on_s3(bucket):
    put(bucket, "ecgen-radiology/1.xml", open_i("Pneumothorax/right"))
    (row,) = read("open-i", bucket)
    assert states(row)["Pneumothorax"] == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_that_lacks_the_files_is_refused_in_one_line(tmp_path, layout):
    with pytest.raises(ConfigError, match="as it is published") as refused:
        read_layout(layout, str(tmp_path))
    assert "\n" not in str(refused.value)


def test_an_unknown_layout_and_a_missing_column_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="padchest"):
        read_layout("padchst", str(tmp_path))
    put(tmp_path, "train.csv", [{"Path": "x"}])
    with pytest.raises(ConfigError, match="no column Enlarged Cardiomediastinum"):
        read_layout("chexpert", str(tmp_path))
    (tmp_path / "train.csv").write_bytes(f"Path,{','.join(FINDINGS)}\n".encode() + b"\xff\xfe\n")
    with pytest.raises(ConfigError, match="no CSV"):
        read_layout("chexpert", str(tmp_path))
