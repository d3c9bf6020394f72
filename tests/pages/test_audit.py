"""The page of a concept audit says what the audit says, and holds nothing from outside."""

import json
import re
from dataclasses import asdict

import pytest

from engine.errors import ContractError
from engine.pages.audit import THUMBNAILS, Audit, Audited, Cluster, Ranked, Removal, page
from tests.pages.studies import picture
from tests.pages.test_evaluation_entities import cells

URI = picture().uri
HIGH = Cluster(12, 88, 31, 0.9, 0.84, 0.96, q=0.9, thumbnails=[URI] * 2, source="other set")
LOW = Cluster(
    7, 64, 22, 0.61, 0.48, 0.73, q=0.0004, partner=HIGH, concepts=[Ranked("marker", 0.125, 0.002)], thumbnails=[URI] * 9
)
CHANCE = Cluster(3, 41, 9, 0.75, q=0.25, partner=HIGH)
SKIPPED = Cluster(1, 14, 3, skipped="fewer than 20 images")
REMOVALS = [Removal(["marker", "tube"], -0.0625, -0.03125, -0.09, -0.03), Removal(["gas"], None, 0.0)]
LABEL = Audited(
    "Pneumothorax",
    142,
    676,
    0.83,
    0.79,
    0.87,
    [Ranked("tube <in> place", 0.25), Ranked("air", -0.125)],
    [HIGH, LOW, CHANCE, SKIPPED],
    REMOVALS,
)


def written(*labels, **more):
    return page(json.loads(json.dumps(asdict(Audit(labels, **more)))))


def text(content):
    return re.sub(r"\s+", " ", re.sub("<.*?>", " ", content.split("</style>")[1]))


def test_the_page_tells_what_the_audit_says():
    content = written(LABEL, note="bank b")
    said = text(content)
    assert "142 images with the label, 676 without; AUC 0.83 (0.79 to 0.87)." in said and "bank b" in said
    assert "tube &lt;in&gt; place +0.2500" in said and "air -0.1250" in said
    assert "3 clusters of alike images measured, 2 below the AUC of all images." in said
    assert "Cluster 7 : 64 images, 22 positive, AUC 0.61 (0.48 to 0.73)" in said
    assert "Its partner, cluster 12 of other set : 88 images, 31 positive, AUC 0.90 (0.84 to 0.96)" in said
    assert "p &lt; 0.001 after correction: so low an area is unlikely by chance." in said
    assert "p = 0.250 after correction: so low an area may be chance." in said
    assert "marker +0.1250 0.002" in said and "No concept is stronger here" in said
    assert "cluster 1: 14 images, 3 positive: fewer than 20 images" in said
    assert "marker; tube -0.062 -0.090 to -0.030 -0.031" in said and "gas no AUC +0.000" in said


def test_all_measured_clusters_from_the_lowest():
    content = written(LABEL)
    table = content.split("All 3 clusters, the lowest first")[1].split("</table>")[0]
    lines = [re.findall(r"<td.*?>(.*?)</td>", line) for line in table.split("<tr>")[2:]]
    assert [(line[0], line[4], line[5]) for line in lines] == [
        ("cluster 7", "&lt; 0.001", "low"),
        ("cluster 3", "0.250", "low, perhaps by chance"),
        ("cluster 12", "0.900", ""),
    ]


def test_six_thumbnails_of_each_side_and_nothing_fetched():
    content = written(LABEL)
    # 6 of cluster 7, and 2 of the partner, once for each low cluster.
    assert content.count("<img ") == THUMBNAILS + 2 + 2 and "holds 10 images of patients" in content
    links = re.findall(r'(?:src|href)="(.*?)"', content)
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert "<script" not in content and "url(" not in content and "@import" not in content
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:" in content
    assert "@media screen and (max-width:40rem)" in content


@pytest.mark.parametrize("uri", ["https://x.org/a.png", 'data:image/png;base64,AA" onload="x', "data:text/html;base64,AA"])
def test_a_thumbnail_that_is_no_image_is_a_bug(uri):
    low = Cluster(7, 64, 22, 0.61, partner=HIGH, thumbnails=[uri])
    with pytest.raises(ContractError):
        written(Audited("Edema", 1, 1, clusters=[low]))


def test_hostile_words_are_text():
    hostile = "<script>x</script>"
    low = Cluster(7, 64, 22, 0.61, partner=HIGH, concepts=[Ranked(hostile, 1.0)], source=hostile)
    clusters = [low, Cluster(8, 1, 0, skipped=hostile)]
    label = Audited(hostile, 1, 1, data=[Ranked(hostile, 1.0)], clusters=clusters, removals=[Removal([hostile], 0.1, 0.1)])
    content = written(label, title=hostile, note=hostile)
    assert "<script" not in content and content.count("&lt;script&gt;") >= 7


def test_a_label_of_which_nothing_could_be_measured():
    said = text(written(Audited("Fracture", 2, 9)))
    assert "2 images with the label, 9 without; no AUC." in said
    assert "Where the model does worse" not in said and "without a concept" not in said and "of patients" not in said
    assert cells(written(Audited("Fracture", 2, 9)), "Fracture") == []
