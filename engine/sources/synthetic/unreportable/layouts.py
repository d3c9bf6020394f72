"""Layouts of a document: its sections as paragraphs, lists, telegrams, lines of a message, or a bad scan of these.

A line `#dx Benign.` of a document is a section with the label of the symbol `label_dx`. Other lines have no label.
"""

import re
import textwrap

from engine.sources.synthetic.unreportable.grammar import Writer

Sections = list[tuple[str, str]]

_SECTION = re.compile(r"#(\w+) (.*)")
_SENTENCE_END = re.compile(r"(?<=[a-z)]{2}\.) (?=[A-Z])")
# The sections of a report that is noted in haste.
_HASTY = ("dx", "cytology", "impression", "result", "clinical", "indication", "specimen")
_DIAGNOSIS = ("dx: ", "", "DX - ", "imp: ")
_SHORT_LABELS = {
    "dx": _DIAGNOSIS,
    "cytology": _DIAGNOSIS,
    "impression": _DIAGNOSIS,
    "result": ("res: ", "", "= "),
    "clinical": ("hx: ", "clin: ", "CI: "),
    "indication": ("hx: ", "ind: ", "CI: "),
    "specimen": ("spec: ", "", "sp "),
}
_SHORTER = [
    (re.compile(rf"\b{words}\b", re.IGNORECASE), short)
    for words, short in (
        ("no evidence of", "no e/o"),
        ("evidence of", "e/o"),
        ("negative for", "neg for"),
        ("history of", "h/o"),
        ("rule out", "r/o"),
        ("status post", "s/p"),
        ("(?:biopsy|biopsies)", "bx"),
        ("with", "w/"),
        ("without", "w/o"),
        ("patient", "pt"),
        ("(?:specimen|specimens)", "spec"),
        ("chronic", "chr"),
        ("(?:the|an?|is|are|there) ", ""),
        ("malignancy", "malig"),
        ("carcinoma", "ca"),
        ("diagnosis", "dx"),
        ("moderate", "mod"),
        ("lymph nodes", "LNs"),
        ("immunohistochemistry", "IHC"),
        ("identified", "id'd"),
    )
]
_MISREAD = str.maketrans({"l": "1", "I": "l", "O": "0", "o": "0", "e": "c", "B": "8", "S": "5", "g": "9", "h": "b", "u": "ii"})
_MISREAD_PAIRS = (
    *(("rn", "m"), ("m", "rn"), ("cl", "d"), ("d", "cl"), ("fi", "ﬁ")),
    *(("ti", "b"), ("nn", "un"), ("w", "vv"), ("li", "h")),
)
_STRAY = ("|", "'", ".", "~", "`", "_", "·", "^", "*", "¦", "—", "\\", ",", "°")


def lay_out(layout: str, document: str, writer: Writer) -> str:
    """The document in one of `LAYOUTS`."""
    return LAYOUTS[layout](_sections(document), writer).strip("\n")


def _sections(document: str) -> Sections:
    matches = [(_SECTION.fullmatch(line), line) for line in document.split("\n")]
    return [(match[1], match[2]) if match else ("", line) for match, line in matches]


def _label(name: str, writer: Writer) -> str:
    """The label of a section, the same throughout a record."""
    return writer.same(f"label_{name}")


def _plain(sections: Sections, writer: Writer) -> str:
    return "\n".join(f"{_label(name, writer)}: {body}" if name else body for name, body in sections)


def _narrative(sections: Sections, writer: Writer) -> str:
    draw = writer.rng.random()
    if draw < 0.2:
        return " ".join(body if body[-1] in ".:;,!?" else f"{body}." for name, body in sections if body)
    gap, after = writer.pick((("\n", ": "), ("\n\n", ": "), ("\n\n", ":\n"), ("\n", " - "), ("\n\n", "\n")))
    shout, text, listed = writer.chance(0.5), "", False
    for name, body in sections:
        # Lines without a label are lists, which are not spaced.
        text += ("\n" if listed and not name else gap) if text else ""
        listed = not name
        label = _label(name, writer) if name else ""
        text += f"{label.upper() if shout else label}{after}{body}" if name else body
    return text


def _synoptic(sections: Sections, writer: Writer) -> str:
    between = writer.pick((": ", ":\t", " ..... ", " = ", " | ", ":  "))
    bullet = writer.pick(("  - ", "   ", "\t* ", "  > ", "- "))
    width = writer.pick((0, 0, 22, 28))
    lines = []
    for name, body in sections:
        sentences = [sentence.rstrip(".") for sentence in _SENTENCE_END.split(body)]
        if not name:
            lines += sentences
        elif len(sentences) == 1:
            lines.append(f"{_label(name, writer):<{width}}{between}{sentences[0]}")
        else:
            lines.append(f"{_label(name, writer)}:")
            lines += [bullet + sentence for sentence in sentences]
    return "\n".join(lines)


def _telegraphic(sections: Sections, writer: Writer) -> str:
    words = []
    for name, body in [section for section in sections if section[0] in _HASTY] or sections:
        for pattern, short in _SHORTER:
            if writer.chance(0.7):
                body = pattern.sub(short, body)
        words.append(writer.pick(_SHORT_LABELS.get(name, ("",))) + body.rstrip("."))
    text = writer.pick(("; ", "\n", " // ", ". ")).join(words)
    return text.lower() if writer.chance(0.5) else text


def _wrapped(sections: Sections, writer: Writer) -> str:
    width, indent = writer.between(38, 82), writer.pick(("", "", "  ", "     "))
    lines = []
    for paragraph in _narrative(sections, writer).split("\n"):
        lines += textwrap.wrap(paragraph, width, subsequent_indent=indent) or [""]
    if len(lines) > 8 and writer.chance(0.4):
        at = writer.between(4, len(lines) - 2)
        lines[at:at] = ["", writer.symbol("page_break"), ""]
    return "\n".join(lines)


def _hl7(sections: Sections, writer: Writer) -> str:
    lines = [line for line in _plain(sections, writer).split("\n") if line]
    # A single line is numbered only in a message.
    draw = writer.rng.random() if len(lines) > 1 else 0.0
    if draw < 0.35:
        set_id = writer.symbol("observation_id")
        return "\r".join(f"OBX|{at}|TX|{set_id}||{_escaped(line)}||||||F" for at, line in enumerate(lines, 1))
    if draw < 0.6:
        return "\\.br\\".join(map(_escaped, lines))
    if draw < 0.75:
        return "~".join(lines)
    before, after = ("NTE|", "||") if draw < 0.85 else ("", "  ")
    return "\n".join(f"{before}{at:03d}{after}{line}" for at, line in enumerate(lines, 1))


def _escaped(line: str) -> str:
    return line.replace("&", "\\T\\").replace("|", "\\F\\")


def _ocr(sections: Sections, writer: Writer) -> str:
    text = _wrapped(sections, writer) if writer.chance(0.7) else _narrative(sections, writer)
    if writer.chance(0.3):
        text = text.upper()
    return scanned(text, writer, writer.rng.uniform(0.02, 0.14))


def scanned(text: str, writer: Writer, damage: float) -> str:
    """The text of a scanned worn page; `damage` is the share of misread words."""
    words, chance, pick = re.split(r"( |\n)", text), writer.rng.random, writer.pick
    for at, word in enumerate(words):
        if chance() >= damage or not word.strip():
            continue
        draw, place = chance(), int(chance() * len(word))
        if draw < 0.4:
            words[at] = word[:place] + word[place:].translate(_MISREAD)
        elif draw < 0.6:
            words[at] = word.replace(*pick(_MISREAD_PAIRS))
        elif draw < 0.75:
            words[at] = f"{word[:place]} {word[place:]}"
        elif draw < 0.9:
            words[at] = f"{word} {pick(_STRAY)}" if chance() < 0.5 else f"{pick(_STRAY)}{word}"
        elif len(word) > 4:
            words[at] = word[:place] + word[place + 1 :]
    if chance() < 0.5:
        stray = "".join(pick((*_STRAY, " ", " ", " ")) for _ in range(writer.between(3, 40)))
        words.insert(0 if chance() < 0.5 else len(words), f"\n{stray}\n")
    return "".join(words)


LAYOUTS = {
    "plain": _plain,
    "narrative": _narrative,
    "synoptic": _synoptic,
    "telegraphic": _telegraphic,
    "capitals": lambda sections, writer: _narrative(sections, writer).upper(),
    "wrapped": _wrapped,
    "hl7": _hl7,
    "ocr": _ocr,
}
