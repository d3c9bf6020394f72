"""The page of findings: everything a row says is on it, escaped, and nothing is fetched."""

import html.parser
import re

from engine.pages.findings import write_findings_page
from engine.pages.pictures import Study
from tests.pages.studies import concept, image, label, picture, region, row, study

HOSTILE = '"><script>alert(1)</script><img src="https://x.org/a.png">'


class _Reader(html.parser.HTMLParser):
    """Tags, what links point at, and the text."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.texts, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "data", "action", "srcset", "xlink:href")]
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            self.open = self.open[: len(self.open) - 1 - self.open[::-1].index(tag)]

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)


def _write(tmp_path, *studies):
    path = tmp_path / "page.html"
    write_findings_page(str(path), "Evidence", studies, {"records": 9, "review": 2, "auto": 6, "failed": 1}, "run r")
    content = path.read_text("utf-8")
    reader = _Reader()
    reader.feed(content)
    return content, reader


def _card(content, number=1):
    return content.split(f'<article id="r{number}"')[1].split("</article>")[0]


def test_the_page_tells_what_the_row_says(tmp_path):
    content, _ = _write(tmp_path, study())
    card = re.sub(r"\s+", " ", re.sub("<.*?>", " ", _card(content)))
    assert "Positive: Cardiomegaly. Unclear: Fracture. Negative: the other 1." in card
    assert "too near its threshold to be clear. near_threshold" in card and "to review" in card
    assert "Cardiomegaly positive 87.5% threshold 50.0%, unclear from 40.0% to 60.0%" in card
    assert "Fracture unclear, rather negative 43.8%" in card and "Edema negative 3.1%" in card
    assert card.index("Fracture unclear") < card.index("Edema negative")
    assert "image, 40 × 30 pixels" in card
    assert (
        "logit +0.500 = intercept -1.000 + 2 listed concepts +0.750 + rest of 8 concepts not listed +0.750 . The sum holds."
        in card
    )
    assert "the heart is large for +1.000" in card and "normal heart size against -0.250" in card and "never shown" not in card
    assert (
        "This page holds 1 image of patients" in content
        and "review: Cardiomegaly" in content.split("<nav>")[1].split("</nav>")[0]
    )


def test_every_number_on_a_card_is_one_of_the_row(tmp_path):
    numbers = set(re.findall(r"[-+]?\d[\d.]*\d|\d", re.sub("<.*?>", " ", _card(_write(tmp_path, study())[0]).split(">", 1)[1])))
    labels = {"87.5", "43.8", "3.1", "50.0", "40.0", "60.0"}
    # Both listed concepts, the patches, the sum, and the rest of 10 concepts.
    evidence = {"+1.000", "-0.250", "12.5", "+0.062", "-0.500", "25.0", "+0.500", "-1.000", "+0.750", "2", "8"}
    # The number of the card, s1, the other negative finding, and the size of the image.
    assert numbers == labels | evidence | {"1", "40", "30"}


def test_the_marks_of_a_bar_are_where_the_row_says(tmp_path):
    content, _ = _write(tmp_path, study(labels=[label("Edema", 0.625, threshold=0.25, lower=0.125, upper=0.375)]))
    bar = content.split('<div class="track"')[1].split("</div>")[0]
    assert re.findall(r'class="(\w+)" style="(.*?)"', bar) == [
        ("prob", "width:62.50%"),
        ("zone", "left:12.50%;width:25.00%"),
        ("at", "left:25.00%"),
    ]


def test_patches_lie_where_the_row_says_and_follow_their_weight(tmp_path):
    regions = [region("Fracture", 0, (1, 2, 3, 4), 0.5, 0.5), *row()["evidence"]]
    content, _ = _write(tmp_path, study(evidence=regions))
    card = _card(content)
    assert re.findall(r'<label for="p1-\d">(.*?)</label>', card) == ["Cardiomegaly", "Fracture", "image alone"]
    assert card.count(" checked") == 1 and 'viewBox="0 0 40 30"' in card
    groups = re.findall(r'<g class="patches">(.*?)</g>', card)
    assert re.findall(r'class="([\w ]+)" x="(.*?)" y="(.*?)" width="(.*?)" height="(.*?)" fill-opacity="(.*?)"', groups[0]) == [
        ("patch", "10.0", "5.0", "10.0", "10.0", "0.50"),
        ("patch against", "0.0", "0.0", "10.0", "5.0", "0.29"),
    ]
    assert groups[0].count("<title>") == 2 and "Cardiomegaly: score -0.500, weight 12.5%" in groups[0]
    # Without script, the first button shows the first group, and the last none.
    assert ".pick:nth-of-type(2):checked ~ .views .patches:nth-of-type(2)" in content
    assert ".patches { display:none }" in content


def test_a_turned_image_turns_its_patches_with_it(tmp_path):
    card = _card(_write(tmp_path, study([picture(40, 30, turn=6)]))[0])
    assert 'viewBox="0 0 30 40"' in card and '<g transform="matrix(0 1 -1 0 30 0)"><image ' in card


def test_a_study_with_three_images_shows_each_with_its_own_patches(tmp_path):
    images = [image(f"{at}.png", frame=at) for at in range(3)]
    regions = [region("Cardiomegaly", 0, (0, 0, 1, 1)), region("Cardiomegaly", 2, (0, 0, 2, 2))]
    pictures = [picture(), "The input no longer has this image.", picture()]
    content, _ = _write(tmp_path, study(pictures, images=images, evidence=regions))
    first, second, third = _card(content).split("<figure>")[1:]
    assert "image 1 of 3, 40" in first and first.count("<rect") == 1 and 'width="1.0"' in first
    assert "no longer has this image" in second and "<svg" not in second and "image 2 of 3, frame 2" in second
    assert third.count("<rect") == 1 and 'width="2.0"' in third and "This page holds 2 images" in content


def test_hostile_words_are_text_and_nothing_is_fetched(tmp_path):
    hostile = study(
        record_id=HOSTILE,
        labels=[label(HOSTILE, 0.9, logit=0.0, intercept=0.0, rest=0.0)],
        concepts=[concept(HOSTILE, 1, 0.5, HOSTILE)],
        evidence=[region(HOSTILE, 0, (0, 0, 1, 1))],
        kept=HOSTILE,
        reasons=[HOSTILE],
    )
    failed = study(decision="failed", images=None, failure={"kind": HOSTILE, "detail": HOSTILE})
    content, reader = _write(tmp_path, hostile, failed)
    assert reader.tags.count("script") == 1 and {"link", "img", "iframe", "object"}.isdisjoint(reader.tags)
    assert all(link.startswith(("#", "data:image/jpeg;base64,")) for link in reader.links) and len(reader.links) == 3
    assert "url(" not in content and "@import" not in content
    policy = content.split('Content-Security-Policy" content="')[1].split('"')[0]
    assert policy.startswith("default-src 'none'; ") and policy.endswith("; img-src data:")
    assert content.count("&lt;script&gt;alert(1)") >= 6


def test_no_path_of_an_image_and_only_kept_columns(tmp_path):
    content, _ = _write(tmp_path, study(view="AP", patient=None, note="x" * 500))
    assert "secret-name" not in content and "a.png" not in content
    head = _card(content).split("</header>")[0]
    assert "view: AP" in head and "patient" not in head and "x" * 120 in head and "x" * 121 not in head


def test_without_its_image_a_study_offers_no_patches(tmp_path):
    card = _card(_write(tmp_path, study(["The image is not the one that was read in the run."]))[0])
    assert "is not the one that was read" in card and "Patches of" not in card and "<rect" not in card


def test_failed_rows_show_their_kind(tmp_path):
    failed = study(
        decision="failed", reasons=[], images=None, labels=None, failure={"kind": "too_many_pixels", "detail": "9 x 9"}
    )
    card = _card(_write(tmp_path, failed)[0])
    assert "The image has more pixels than the limit." in card and "too_many_pixels: 9 x 9" in card and "<svg" not in card


def test_rows_with_nulls_and_empty_lists(tmp_path):
    bare = {"prob": None, "logit": None, "threshold": None, "lower": None, "upper": None, "pred": None, "clear": None}
    null = study(labels=[label("Edema", 0.1) | bare], concepts=None, n_concepts=None, evidence=None, reasons=None)
    card = _card(_write(tmp_path, null)[0])
    assert "<strong>Not answered:</strong> Edema." in card and "Unclear:" not in card
    assert "unknown" in card and "no threshold, nothing is promised for this finding" in card
    assert "<details" not in card and "None" not in card and "nan" not in card.replace("unanswered", "")
    for empty in (None, []):
        card = _card(_write(tmp_path, study(labels=empty, concepts=empty, evidence=empty))[0])
        assert "No findings are listed." in card and "Patches of" not in card
    lone = region("Cardiomegaly", 0, (0, 0, 1, 1)) | {"score": None, "weight": None}
    assert 'fill-opacity="0.07"' in _card(_write(tmp_path, study(evidence=[lone]))[0])


def test_one_clear_negative_study(tmp_path):
    content, _ = _write(tmp_path, study(labels=[label("Edema", 0.1)], decision="auto", reasons=[]))
    assert "<strong>Negative:</strong> all 1." in content and ">decided</span>" in content


def test_a_sum_that_does_not_hold_is_told(tmp_path):
    wrong = [label("Cardiomegaly", 0.875, logit=0.6, intercept=-1.0, rest=0.75)]
    assert "The sum does not hold: it is off by -0.100." in _card(_write(tmp_path, study(labels=wrong))[0])


def test_cards_are_sifted_and_a_narrow_page_has_its_rules(tmp_path):
    content, _ = _write(tmp_path, study(), study(decision="auto", reasons=[]), Study(row(decision="failed", images=None), []))
    assert 'value="">all 3 studies</option>' in content and "@media screen and (max-width:40rem)" in content
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in content
