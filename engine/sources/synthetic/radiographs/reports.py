"""The report of a study, in its site's style, and the noise that real reports have: findings left out, hedged, or another study's
report in their place. `sentences.json` has the sentences of both sites; all are our own.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from engine.records import in_share, seed_of
from engine.sources.synthetic.grammar import Symbols, Writer, compile_symbols
from engine.sources.synthetic.radiographs.study import Sign, Study

LEFT_OUT, HEDGED, COPIED = "left_out", "hedged", "copied"
# How often a report denies what is not there.
_DENIED = {
    **{"Pneumothorax": 0.75, "Pleural Effusion": 0.75, "Consolidation": 0.5, "Cardiomegaly": 0.6, "Edema": 0.3},
    **{"Enlarged Cardiomediastinum": 0.4, "Fracture": 0.25, "Pneumonia": 0.15, "Lung Lesion": 0.08, "Lung Opacity": 0.1},
    **{"Atelectasis": 0.05, "Pleural Other": 0.04},
}
# What `no ...` can list in one sentence.
_LISTED = {"Consolidation": "focal consolidation", "Pleural Effusion": "pleural effusion", "Pneumothorax": "pneumothorax"}
_OPACITIES = {"Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"}
_DEGREES, _AMOUNTS = ("mild", "moderate", "severe"), ("small", "moderate", "large")


@dataclass(frozen=True)
class Noise:
    """Shares: of present findings left out of the report, of mentioned ones hedged."""

    left_out: float
    hedged: float


def write(study: Study, noise: Noise) -> tuple[str, list[str]]:
    """The report, and the kinds of noise in it."""
    rng = random.Random(seed_of(study.record_id, "report"))
    states = study.states
    left_out = {name for name, state in states.items() if state and in_share(study.record_id, noise.left_out, LEFT_OUT, name)}
    left_out.discard("No Finding")
    signs = [sign for sign in study.signs if sign.name not in left_out]
    hedged = {sign.name for sign in signs if in_share(study.record_id, noise.hedged, HEDGED, sign.name)}
    findings, impression = [], []
    for sign in signs:
        said, noun = _sentences(study.site, sign, rng, sign.name in hedged)
        findings.append(said)
        impression.append(noun)
    if not any(states[name] for name in _OPACITIES) and rng.random() < 0.6:
        findings.append(_writer(study.site, rng).symbol("clear"))
    findings += _denials(study, rng)
    if study.marker:
        findings.append(_writer(study.site, rng).symbol("marker"))
    if all(sign.name == "Support Devices" for sign in signs):
        impression.append(_writer(study.site, rng).symbol("normal"))
    kinds = [kind for kind, names in ((LEFT_OUT, left_out), (HEDGED, hedged)) if names]
    return _laid_out(study, findings, impression), kinds


def _sentences(site: str, sign: Sign, rng: random.Random, hedged: bool) -> tuple[str, str]:
    """What the findings and the impression say of a sign."""
    writer, name = _writer(site, rng, sign), sign.kind if sign.name == "Support Devices" else sign.name
    said = "hedge" if hedged else "summary"
    both = []
    for alone in (not hedged, False):
        writer.fixed["what"] = writer.symbol(f"{name} noun")
        both.append(writer.symbol(name if alone else said))
    return both[0], both[1]


def _denials(study: Study, rng: random.Random) -> Iterator[str]:
    """Sentences on what is not there."""
    denied = [name for name, share in _DENIED.items() if not study.states[name] and rng.random() < share]
    listed = [name for name in denied if name in _LISTED]
    writer = _writer(study.site, rng)
    if len(listed) > 1 and rng.random() < 0.5:
        *first, last = (_LISTED[name] for name in listed)
        writer.fixed["what"] = f"{', '.join(first)} or {last}"
        yield writer.symbol("no")
        denied = [name for name in denied if name not in listed]
    for name in denied:
        yield writer.symbol(f"{name} absent")


def _laid_out(study: Study, findings: list[str], impression: list[str]) -> str:
    findings = findings or impression
    if study.site == "north":
        return f"FINDINGS: {' '.join(findings)}\nIMPRESSION: {' '.join(impression)}"
    numbered = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(impression, 1))
    return f"CHEST {study.view}\nFindings:\n" + "\n".join(f"- {said}" for said in findings) + f"\nImpression:\n{numbered}"


def _writer(site: str, rng: random.Random, sign: Sign | None = None) -> Writer:
    words: dict[str, str] = {}
    if sign:
        third = min(int(sign.size * 3), 2)
        lobe = "lingula" if (sign.side, sign.zone) == ("left", "mid") else f"{sign.side} {_lobe(sign.zone)} lobe"
        words = {"side": sign.side, "zone": sign.zone, "lobe": lobe, "degree": _DEGREES[third], "amount": _AMOUNTS[third]}
    return Writer(rng, case={word: ((text,),) for word, text in words.items()}, shared=_symbols(site))


def _lobe(zone: str) -> str:
    return "middle" if zone == "mid" else zone


@cache
def _symbols(site: str) -> Symbols:
    text = resources.files(__package__).joinpath("sentences.json").read_text(encoding="utf-8")
    return compile_symbols(json.loads(text)[site])
