"""The page of a concept audit: what a label stands for in the data, where a model does worse, what it does without a concept."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import ContractError
from engine.pages import figures, style
from engine.pages.contributions import CONTRIBUTIONS_STYLE, signed_bar
from engine.pages.highlight import shown
from engine.pages.tables import Column, table

THUMBNAILS = 6
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_PICTURE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/]+=*")
_RARE, _LEAST = 0.05, 0.001
_STYLE = """
h3 { font-size:1rem; margin:1.4rem 0 .2rem } details { margin:.8rem 0 } summary { cursor:pointer; font-weight:550 }
dt { font-weight:600; margin-top:.5rem } dd { margin:0 0 0 1rem }
.contrast { border-top:1px solid var(--line); margin-top:.9rem; padding-top:.7rem }
.sides { display:flex; flex-wrap:wrap; gap:.6rem 2rem } .sides > div { flex:1 1 20rem; min-width:0 }
.thumbs { display:grid; grid-template-columns:repeat(6,minmax(0,1fr)); gap:.3rem; margin:.3rem 0 }
.thumbs img { width:100%; aspect-ratio:1; object-fit:contain; background:#000; border-radius:.2rem }
.concepts table { min-width:0 } .skipped { margin:.3rem 0; padding-left:1.2rem }
@media screen and (max-width:40rem) { .thumbs { grid-template-columns:repeat(3,minmax(0,1fr)) } .sides > div { flex-basis:100% } }
"""


@dataclass(frozen=True)
class Ranked:
    """A concept with its score: a difference of mean cosines. `q`: how likely it is by chance, corrected for all concepts."""

    text: str
    score: float
    q: float | None = None


@dataclass(frozen=True)
class Cluster:
    """A cluster of alike images, `positives` of them with the label, and the model's area under the ROC curve in it with the ends
    of its interval. `q` is the p value of so low an area by chance, corrected for the number of clusters.

    A low cluster has a `partner`, the nearest one that is not low, and the `concepts` that are stronger in it than in the
    partner. `skipped` says why a cluster was not measured. `source` names its data set, if there are several. `thumbnails` are
    data URIs, see `pictures.data_uri`.
    """

    number: int
    images: int
    positives: int
    auroc: float | None = None
    auroc_low: float | None = None
    auroc_high: float | None = None
    q: float | None = None
    skipped: str = ""
    source: str = ""
    partner: "Cluster | None" = None
    concepts: Sequence[Ranked] = ()
    thumbnails: Sequence[str] = ()


@dataclass(frozen=True)
class Removal:
    """What a model does when the images are made alike in a set of concepts: change of the area under the ROC curve with the ends
    of its interval (None without both classes), and mean change of the label's probability."""

    concepts: Sequence[str]
    delta_auroc: float | None
    delta_prob: float
    delta_low: float | None = None
    delta_high: float | None = None


@dataclass(frozen=True)
class Audited:
    """A label: its images, the model's area under the ROC curve in all of them, and what each part of the audit says."""

    name: str
    positives: int
    negatives: int
    auroc: float | None = None
    auroc_low: float | None = None
    auroc_high: float | None = None
    data: Sequence[Ranked] = ()
    clusters: Sequence[Cluster] = ()
    removals: Sequence[Removal] = ()


@dataclass(frozen=True)
class Audit:
    """What the page shows. `level` is that of the intervals, `note` a line under the title, such as bank, model and data."""

    labels: Sequence[Audited]
    title: str = "Audit of concepts"
    note: str = ""
    level: float = 0.95


def page(audit: Mapping[str, Any]) -> str:
    """The page as HTML.

    Args:
        audit: the fields of an `Audit` as plain values, as `dataclasses.asdict` gives them or JSON holds them.
    Raises:
        ContractError: a thumbnail is no data URI of a PNG or JPEG.
    """
    read = _audit(audit)
    images = sum(len(side.thumbnails[:THUMBNAILS]) for label in read.labels for low in _low(label) for side in (low, low.partner))
    warning = (
        f'<p class="warning"><strong>This page holds {figures.counted(images, "image")} of patients.</strong> Keep it where the '
        "images themselves may be kept.</p>"
    )
    parts = [warning if images else "", *(_label(label) for label in read.labels), figures.reading(_terms(read.level))]
    return style.page(read.title, read.note, parts, CONTRIBUTIONS_STYLE + _STYLE, _POLICY).decode("utf-8")


def _audit(values: Mapping[str, Any]) -> Audit:
    def cluster(values: Mapping[str, Any] | None) -> Cluster | None:
        if values is None:
            return None
        concepts = [Ranked(**concept) for concept in values.get("concepts", ())]
        return Cluster(**{**values, "partner": cluster(values.get("partner")), "concepts": concepts})

    def label(values: Mapping[str, Any]) -> Audited:
        kinds = {"data": lambda each: Ranked(**each), "clusters": cluster, "removals": lambda each: Removal(**each)}
        return Audited(**{**values, **{name: [kind(each) for each in values.get(name, ())] for name, kind in kinds.items()}})

    return Audit(**{**values, "labels": [label(each) for each in values["labels"]]})


def _low(label: Audited) -> list[Cluster]:
    """The clusters with a partner, the lowest area first."""
    return sorted((each for each in label.clusters if each.partner), key=lambda each: each.auroc or 0.0)


def _label(label: Audited) -> str:
    counts = f"{label.positives:,} images with the label, {label.negatives:,} without; {_area(label)}."
    parts = [f"<p>{shown(counts)}</p>", _data(label), _model(label), _removals(label)]
    return figures.section(shown(label.name), *parts)


def _area(of: Audited | Cluster) -> str:
    if of.auroc is None:
        return "no AUC"
    ends = "" if of.auroc_low is None or of.auroc_high is None else f" ({of.auroc_low:.2f} to {of.auroc_high:.2f})"
    return f"AUC {of.auroc:.2f}{ends}"


def _data(label: Audited) -> str:
    if not label.data:
        return ""
    said = (
        '<p class="soft">The concepts by which images with the label differ most from those without. A concept that has nothing '
        "to do with the finding, such as a device or a marker, is a shortcut that a model may learn.</p>"
    )
    return f"<h3>What the label stands for in these images</h3>{said}{_ranked(label.data, 'difference of mean similarity')}"


def _ranked(concepts: Sequence[Ranked], heading: str) -> str:
    largest = max(abs(concept.score) for concept in concepts)
    rows = [
        [shown(c.text), signed_bar(c.score, largest), f"{c.score:+.4f}", "" if c.q is None else _chance(c.q)] for c in concepts
    ]
    columns = [Column("concept"), Column("less | more", wide=True), Column(heading, True), Column("p, corrected", True)]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return f'<div class="concepts">{table(columns, rows)}</div>'


def _chance(q: float) -> str:
    return f"&lt; {_LEAST}" if q < _LEAST else f"{q:.3f}"


def _model(label: Audited) -> str:
    measured = [each for each in label.clusters if not each.skipped]
    skipped = [each for each in label.clusters if each.skipped]
    low = _low(label)
    if not label.clusters:
        return ""
    told = f"{figures.counted(len(measured), 'cluster')} of alike images measured, {len(low)} below the AUC of all images."
    lines = [
        [f"cluster {c.number}", f"{c.images:,}", f"{c.positives:,}", _area(c), "" if c.q is None else _chance(c.q), _remark(c)]
        for c in sorted(measured, key=lambda each: each.auroc or 0.0)
    ]
    columns = [Column("cluster"), *(Column(name, True) for name in ("images", "positives", "AUC", "p, corrected")), Column("")]
    every = f"<details><summary>All {len(measured)} clusters, the lowest first</summary>{table(columns, lines)}</details>"
    left_out = "".join(
        f"<li>cluster {c.number}: {figures.counted(c.images, 'image')}, {c.positives:,} positive: {shown(c.skipped)}</li>"
        for c in skipped
    )
    if skipped:
        left_out = (
            f"<details><summary>{figures.counted(len(skipped), 'cluster')} not measured</summary>"
            f'<ul class="skipped">{left_out}</ul></details>'
        )
    contrasts = "".join(map(_contrast, low))
    return f"<h3>Where the model does worse</h3><p>{told}</p>{contrasts}{every if measured else ''}{left_out}"


def _remark(cluster: Cluster) -> str:
    if not cluster.partner:
        return ""
    return "low" if cluster.q is None or cluster.q < _RARE else "low, perhaps by chance"


def _contrast(low: Cluster) -> str:
    chance = ""
    if low.q is not None:
        rare = "so low an area is unlikely by chance" if low.q < _RARE else "so low an area may be chance"
        chance = f"<p>p {'=' * (low.q >= _LEAST)} {_chance(low.q)} after correction: {rare}.</p>"
    sides = f"{_side(low, 'Cluster')}{_side(low.partner, 'Its partner, cluster')}"
    concepts = '<p class="soft">No concept is stronger here than in the partner.</p>'
    if low.concepts:
        concepts = f"<p>Stronger in cluster {low.number} than in its partner:</p>{_ranked(low.concepts, 'difference')}"
    return f'<div class="contrast"><div class="sides">{sides}</div>{chance}{concepts}</div>'


def _side(cluster: Cluster, title: str) -> str:
    counts = f"{figures.counted(cluster.images, 'image')}, {cluster.positives:,} positive, {_area(cluster)}"
    of = f" of {shown(cluster.source)}" if cluster.source else ""
    pictures = "".join(_thumbnail(uri, f"cluster {cluster.number}") for uri in cluster.thumbnails[:THUMBNAILS])
    return f'<div><strong>{title} {cluster.number}{of}</strong>: {counts}<div class="thumbs">{pictures}</div></div>'


def _thumbnail(uri: str, alt: str) -> str:
    if not _PICTURE.fullmatch(uri):
        raise ContractError("a thumbnail is no data URI of a PNG or JPEG")
    return f'<img src="{uri}" alt="image of {alt}">'


def _removals(label: Audited) -> str:
    if not label.removals:
        return ""
    largest = max(abs(removal.delta_auroc or 0.0) for removal in label.removals)
    rows = []
    for removal in label.removals:
        change, ends = "no AUC", ""
        if removal.delta_auroc is not None:
            change = f"{removal.delta_auroc:+.3f}"
        if removal.delta_low is not None and removal.delta_high is not None:
            ends = f"{removal.delta_low:+.3f} to {removal.delta_high:+.3f}"
        bar = "" if removal.delta_auroc is None else signed_bar(removal.delta_auroc, largest)
        rows.append([shown("; ".join(removal.concepts)), bar, change, ends, f"{removal.delta_prob:+.3f}"])
    names = ("change of AUC", "interval", "mean change of probability")
    columns = [Column("without"), Column("falls | rises", wide=True), *(Column(name, True) for name in names)]
    said = (
        '<p class="soft">All images are made alike in these concepts, and the model answers again. If the AUC falls, the model '
        "used them; if it rises, they misled it.</p>"
    )
    return f'<h3>What the model does without a concept</h3>{said}<div class="concepts">{table(columns, rows)}</div>'


def _terms(level: float) -> dict[str, str]:
    return {
        "AUC": "Area under the ROC curve: the share of pairs of an image with the label and one without in which the model gives "
        f"the first the higher score. 0.5 is chance. In brackets the {level:.0%} interval.",
        "Cluster": "Images that are alike to the encoder. A cluster is low if its AUC lies below that of all images.",
        "p, corrected": "How often random images would do as badly, or differ as much, corrected for the number of comparisons "
        "(Benjamini and Hochberg). A large value means that the difference may be chance.",
        "Concept": "A phrase from reports. Its similarity to an image is a cosine; a stronger concept is no proof that the thing "
        "is in the image, so look at the images.",
        "Partner": "The nearest cluster that is not low, for comparison.",
    }
