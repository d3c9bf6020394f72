"""A self-contained page that shows image studies with the run's findings, where in the image they rest, and the concepts they are
sums of: no outside resource, and one script of its own."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.pages import cards, words
from engine.pages.contributions import CONTRIBUTIONS_STYLE, checked_sum, concepts_table
from engine.pages.highlight import shown
from engine.pages.pictures import Picture, Study
from engine.pages.sifting import POLICY, SCRIPT, SIFT_STYLE, sift, sifted_by
from engine.pages.style import page
from engine.records import FAILED, FINDINGS
from engine.storage import storage_for

_POSITIVE, _UNCLEAR, _NEGATIVE, _UNANSWERED = "positive", "unclear", "negative", "unanswered"
_ORDER = (_POSITIVE, _UNCLEAR, _NEGATIVE, _UNANSWERED)
_NOT_ANSWERED = "not answered"
_ALONE = "image alone"
_KEPT_CHARS = 120
_STYLE = """
.study { display:flex; flex-wrap:wrap; gap:1rem 1.6rem; align-items:flex-start } .look { flex:1 1 20rem; min-width:0 }
.study > .labels { flex:1.2 1 22rem; min-width:0 } .one .look { max-width:30rem } .many .look { flex-basis:100% }
nav ol { column-gap:2rem } .many ol { columns:22rem 2; column-gap:2rem }
.views { display:flex; flex-wrap:wrap; gap:.8rem } .views figure { margin:0; flex:1 1 15rem; max-width:30rem; min-width:0 }
figcaption { color:var(--soft); font-size:.82rem } .view { display:block; width:100%; height:auto; max-height:34rem;
  background:#000; border-radius:.3rem }
.none { border:1px dashed var(--soft); border-radius:.3rem; padding:1.2rem .9rem; color:var(--soft) }
.pick { position:absolute; opacity:0; pointer-events:none } .chips label { border:1px solid var(--line); border-radius:1rem;
  padding:.1rem .7rem; cursor:pointer } .patches { display:none }
.patch { stroke-width:1.5; vector-effect:non-scaling-stroke; fill:#ffd166; stroke:#ffd166 }
.patch.against { fill:#4cc9f0; stroke:#4cc9f0; stroke-dasharray:5 3 }
.key svg { width:1.7rem; height:1rem; vertical-align:-.15rem; margin-right:.35rem; background:#555 }
.labels ol { list-style:none; margin:0; padding:0 } .labels li { display:grid; grid-template-columns:minmax(0,1fr) auto auto;
  gap:0 .8rem; padding:.35rem 0 .3rem; border-bottom:1px solid var(--line); align-items:baseline; break-inside:avoid }
.labels .name { overflow-wrap:anywhere } .labels .value { font-variant-numeric:tabular-nums; min-width:4.2rem; text-align:right }
.state { font-size:.82rem; border:1.5px solid transparent; border-radius:1rem; padding:0 .55rem; white-space:nowrap }
.state.positive { background:var(--ink); color:var(--card); font-weight:600 } .positive .name, .unclear .name { font-weight:600 }
.state.unclear { border-color:var(--review); border-style:dashed; color:var(--review); font-weight:600 }
.state.negative, .state.unanswered { color:var(--soft) }
.track { position:relative; grid-column:1/-1; height:.62rem; margin:.4rem 0 .3rem; background:var(--line);
  border-radius:.2rem; print-color-adjust:exact; -webkit-print-color-adjust:exact }
.track i { position:absolute; top:0; height:100% } .track .prob { left:0; background:var(--lane0); border-radius:.2rem }
.track i.zone { top:-.18rem; height:.98rem; border:1px solid var(--review); border-width:0 1px;
  background:repeating-linear-gradient(45deg,var(--review) 0 1.5px,transparent 1.5px 6px) }
.track i.at { top:-.25rem; height:1.12rem; width:3px; margin-left:-1.5px; background:var(--ink); outline:1px solid var(--card) }
.labels .soft { grid-column:1/-1; font-size:.8rem } .legend .track { display:inline-block; width:5rem; margin:0 .3rem 0 0 }
.verdict { font-size:1.05rem; margin:.5rem 0 } .verdict, summary, .chips label { overflow-wrap:anywhere }
details { margin:.7rem 0 } summary { cursor:pointer; font-weight:600 }
@media screen and (max-width:40rem) { nav ol { columns:1 } .study > .labels, .look, .views figure { flex-basis:100% }
  .chips label { padding:.3rem .8rem } .labels .unclear { grid-template-columns:minmax(0,1fr) auto }
  .labels .unclear .state { grid-row:2; justify-self:start } }
"""


def write_findings_page(path: str, title: str, studies: Sequence[Study], summary: Mapping[str, object], note: str = "") -> None:
    """Writes the page, whole or not at all.

    Args:
        studies: in the order of the page. summary, note: as for `write_evidence_page`.
    """
    labels = words.decisions(FINDINGS)
    images = sum(isinstance(picture, Picture) for study in studies for picture in study.pictures)
    most = max((len(_places(study.row)) for study in studies), default=0)
    parts = [
        f'<p class="warning"><strong>This page holds {images:,} {"image" if images == 1 else "images"} of patients.</strong> '
        "Keep it where the images themselves may be kept. They are reduced copies, not for diagnosis.</p>",
        cards.tiles(summary, labels),
        _LEGEND,
        sift(studies, labels, "studies"),
        _list(studies, labels),
        *(_card(number, study, labels) for number, study in enumerate(studies, 1)),
    ]
    style = _STYLE + CONTRIBUTIONS_STYLE + SIFT_STYLE + _picks(most + 1)
    with storage_for(path).writer(path) as file:
        file.write(page(title, note, parts, style, f"{POLICY}; img-src data:", f"<script>{SCRIPT}</script>"))


def _swatch(patch: str) -> str:
    box = f'<rect class="{patch}" x="2" y="2" width="23" height="12" fill-opacity=".4"/>'
    return f'<span class="key"><svg viewBox="0 0 27 16" aria-hidden="true">{box}</svg>'


_LEGEND = (
    '<p class="legend soft"><span><span class="track"><i class="prob" style="width:70%"></i>'
    '<i class="zone" style="left:40%;width:25%"></i><i class="at" style="left:50%"></i></span>'
    "Bar: probability; upright line: the finding's threshold; hatched: too near the threshold to be clear</span>"
    f"{_swatch('patch')}patch that speaks for the finding</span>{_swatch('patch against')}dashed: against it</span>"
    "<span>Strength of colour: weight among the finding's patches</span></p>"
)


def _picks(most: int) -> str:
    """The rules by which the n-th button of a card shows the n-th group of patches, without script."""
    shows = ", ".join(f".pick:nth-of-type({n}):checked ~ .views .patches:nth-of-type({n})" for n in range(1, most + 1))
    marked = ", ".join(f".pick:nth-of-type({n}):checked ~ .chips label:nth-of-type({n})" for n in range(1, most + 1))
    ring = ", ".join(f".pick:nth-of-type({n}):focus-visible ~ .chips label:nth-of-type({n})" for n in range(1, most + 1))
    return (
        f"{shows} {{ display:inline }}\n{marked} {{ background:var(--ink); color:var(--card) }}\n"
        f"{ring} {{ outline:2px solid var(--lane0); outline-offset:2px }}\n"
    )


def _list(studies: Sequence[Study], labels: Mapping[str, str]) -> str:
    entries = []
    for number, study in enumerate(studies, 1):
        row = study.row
        names = ", ".join(label["name"] for label in _labels(row) if _state(label) == _POSITIVE)
        told = labels[row["decision"]] + (f": {names}" if names else "")
        entries.append(
            f'<li value="{number}" {sifted_by(row)}><a href="#r{number}">{shown(str(row["record_id"]))}</a> '
            f'<span class="soft">{shown(told)}</span></li>'
        )
    return f"<nav><ol>{''.join(entries)}</ol></nav>"


def _card(number: int, study: Study, labels: Mapping[str, str]) -> str:
    row = study.row
    head = (
        f'<article id="r{number}" {sifted_by(row)}><header><h2>{number}. {shown(str(row["record_id"]))}</h2>'
        f"{cards.badge(row['decision'], labels[row['decision']])}{_kept(row)}</header>"
    )
    if row["decision"] == FAILED:
        return f"{head}{cards.failure(row)}</article>"
    answers = _labels(row)
    items = "".join(map(_item, answers))
    count = "many" if len(study.pictures) > 1 else "one"
    return (
        f'{head}{cards.reasons(row["reasons"])}{_verdict(answers)}<div class="study {count}">{_look(number, study)}'
        f'<div class="labels"><ol>{items}</ol></div></div>{_concepts(row, answers)}</article>'
    )


def _kept(row: Mapping[str, Any]) -> str:
    """The columns that the user passed through; they stand behind the digest of the model."""
    names = list(row)
    kept = names[names.index("model_digest") + 1 :] if "model_digest" in names else []
    values = [f"{name}: {str(row[name])[:_KEPT_CHARS]}" for name in kept if row[name] is not None]
    return f'<span class="soft">{shown(", ".join(values))}</span>' if values else ""


def _labels(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Positive, unclear, negative, then findings that are not answered; within each the most probable first."""
    return sorted(row["labels"] or (), key=lambda label: (_ORDER.index(_state(label)), -(label["prob"] or 0.0)))


def _state(label: Mapping[str, Any]) -> str:
    """A finding that is not known to be clear of its threshold is unclear, whatever side it is on."""
    if label["pred"] is None:
        return _UNANSWERED
    if not label["clear"]:
        return _UNCLEAR
    return _POSITIVE if label["pred"] else _NEGATIVE


def _state_words(label: Mapping[str, Any]) -> str:
    state = _state(label)
    if state != _UNCLEAR:
        return _NOT_ANSWERED if state == _UNANSWERED else state
    return f"unclear, rather {_POSITIVE if label['pred'] else _NEGATIVE}"


def _verdict(answers: Sequence[Mapping[str, Any]]) -> str:
    named = {state: [label["name"] for label in answers if _state(label) == state] for state in _ORDER}
    parts = [f"<strong>{state.capitalize()}:</strong> {shown(', '.join(named[state]))}." for state in _ORDER[:2] if named[state]]
    if named[_UNANSWERED]:
        parts.append(f"<strong>{_NOT_ANSWERED.capitalize()}:</strong> {shown(', '.join(named[_UNANSWERED]))}.")
    negative = len(named[_NEGATIVE])
    if negative:
        parts.append(f"<strong>Negative:</strong> {'the other ' if parts else 'all '}{negative}.")
    return f'<p class="verdict">{" ".join(parts) or "No findings are listed."}</p>'


def _item(label: Mapping[str, Any]) -> str:
    state, prob, threshold = _state(label), label["prob"], label["threshold"]
    marks, told = "", []
    if prob is not None:
        marks += f'<i class="prob" style="width:{100 * prob:.2f}%"></i>'
    if label["lower"] is not None and label["upper"] is not None:
        lower, upper = label["lower"], label["upper"]
        marks += f'<i class="zone" style="left:{100 * lower:.2f}%;width:{100 * (upper - lower):.2f}%"></i>'
        told.append(f"unclear from {cards.percent(lower)} to {cards.percent(upper)}")
    else:
        told.append("nothing is promised for this finding")
    if threshold is not None:
        marks += f'<i class="at" style="left:{100 * threshold:.2f}%"></i>'
    told.insert(0, "no threshold" if threshold is None else f"threshold {cards.percent(threshold)}")
    value = "unknown" if prob is None else cards.percent(prob)
    return (
        f'<li class="{state}"><span class="name">{shown(label["name"])}</span>'
        f'<span class="state {state}">{_state_words(label)}</span><span class="value">{value}</span>'
        f'<div class="track" aria-hidden="true">{marks}</div>'
        f'<span class="soft">{", ".join(told)}</span></li>'
    )


def _places(row: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The patches of each finding that has any, in the order of the findings."""
    regions = row["evidence"] or ()
    names = dict.fromkeys([*(label["name"] for label in _labels(row)), *(region["label"] for region in regions)])
    places = {name: [region for region in regions if region["label"] == name] for name in names}
    return {name: patches for name, patches in places.items() if patches}


def _look(number: int, study: Study) -> str:
    """The images, and one button for each finding whose patches can be laid over them."""
    places = _places(study.row) if any(isinstance(picture, Picture) for picture in study.pictures) else {}
    buttons, chips = "", ""
    for at, name in enumerate([*places, _ALONE] if places else []):
        anchor = f"p{number}-{at}"
        buttons += f'<input class="pick" type="radio" name="p{number}" id="{anchor}" autocomplete="off"{" checked" * (not at)}>'
        chips += f'<label for="{anchor}">{shown(name)}</label>'
    if chips:
        chips = f'<p class="chips"><span class="soft">Patches of</span> {chips}</p>'
    views = "".join(_view(at, study, places) for at in range(len(study.pictures)))
    return f'<div class="look">{buttons}{chips}<div class="views">{views}</div></div>'


def _view(at: int, study: Study, places: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    picture, image = study.pictures[at], study.row["images"][at]
    total = len(study.pictures)
    caption = [f"image {at + 1} of {total}" if total > 1 else "image"]
    caption += [f"frame {image['frame'] + 1}"] if image["frame"] else []
    caption += [f"{image['width']:,} × {image['height']:,} pixels"] if image["width"] else []
    told = f"<figcaption>{', '.join(caption)}</figcaption>"
    if isinstance(picture, str):
        return f'<figure><div class="none">{shown(picture)}</div>{told}</figure>'
    size, upright = f'width="{picture.width}" height="{picture.height}"', " ".join(map(str, picture.upright))
    groups = "".join(
        f'<g class="patches">{"".join(_patch(r, patches) for r in patches if r["image"] == at)}</g>'
        for patches in places.values()
    )
    return (
        f'<figure><svg class="view" viewBox="0 0 {upright}" role="img" aria-label="{caption[0]}">'
        f'<g transform="matrix({" ".join(map(str, picture.matrix))})">'
        f'<image href="{picture.uri}" {size} preserveAspectRatio="none"/>{groups}</g></svg>{told}</figure>'
    )


def _patch(region: Mapping[str, Any], of_finding: Sequence[Mapping[str, Any]]) -> str:
    weight, score = region["weight"] or 0.0, region["score"] or 0.0
    strongest = max(other["weight"] or 0.0 for other in of_finding)
    share = 0.15 + 0.85 * (weight / strongest if strongest > 0 else 0.0)
    x, y = region["x0"], region["y0"]
    width, height = region["x1"] - x, region["y1"] - y
    said = f"{shown(region['label'])}: score {score:+.3f}, weight {weight:.1%}"
    return (
        f'<rect class="patch{" against" * (score < 0)}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill-opacity="{0.5 * share:.2f}" stroke-opacity="{share:.2f}"><title>{said}</title></rect>'
    )


def _concepts(row: Mapping[str, Any], answers: Sequence[Mapping[str, Any]]) -> str:
    """For each positive or unclear finding the concepts that it is a sum of; the first is unfolded."""
    blocks = []
    for label in answers:
        concepts = [concept for concept in row["concepts"] or () if concept["label"] == label["name"]]
        contents = concepts_table(concepts) + checked_sum(label, concepts, row["n_concepts"])
        if _state(label) in _ORDER[:2] and contents:
            title = f"{shown(label['name'])}, {_state_words(label)}: the concepts for and against"
            blocks.append(f"<details{' open' * (not blocks)}><summary>{title}</summary>{contents}</details>")
    return "".join(blocks)
