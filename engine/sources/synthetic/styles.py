"""The writing styles of the synthetic corpus, as templates, and the draft that they fill.

A template is text with slots in braces. `{ls}` and `{Ls}` write laterality and site term, `{h}` and `{H}` the histology; these
pieces are remembered, and become the gold evidence. `{gross}`, `{micro}`, `{close}` take as many sentences as the wanted length
leaves room for. The other slots are small facts of the case, or another template (`{dx}`, `{label}`).
"""

import random
import re
from dataclasses import dataclass, field

from engine.sources.synthetic import vocabulary
from engine.sources.synthetic.vocabulary import Phrases, Site

Parts = tuple[tuple[str, str], ...]

# How often to look for a sentence of another template before a repetition is taken; long texts need some.
_REDRAWS = 3


@dataclass(frozen=True)
class Case:
    """The facts that a patient's reports share."""

    site: Site
    histology: str
    phrases: Phrases
    sex: str
    side: str
    facility: str
    metastatic: bool


@dataclass(frozen=True)
class Style:
    """One way to write. `core` is its length in words before any sentence is added, `shares` how the rest is divided."""

    name: str
    weight: int
    core: int
    alternatives: tuple[Parts, ...]
    shares: dict[str, float]
    noise: str = ""


@dataclass
class Draft:
    """A report being written: its pieces, and which of them name the site and the histology."""

    case: Case
    rng: random.Random
    room: float
    shares: dict[str, float]
    term: str
    word: str
    procedure: str
    pieces: list[str] = field(default_factory=list)
    site_marks: list[int] = field(default_factory=list)
    histology_marks: list[int] = field(default_factory=list)
    used: set[tuple[int, int]] = field(default_factory=set)

    def write(self, parts: Parts) -> None:
        append = self.pieces.append
        for literal, slot in parts:
            if literal:
                append(literal)
            if slot:
                _FILL[slot](self)

    def pick(self, options):
        return options[int(self.rng.random() * len(options))]


def compile_template(text: str) -> Parts:
    """Literal and slot by turns."""
    found = re.split(r"\{(\w+)\}", text)
    found.append("")
    return tuple(zip(found[::2], found[1::2], strict=True))


def _site(draft: Draft, capital: bool) -> None:
    term = draft.term if draft.rng.random() < 0.8 else draft.pick(draft.case.site.terms)
    if draft.case.side and "left" not in term and "right" not in term:
        draft.pieces.append(f"{draft.case.side.capitalize() if capital else draft.case.side} ")
    elif capital:
        term = term[0].upper() + term[1:]
    draft.site_marks.append(len(draft.pieces))
    draft.pieces.append(term)


def _histology(draft: Draft, capital: bool) -> None:
    word = draft.word if draft.rng.random() < 0.85 else draft.pick(draft.case.phrases.words)
    draft.histology_marks.append(len(draft.pieces))
    draft.pieces.append(word[0].upper() + word[1:] if capital else word)


def _sentences(slot: str, kinds: tuple[str, ...]):
    """Fills a slot with sentences of these kinds until its share of the room is used up; always one at least."""

    def fill(draft: Draft) -> None:
        pools = [_pool(kind, draft.case) for kind in kinds]
        room = draft.room * draft.shares.get(slot, 0.0)
        random, pieces, many = draft.rng.random, draft.pieces, len(pools)
        used, again = draft.used, 0
        while True:
            pool = pools[int(random() * many)]
            sentence, words, template = pool[int(random() * len(pool))]
            if (id(pool), template) in used and again < _REDRAWS:
                again += 1
                continue
            used.add((id(pool), template))
            again = 0
            pieces.append(sentence)
            room -= words
            if room < words / 2:
                return
            pieces.append(" ")

    return fill


def _pool(kind: str, case: Case) -> tuple[vocabulary.Sentence, ...]:
    if kind == "away":
        return vocabulary.elsewhere(case.site.code, case.sex)
    family, group = case.phrases.family, case.site.group
    if kind == "ihc":
        return vocabulary.pool(kind, family, f"{family}@{group}")
    return vocabulary.pool(kind, family if kind == "micro" else group)


def _dx(draft: Draft) -> None:
    draft.write(draft.pick(_DIAGNOSES[_kind(draft.case)]))


def _label(draft: Draft) -> None:
    draft.write(draft.pick(_LABELS[_kind(draft.case)]))


def _kind(case: Case) -> str:
    if case.site.code == "C80":
        return "unknown"
    if case.metastatic:
        return "metastatic"
    return "plain" if case.site.group in vocabulary.SYSTEMIC else "organ"


def _one(pool: str):
    return lambda draft: draft.pieces.append(draft.pick(_SMALL[pool]))


def _differentiation(draft: Draft) -> None:
    if draft.case.histology.endswith("/3") and draft.case.phrases.family in _GRADED:
        draft.pieces.append(draft.pick(_SMALL["differentiation"]))


def _number(low: int, high: int):
    return lambda draft: draft.pieces.append(str(low + int(draft.rng.random() * (high - low))))


def _date(draft: Draft) -> None:
    r = int(draft.rng.random() * 28 * 12 * 20)
    draft.pieces.append(f"{2004 + r // 336}-{r // 28 % 12 + 1:02d}-{r % 28 + 1:02d}")


def _word(get):
    return lambda draft: draft.pieces.append(get(draft))


_SMALL = {
    "differentiation": ("well differentiated ", "moderately differentiated ", "poorly differentiated ", "", "", "", "grade 2 "),
    "spread": ("Liver", "Lung", "Bone", "Brain", "Lymph node", "Pleural fluid", "Omentum", "Soft tissue", "Left adrenal", "Skin"),
    "taken": ("core needle biopsy", "excisional biopsy", "fine needle aspiration", "resection", "biopsy", "cytology"),
    "negative": ("negative for malignancy", "no tumor seen", "benign", "free of tumor", "reactive changes only"),
    "other_part": (
        "Regional lymph nodes",
        "Additional margin",
        "Soft tissue",
        "Skin",
        "Omentum",
        "Sentinel lymph node",
        "Vessel",
    ),
    "size": ("0.4", "0.9", "1.2", "1.8", "2.1", "2.7", "3.4", "4.0", "5.5", "6.8", "9.1", "12.3"),
    "pt": ("pT1", "pT1a", "pT1c", "pT2", "pT2b", "pT3", "pT3a", "pT4", "pT4b", "pTis", "ypT2"),
    "pn": ("pN0", "pN1", "pN1a", "pN2", "pNX", "Nx", "N0"),
    "grade": ("G1", "G2", "G3", "GX", "low grade", "high grade", "not applicable"),
    "yes": ("not identified", "present", "absent", "cannot be determined", "suspicious"),
}
_GRADED = frozenset({"adeno", "squamous", "carcinoma", "ductal", "urothelial", "liver"})

_FILL = {
    "ls": lambda draft: _site(draft, False),
    "Ls": lambda draft: _site(draft, True),
    "h": lambda draft: _histology(draft, False),
    "H": lambda draft: _histology(draft, True),
    "d": _differentiation,
    "dx": _dx,
    "label": _label,
    "gross": _sentences("gross", ("gross",)),
    "micro": _sentences("micro", ("micro", "micro", "ihc")),
    "close": _sentences("close", ("close", "close", "away")),
    "away": _sentences("away", ("away",)),
    "history": lambda draft: draft.pieces.append(draft.pick(vocabulary.history(draft.case.sex))[0]),
    "p": _word(lambda draft: draft.procedure),
    "P": _word(lambda draft: draft.procedure[0].upper() + draft.procedure[1:]),
    "sex": _word(lambda draft: draft.case.sex),
    "side": _word(lambda draft: draft.case.side or "not applicable"),
    "facility": _word(lambda draft: draft.case.facility),
    "age": _number(18, 92),
    "n": _number(1, 25),
    "case": _number(1000, 99999),
    "yy": _number(10, 26),
    "date": _date,
    **{name: _one(name) for name in _SMALL},
}


def _compiled(*texts: str) -> tuple[Parts, ...]:
    return tuple(map(compile_template, texts))


_DIAGNOSES = {
    "organ": _compiled(
        "{Ls}, {p}:\n   {d}{h}.",
        "{Ls}, {p}: {d}{h}.",
        "{Ls} ({p}): {H}, {grade}.",
        "{P}, {ls}: {d}{h}.",
        "{H} of the {ls}, {size} cm.",
        "{P} specimen showing {d}{h} arising in the {ls}.",
        "{Ls}:\n - {H}, {grade}\n - tumor size {size} cm\n - {pt} {pn}",
        "{Ls}; {p}; {d}{h}; {pt}.",
    ),
    "plain": _compiled(
        "{Ls}, {p}:\n   {h}.",
        "{Ls}: {H}.",
        "{P}, {ls}: {h}.",
        "{Ls}, {p} - {h}.",
        "{H}. Specimen: {ls}.",
    ),
    "metastatic": _compiled(
        "{spread}, {taken}: Metastatic {d}{h}, consistent with {ls} primary.",
        "{spread}, {taken}:\n   Metastatic {h}; findings support origin in the {ls}.",
        "{spread}: {H}, metastatic from known primary of the {ls}.",
        "Metastatic {h} in {spread} specimen ({taken}). Primary: {ls}.",
        "{spread}, {taken}: involved by {d}{h}; the patient's {ls} tumor is the source.",
    ),
    "unknown": _compiled(
        "{spread}, {taken}: Metastatic {d}{h}, {ls}.",
        "{spread}, {taken}:\n   {H}. Comment: {ls} after clinical and imaging work-up.",
        "{spread} ({taken}): metastatic {h}; {ls}.",
        "{H}, {spread}. {Ls}; the immunoprofile does not point to one organ.",
    ),
}
_LABELS = {
    "organ": _compiled("{Ls}, {p}", "{Ls}", "{P}, {ls}", "{Ls} ({p})", "{Ls} mass"),
    "plain": _compiled("{Ls}", "{Ls}, {p}", "{P}"),
    "metastatic": _compiled("{spread}, {taken}", "{spread}"),
    "unknown": _compiled("{spread}, {taken}", "{spread} lesion"),
}

STYLES = (
    Style(
        "sectioned",
        24,
        56,
        _compiled(
            "{facility}\nSURGICAL PATHOLOGY REPORT\nCase: S{yy}-{case}   Collected: {date}\n\nCLINICAL HISTORY:\n{history}\n\n"
            "SPECIMEN:\n{label}\n\nGROSS DESCRIPTION:\n{gross}\n\nMICROSCOPIC DESCRIPTION:\n{micro}\n\n"
            "FINAL DIAGNOSIS:\n{dx}\n\nCOMMENT:\n{close}\n",
            "FINAL DIAGNOSIS:\n{dx}\n\nCLINICAL HISTORY: {history}\nSPECIMEN SUBMITTED: {label}\nGROSS:\n{gross}\n"
            "MICROSCOPIC:\n{micro}\nNOTE:\n{close}\nElectronically signed by Path-{n}, {date}\n",
            "Accession {case}\nClinical data: {history}\nMaterial: {label}\nGross description: {gross}\n"
            "Microscopic description: {micro}\nDiagnosis: {dx}\n{close}",
        ),
        {"gross": 0.4, "micro": 0.35, "close": 0.25},
    ),
    Style(
        "synoptic",
        14,
        62,
        _compiled(
            "{facility}\nSYNOPTIC REPORT\nProcedure: {p}\nTumor Site: {Ls}\nSpecimen Laterality: {side}\n"
            "Tumor Size: {size} cm\nHistologic Type: {H}\nHistologic Grade: {grade}\nLymphovascular Invasion: {yes}\n"
            "Perineural Invasion: {yes}\nRegional Lymph Nodes: {n} examined\nPathologic Stage: {pt} {pn}\n"
            "Comment: {close}\nGross: {gross}\nMicroscopy: {micro}\n",
            "TUMOR SUMMARY\n- Specimen: {label}\n- Site of tumor: {ls}\n- Laterality: {side}\n- Histologic type: {d}{h}\n"
            "- Grade: {grade}\n- Greatest dimension: {size} cm\n- Margins: {yes}\n- Stage (AJCC): {pt}, {pn}\n"
            "- Ancillary studies: {micro}\n- Additional findings: {close}\n\nGross description: {gross}\n",
        ),
        {"gross": 0.4, "micro": 0.35, "close": 0.25},
    ),
    Style(
        "terse",
        4,
        12,
        _compiled("{dx}", "{dx} {pt} {pn}.", "Dx: {dx}", "{label}. {dx}", "{history} {dx}"),
        {"close": 0.0, "gross": 0.0},
    ),
    Style(
        "narrative",
        16,
        40,
        _compiled(
            "This {age}-year-old {sex} underwent {p}. {gross} On microscopy, {micro} In summary: {dx} {close}",
            "{history} We received tissue labelled {label} from {facility}. {gross} {micro} The findings are those of: {dx} {close}",
            "{micro} {close} These features lead to the diagnosis: {dx} {gross}",
        ),
        {"gross": 0.35, "micro": 0.4, "close": 0.25},
    ),
    Style(
        "parts",
        14,
        45,
        _compiled(
            "DIAGNOSIS\nA. {dx}\nB. {other_part}: {negative}.\nC. {other_part}: {negative}.\nD. {away}\n\nGross\n{gross}\n"
            "Micro\n{micro}\n{close}",
            "PART 1: {other_part} -\n{negative}.\nPART 2: {dx}\nPART 3: {other_part} -\n{negative}.\nNOTES: {close} {away}\n"
            "GROSS: {gross}\nMICROSCOPIC: {micro}",
        ),
        {"gross": 0.45, "micro": 0.3, "close": 0.25},
    ),
    Style(
        "dot_matrix",
        10,
        46,
        _compiled(
            "{facility}\nPATH NO {case}   AGE {age}   SEX {sex}\nTISSUE: {label}\nGROSS: {gross}\nMICRO: {micro}\nDIAGNOSIS: {dx}\n{close}",
            "DIAGNOSIS:\n{dx}\n{close}\nHISTORY: {history}\nGROSS: {gross}\nMICROSCOPIC: {micro}\nPATH-{n} {date}",
        ),
        {"gross": 0.4, "micro": 0.35, "close": 0.25},
        "dot_matrix",
    ),
    Style(
        "dictated",
        8,
        38,
        _compiled(
            "dictation {date} period clinical information {history} specimen is {label}. {gross} {micro} final diagnosis {dx} {close}",
            "okay next case number {case}. {history} {gross} slides show {micro} so the diagnosis is {dx} {close}",
        ),
        {"gross": 0.4, "micro": 0.35, "close": 0.25},
        "lower",
    ),
    Style(
        "addendum",
        8,
        50,
        _compiled(
            "CONSULTATION REPORT, {facility}.\nReferred slides ({n}) from outside case {case}. Submitted diagnosis: see below. {history}\n\n"
            "{micro} {gross}\n\nOur diagnosis: {dx}\n\nADDENDUM ({date}): {close} The original diagnosis is unchanged.",
            "AMENDED REPORT. Reason: additional stains. {dx} {away}\n\nADDENDUM: {micro}\n\nPrior text: {label}. {gross} {close}",
        ),
        {"gross": 0.35, "micro": 0.4, "close": 0.25},
        "double_blanks",
    ),
    Style(
        "unicode",
        6,
        46,
        _compiled(
            "{facility} – Service d’anatomie pathologique\nRéf. {case} • {date}\n{history}\nMaterial: {label}\n→ {dx}\n"
            "Gross: {gross}\nMicroscopy: {micro}\nNote: section 4 µm, margin ≤ 1 mm, 37 °C; {close}",
            "« {label} » – {facility}\n{gross} {micro}\nConclusion: {dx} ± {close}",
        ),
        {"gross": 0.4, "micro": 0.35, "close": 0.25},
        "symbols",
    ),
)
