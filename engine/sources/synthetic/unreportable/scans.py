"""Scans of pages without words, and documents that an interface cannot show."""

import base64
from collections.abc import Callable

from engine.sources.synthetic.unreportable.grammar import Writer
from engine.sources.synthetic.unreportable.layouts import scanned

_STROKES = "IIIIIIll|||11!i[]/T"
_SPECKS = (".", ",", "'", "`", "-", "_", "~", "^", ":", ";", "·", '"', "*", "¬", "°", "•")
_RULES = ("_", "-", "=", "|", "+", ".", "─", "│", "┼", "┌", "┐", "└", "═", "#")
_GLYPHS = ("■", "□", "�", "¤", "§", "¶", "þ", "Ã¼", "â€™", "Â", "ï»¿", "ÿ", "¿", "½", "Ð", "×", "¨", "\u00ad", "\f", "º", "ª")
# The beginnings of several file formats.
_OPENINGS = (
    "%PDF-1.{p}\n%\xe2\xe3\xcf\xd3\n{n} 0 obj\n<</Type/Catalog/Pages {p} 0 R>>\nendobj\n"
    "<</Length {n}/Filter/FlateDecode>>stream\nx\x9c",
    "II*\x00\x08\x00\x00\x00\x0e\x00\xfe\x00\x04\x00",
    "\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x01\x00\x60",
    "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
    "PK\x03\x04\x14\x00\x06\x00\x08\x00\x00\x00!\x00[Content_Types].xml ",
    "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
    "",
)


def _lines(marks: tuple[str, ...], most: int, blank: float) -> Callable[[Writer], str]:
    """A few lines of random marks."""

    def make(writer: Writer) -> str:
        # A page repeats few of the marks.
        few = [writer.pick(marks) for _ in range(writer.between(2, 6))]

        def mark() -> str:
            return " " * writer.between(1, 3) if writer.chance(blank) else writer.pick(few)

        lines = ("".join(mark() for _ in range(writer.between(2, most))) for _ in range(writer.between(1, 9)))
        return "\n".join(lines).strip(" ") or few[0]

    return make


def _bar_code(writer: Writer) -> str:
    lines = []
    for _ in range(writer.between(1, 5)):
        # Most bars look like one letter.
        most, common = writer.pick("IIl|1"), writer.rng.random()
        lines.append(" ".join(_bars(writer, most, common) for _ in range(writer.between(2, 30))))
        if writer.chance(0.35):
            lines.append(writer.symbol("bar_code_digits"))
    return writer.pick(("\n", " ", "\n\n")).join(lines)


def _bars(writer: Writer, most: str, common: float) -> str:
    return "".join(
        most if writer.chance(common) else writer.pick(_STROKES) for _ in range(int(12 * writer.rng.random() ** 2) + 1)
    )


def _torn(writer: Writer) -> str:
    """Syllables that almost form words."""
    words = []
    for _ in range(writer.between(6, 140)):
        word = "".join(writer.symbol("syllable") for _ in range(writer.between(1, 4)))
        words.append(writer.pick((word, word, word, word.upper(), word + writer.pick(_SPECKS), writer.pick(_STROKES))))
        words.append("\n" if writer.chance(0.1) else " ")
    return "".join(words).strip()


def _worn(writer: Writer) -> str:
    """A worn page with few readable words."""
    return scanned(writer.symbol("worn_page"), writer, writer.rng.uniform(0.5, 0.95))


def _mixed(writer: Writer) -> str:
    parts = [writer.pick((_bar_code, _specks, _torn, _ruled, _glyphs, _worn))(writer) for _ in range(writer.between(2, 4))]
    return "\n".join(parts)


def _bytes(writer: Writer) -> bytes:
    """A document of 60 to 6,000 bytes: short ones are as frequent as long ones."""
    size = int(60 * 100 ** writer.rng.random())
    opening = writer.pick(_OPENINGS).replace("{p}", str(writer.between(2, 7))).replace("{n}", str(writer.between(1, 999)))
    opening = opening.encode("latin-1")
    return (opening + writer.rng.randbytes(size))[: max(size, len(opening))]


def _broken_into(text: str, width: int) -> str:
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


def _base64(writer: Writer) -> str:
    content = writer.symbol("rtf_document").encode() if writer.chance(0.2) else _bytes(writer)
    text = base64.b64encode(content).decode()
    if writer.chance(0.15):
        text = text[: int(len(text) * writer.rng.uniform(0.4, 0.95))]
    draw = writer.rng.random()
    if draw < 0.3:
        return text
    if draw < 0.7:
        text = _broken_into(text, writer.pick((60, 64, 72, 76)))
        return f"{writer.symbol('mime_head')}\n\n{text}" if draw < 0.5 else text
    if draw < 0.85:
        return f"OBX|1|ED|{writer.symbol('observation_id')}||{writer.symbol('ed_head')}^Base64^{text}||||||F"
    return f"{writer.symbol('data_uri')};base64,{text}"


def _hex_dump(writer: Writer) -> str:
    content = _bytes(writer)[:1500]
    if writer.chance(0.3):
        return content.hex() if writer.chance(0.5) else content.hex(" ", writer.pick((1, 2, 4))).upper()
    lines = []
    for at in range(0, len(content), 16):
        row = content[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' '):<47}  |{shown}|")
    return "\n".join(lines)


def _ascii85(writer: Writer) -> str:
    text = base64.a85encode(_bytes(writer)).decode()
    return f"<~{_broken_into(text, 75)}~>"


def _base32(writer: Writer) -> str:
    return _broken_into(base64.b32encode(_bytes(writer)).decode(), writer.pick((48, 64, 10_000)))


def _percent(writer: Writer) -> str:
    content = _bytes(writer)[:800] if writer.chance(0.5) else writer.symbol("rtf_document").encode()[:900]
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02X}" for byte in content)


def _armour(writer: Writer) -> str:
    what = writer.pick(("PGP MESSAGE", "PGP PUBLIC KEY BLOCK", "CERTIFICATE", "PKCS7", "ENCRYPTED DOCUMENT"))
    body = _broken_into(base64.b64encode(_bytes(writer)).decode(), 64)
    return f"-----BEGIN {what}-----\n{body}\n-----END {what}-----"


_specks, _ruled, _glyphs = _lines(_SPECKS, 60, 0.5), _lines(_RULES, 90, 0.15), _lines(_GLYPHS, 70, 0.2)

MAKERS = {
    "bar_code": _bar_code,
    "specks": _specks,
    "ruled_lines": _ruled,
    "glyphs": _glyphs,
    "torn": _torn,
    "worn": _worn,
    "mixed": _mixed,
    "base64": _base64,
    "hex_dump": _hex_dump,
    "ascii85": _ascii85,
    "base32": _base32,
    "percent": _percent,
    "armour": _armour,
}
