"""A system of codes calibrated on labelled texts, where temperature and threshold are known by hand.

`colon` has the logits [4, 1] and `lung` [0, 1], so that the margins are 3 and 1. Of 84 texts of the first 81 are right and of 80
of the second 60: odds of 27 and 3, which softmax gives both at the temperature 1 / ln 3. The first are then sure with 27/28.
"""

import math

import polars as pl
import pytest

from engine.errors import ConfigError
from engine.models import checkpoint, code_calibrate, revision
from engine.models.base import ModelSpec
from engine.models.code_calibrate import Data, Settings
from engine.models.code_system import CALIBRATION, calibration_file
from engine.models.code_task import TaskCalibration
from engine.models.run import rows
from tests.models.test_token_system import written
from tests.toys import mean

COLON = [("colon", "C18")] * 81 + [("colon", "C34")] * 3
LUNG = [("lung", "C34")] * 60 + [("lung", "C18")] * 20
UNUSABLE = [("colon", None), (None, "C18")]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("mean") / "model")
    checkpoint.revise(folder, calibration_file({"site": TaskCalibration(threshold=0.7)}), "the old card\n")
    return folder


def revised(model, folder, sample, labels=(("site", "code"),), groups=None, **settings):
    """Calibrates to `new` in the folder; returns what is told."""
    table = pl.DataFrame(sample, ["text", "code"], orient="row").with_row_index("id")
    table.with_columns(patient=pl.Series(groups or table["id"])).write_parquet(folder / "sample.parquet")
    data = Data(path=str(folder / "sample.parquet"), id="id", labels=dict(labels), group="patient")
    told: list[str] = []
    spec = ModelSpec("tests.toys.mean", str(model), {}, {"threads": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revision, "calibration", lambda _: code_calibrate)
        revision.calibrate(spec, Settings(data=data, **settings), str(folder / "new"), lambda line: None, told.append)
    return "\n".join(told)


def test_temperature_and_threshold_by_hand(model, tmp_path):
    told = revised(model, tmp_path, [*COLON, *LUNG, *UNUSABLE], target=0.85)
    before, after = (checkpoint.read(str(folder), mean.__name__, (CALIBRATION,)) for folder in (model, tmp_path / "new"))
    found = after.values(CALIBRATION)["tasks"]["site"]
    assert found["temperature"] == pytest.approx(1 / math.log(3), rel=1e-5)
    assert found["threshold"] == pytest.approx(27 / 28, rel=1e-5)
    assert after.digest != before.digest and after.files["model.safetensors"] == before.files["model.safetensors"]
    # Before, 0.73 and 0.95 were both sure; afterwards only the first kind is, whoever of it is held out.
    lines = told.splitlines()
    assert lines[0] == "164 labelled reports with text, of 166 rows." and lines[2] == "site, 164 reports:"
    assert lines[3].startswith("  before              coded 100.0 %, 86.0 % of it right (at least 80.")
    assert lines[4].startswith("  after, cross-fitted coded  51.2 %, 96.4 % of it right (at least 91.")
    assert lines[5] == "  sure from a probability of 0.9643 on, for 85 % right with 95 % confidence"
    assert lines[6] == "  2 of 2 codes can be coded without a person (min_support=10): C18, C34"
    assert lines[8:] == [
        f"Revision {after.digest[:12]} of {before.digest[:12]}: {tmp_path / 'new'}",
        f"To use it: model.path={tmp_path / 'new'}",
    ]
    card = (tmp_path / "new" / "README.md").read_text()
    assert f"The weights are those of {before.digest}," in card and card.endswith("the old card\n") and lines[4] in card
    for folder, decision in ((model, "auto"), (tmp_path / "new", "review")):
        found = rows({"a": "colon", "b": "lung"}, model=str(folder)).to_pylist()
        assert [row["decision"] for row in found] == ["auto", decision]


def test_a_patient_is_held_out_whole(model, tmp_path):
    # One patient is all right and the other all wrong: what is fitted on the first is sure of the other.
    sample = [("colon", "C18")] * 60 + [("colon", "C34")] * 30
    told = revised(model, tmp_path, sample, groups=["p"] * 60 + ["q"] * 30, target=0.5)
    assert "  before              coded 100.0 %, 66.7 % of it right" in told
    assert "  after, cross-fitted coded  33.3 %, 0.0 % of it right" in told


@pytest.mark.parametrize(
    ("sample", "more", "told"),
    [
        (
            COLON,
            {},
            r"^data\.path: 84 reports with a code of site: too few\. 98 % right with 95 % confidence takes at least 203 ",
        ),
        (
            [*COLON, *LUNG],
            {"target": 0.95},
            r"^target: no revision is written, since with it every report would go to review; ",
        ),
        (COLON, {"labels": (("organ", "code"),)}, r"^the model has no task 'organ'; it has site$"),
        (COLON, {"labels": ()}, r"^data\.labels or data\.group: .* has no column 'site'"),
        (COLON, {"labels": (("site", "organ"),)}, r"^data\.labels or data\.group: .* has no column 'organ'"),
        ([("colon", "X1")] * 90, {"target": 0.9}, r"^data\.labels: none of the 1 different labels \(X1\) is a code of task site"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_writes_nothing(model, tmp_path, sample, more, told):
    with pytest.raises(ConfigError, match=told):
        revised(model, tmp_path, sample, **more)
    assert [path.name for path in tmp_path.iterdir()] == ["sample.parquet"]
