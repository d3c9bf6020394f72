"""A user's labelled studies set bounds, and their effect is shown on studies that they were not fitted to."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import ConfigError
from engine.keys import build
from engine.models.findings.calibrate import Settings
from engine.models.findings.decide import FindingCalibration
from engine.models.findings.revision import Effect
from engine.models.findings.system import CALIBRATION, read_calibration
from engine.models.revision import calibrate
from tests.models.findings.conftest import load, spec_of
from tests.toys import seen


def manifest(folder, count=120, seed=0):
    """Studies of one or two images: half of them have a square whose level is drawn, the other half a darker one. Five have the
    rare finding, and the state of some is uncertain or missing."""
    rng, rows = np.random.default_rng(seed), []
    (folder / "images").mkdir(parents=True)
    for at in range(count):
        bright, path = at % 2, f"images/{at}.png"
        level = int(rng.integers(190, 256) if bright else rng.integers(128, 200))
        (folder / path).write_bytes(seen.picture((8, 8, 8, level)))
        state = {0: -1, 1: None}.get(at, bright)
        row = {"path": path, "exam": f"e{at}", "patient": f"p{at // 3}", "bright": state, "wide": int(at < 5), "No Finding": 1}
        rows.append(row)
    (folder / "images" / "broken.png").write_bytes(b"?")
    rows.append({**rows[-1], "path": "images/broken.png", "exam": "broken"})
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    return folder / "manifest.parquet"


def settings(path, **more):
    data = {"path": str(path), "image": "path", "study": "exam", "group": "patient"}
    data |= {"findings": {"Bright": "bright", "Wide": "wide"}, **more.pop("data", {})}
    return build(Settings, {"data": data, "sensitivity": 0.9, "specificity": 0.9, **more})


@pytest.fixture(scope="module")
def revised(tmp_path_factory, unbounded):
    folder, told = tmp_path_factory.mktemp("revision"), []
    calibrate(spec_of(unbounded), settings(manifest(folder)), str(folder / "new"), said.append, told.append)
    return folder / "new", "\n".join(told)


said: list[str] = []


def test_a_revision_has_bounds_for_what_is_common_and_names_the_rest(revised, unbounded):
    folder, told = revised
    fitted = read_calibration(json.loads((folder / CALIBRATION).read_text()))
    assert (fitted["Bright"].positives, fitted["Bright"].negatives) == (59, 59) and fitted["Bright"].promised
    assert not fitted["Wide"].promised and (fitted["Wide"].positives, fitted["Wide"].negatives) == (5, 115)
    assert fitted["No Finding"] == FindingCalibration(threshold=0.5)
    assert "No promise, for fewer than 29 studies with the finding or 29 without it: Wide (5 with, 115 without)." in told
    assert "Bright, 59 studies with it, 59 without:" in told and "before              no bounds" in told
    assert "120 labelled studies." in told and "90 % sensitivity and 90 % specificity" in told
    assert said[-1] == "scored 120 of 121 studies, 1 cannot be read"
    system = load(folder)
    assert system.auto() == {"findings": ["Bright"]} and system.digest != load(unbounded).digest
    assert "No promise, for fewer than" in (folder / "README.md").read_text()


def test_its_bounds_keep_the_promise_on_new_studies(revised, tmp_path):
    from engine.models.run import prepare

    system, kept = load(revised[0]), {1: [], 0: []}
    rng = np.random.default_rng(9)
    levels = [int(rng.integers(190, 256) if at % 2 else rng.integers(128, 200)) for at in range(300)]
    files = {f"s{at}": [seen.picture((8, 8, 8, level))] for at, level in enumerate(levels)}
    for row in system.run(prepare(system, seen.studies(**files))[1]).to_pylist():
        label = row["labels"][0]
        kept[row["row"] % 2].append(not (label["clear"] and label["pred"] != row["row"] % 2))
    assert np.mean(kept[1]) >= 0.9 and np.mean(kept[0]) >= 0.9


def test_the_effect_is_counted_by_hand():
    effect = Effect.of([1, 0, -1, 0, -1, 1, 0, 0], np.array([1, 1, 1, 0, 0, 0, 0, 0], bool))
    assert (effect.sensitivity, effect.specificity, effect.unclear) == (2 / 3, 4 / 5, 1 / 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"study": None}}, r"^data.study: name the column with the studies' ids, or data.id"),
        ({"data": {"findings": {"Edema": "bright"}}}, r"^data.findings: the model has no finding 'Edema'; it has Bright"),
        ({"data": {"findings": {"Bright": "nowhere"}}}, r"^data.findings or data.group: .*nowhere"),
        ({"data": {"image": "nowhere"}}, r"nowhere"),
        ({"sensitivity": 0.99}, r"^data.path: no revision is written, since no finding has the 299 studies with it"),
    ],
)
def test_studies_that_cannot_be_used_are_refused(unbounded, tmp_path, changes, message):
    path = manifest(tmp_path / "data", 30)
    with pytest.raises(ConfigError, match=message):
        calibrate(spec_of(unbounded), settings(path, **changes), str(tmp_path / "new"), lambda line: None, lambda line: None)
    assert not (tmp_path / "new").exists()


def test_findings_may_be_in_one_column_of_lists(unbounded, tmp_path):
    path = manifest(tmp_path / "data", 70)
    table = pq.read_table(path)
    lists = [[{"name": "Bright", "state": at}] for at in table["wide"].to_pylist()]
    lists = [[{"name": "Bright", "state": at % 2}] for at in range(len(lists))]
    pq.write_table(table.append_column("findings", pa.array(lists)), path)
    told: list[str] = []
    data = {"findings": {}, "list": "findings"}
    calibrate(spec_of(unbounded), settings(path, data=data), str(tmp_path / "new"), lambda line: None, told.append)
    fitted = read_calibration(json.loads((tmp_path / "new" / CALIBRATION).read_text()))
    assert [name for name, each in fitted.items() if each.promised] == ["Bright"]
