import io
import random
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from engine.sources.synthetic.radiographs import film
from engine.sources.synthetic.radiographs.anatomy import body
from engine.sources.synthetic.radiographs.signs import bounds
from engine.sources.synthetic.radiographs.study import Shares, Sign, Study, study
from engine.text.chest import FINDINGS

SHARES = Shares(2.0, 1.5, None, 0, 0)
DEVICES = ("pacemaker", "drain", "line", "airway", "gastric")


def one(sign: Sign | None = None, *, site: str = "north", view: str = "PA", marker: bool = False, of: str = "r") -> Study:
    return Study(of, "p", site, view, (replace(sign, seed_id=of),) if sign else (), marker)


def lone_signs() -> list[Sign]:
    signs = [Sign(name, side, zone) for name in FINDINGS[2:12] for side in ("right", "left") for zone in ("upper", "lower")]
    signs = [replace(sign, side="bilateral") if sign.name == "Edema" else sign for sign in signs]
    return [*map(Sign, FINDINGS[:2]), *signs, *(Sign("Support Devices", "left", kind=kind) for kind in DEVICES)]


def inside(boxes, pixels: int) -> np.ndarray:
    mask = np.zeros((pixels, pixels), bool)
    for _, x0, y0, x1, y1 in boxes:
        assert 0 <= x0 < x1 <= pixels and 0 <= y0 < y1 <= pixels
        mask[y0:y1, x0:x1] = True
    return mask


@pytest.mark.parametrize("pixels", [64, 320])
@pytest.mark.parametrize("sign", lone_signs(), ids=str)
def test_a_box_holds_its_sign(sign, pixels):
    for site, view in (("north", "PA"), ("south", "AP")):
        shown = one(sign, site=site, view=view)
        (grey, boxes), (plain, none) = film.draw(shown, pixels), film.draw(shown, pixels, without={sign.name})
        changed, mask = np.abs(grey.astype(float) - plain), inside(boxes, pixels)
        assert not none and {box[0] for box in boxes} == {sign.name}
        assert len(boxes) == (2 if sign.side == "bilateral" else 1)
        assert changed[mask].mean() > 2.5 and changed[mask].mean() > 8 * changed[~mask].mean()


def test_boxes_hold_their_signs_among_others():
    seen = set()
    for number in range(120):
        shown = study(3, number, SHARES)
        grey, boxes = film.draw(shown, 64)
        for name in {sign.name for sign in shown.signs if sign.drawn}:
            changed = np.abs(grey.astype(float) - film.draw(shown, 64, without={name})[0])
            mask = inside([box for box in boxes if box[0] == name], 64)
            assert changed[mask].mean() > 3 * changed[~mask].mean(), (number, name)
            seen.add(name)
        assert {box[0] for box in boxes} == {sign.name for sign in shown.signs}
    assert seen == {*FINDINGS[:-1]}


def test_an_opacity_that_is_a_consolidation_has_its_boxes():
    signs = (Sign("Lung Opacity", "right", "lower", drawn=False), Sign("Consolidation", "right", "lower"))
    _, boxes = film.draw(Study("r", "p", "north", "PA", signs, False), 64)
    assert [box[0] for box in boxes] == ["Consolidation", "Lung Opacity"] and boxes[0][1:] == boxes[1][1:]


def test_signs_lie_on_their_side():
    # The patient's left is on the right of the image.
    for name in ("Pneumothorax", "Pleural Effusion", "Lung Lesion", "Fracture", "Pleural Other", "Atelectasis", "Consolidation"):
        for side, is_right in (("right", False), ("left", True)):
            (box,) = film.draw(one(Sign(name, side, "lower")), 128)[1]
            assert (box[1] + box[3] > 128) == is_right, (name, side)


@pytest.mark.parametrize("pixels", [32, 64, 200])
def test_the_same_study_gives_the_same_bytes(pixels):
    first, again = (film.png(film.draw(study(3, 5, SHARES), pixels)[0]) for _ in range(2))
    assert first == again
    with Image.open(io.BytesIO(first)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", (pixels, pixels))
    assert first != film.png(film.draw(study(4, 5, SHARES), pixels)[0])


def test_a_chest_is_the_same_at_any_size():
    for number in range(10):
        shown = replace(study(3, number, SHARES), site="north")
        (small, boxes), (large, same) = film.draw(shown, 64), film.draw(shown, 256)
        reduced = large.reshape(64, 4, 64, 4).mean((1, 3))
        assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.97
        assert [box[0] for box in boxes] == [box[0] for box in same]
        for one_box, other in zip(boxes, same, strict=True):
            assert np.abs(4 * np.array(one_box[1:]) - other[1:]).max() <= 16


def test_a_studys_body_is_its_patients():
    def widths(patients: range, days: range) -> list[float]:
        return [body(random.Random(patient), random.Random(-1 - day), "PA").width for patient in patients for day in days]

    within, between = np.ptp(widths(range(1), range(20))), np.ptp(widths(range(20), range(1)))
    assert 0 < within <= 0.008 < 0.02 < between


def test_sites_differ_in_grey_curve_noise_and_border():
    north, south = (film.draw(one(site=site), 320)[0] for site in ("north", "south"))
    assert south[0].max() < 10 and south[:, 0].max() < 10 and north[:, :5].max() > 100
    grain = [np.diff(grey[260:310, 110:140].astype(float)).std() for grey in (north, south)]
    assert grain[1] > 1.5 * grain[0] > 3
    assert north[100:200].mean() > south[100:200].mean() + 10


@pytest.mark.parametrize("pixels", [64, 320])
def test_the_mark_is_white_in_its_corner_and_changes_nothing_else(pixels):
    plain, marked = (film.draw(one(marker=marker, site="south"), pixels)[0].astype(int) for marker in (False, True))
    x0, y0, x1, y1 = bounds(np.abs(marked - plain))
    assert x0 > 0.85 * pixels and y1 < 0.21 * pixels and x1 - x0 >= 3 and y1 - y0 >= 7
    assert (marked == 255).sum() > 0.002 * pixels**2


def test_a_large_heart_and_a_wide_mediastinum_are_wider():
    def width(sign: Sign) -> int:
        (box,) = film.draw(one(sign), 320)[1]
        return box[3] - box[1]

    # Of a chest that is 0.75 of the image wide.
    assert width(Sign("Cardiomegaly", size=1.0)) > width(Sign("Cardiomegaly", size=0.0)) > 0.55 * 0.75 * 320
    assert width(Sign("Enlarged Cardiomediastinum")) > 0.25 * 320
