"""Frame and style sheet of the pages: no outside font or file; light, dark and print."""

from collections.abc import Sequence

from engine.pages.highlight import STRENGTHS, shown

_BASE = """
:root { color-scheme: light dark; --paper:#f6f7f9; --card:#fff; --ink:#1b2430; --soft:#5a6675; --line:#dbe0e6;
  --for:37 99 235; --against:217 98 14; --auto:#1a7f4b; --review:#9a6200; --failed:#b3261e; --na:#5a6675;
  --lane0:#1d4ed8; --lane1:#9333ea; --lane2:#0f766e; --lane3:#be185d; --warn:#fff4d6; --warnline:#e2b93b; }
@media (prefers-color-scheme: dark) { :root { --paper:#11161c; --card:#1a212a; --ink:#e6eaef; --soft:#9aa7b5; --line:#313b47;
  --for:88 148 255; --against:255 150 66; --auto:#57c98b; --review:#e6b450; --failed:#ff8a80; --na:#9aa7b5;
  --lane0:#8ab4ff; --lane1:#d0a3ff; --lane2:#5fd3c4; --lane3:#ff9ac6; --warn:#3a3115; --warnline:#8a7020; } }
* { box-sizing:border-box } html { scroll-behavior:smooth }
body { margin:0; background:var(--paper); color:var(--ink); font:16px/1.5 system-ui,"Segoe UI",Helvetica,Arial,sans-serif }
main { max-width:70rem; margin:0 auto; padding:1.5rem 1rem 4rem }
h1 { font-size:1.7rem; margin:0 0 .3rem } h2 { font-size:1.05rem; margin:0; overflow-wrap:anywhere }
p { margin:.4rem 0 } a { color:inherit } .soft { color:var(--soft); font-size:.88rem; overflow-wrap:anywhere }
.warning { background:var(--warn); border:1px solid var(--warnline); border-radius:.5rem; padding:.6rem .9rem; margin:1rem 0 }
.tiles { display:flex; flex-wrap:wrap; gap:.6rem; margin:1rem 0; padding:0 }
.tile { background:var(--card); border:1px solid var(--line); border-radius:.5rem; padding:.5rem .9rem; min-width:7rem }
.tile b { display:block; font-size:1.3rem; font-variant-numeric:tabular-nums } .tile span { color:var(--soft); font-size:.85rem }
.bar { display:flex; height:.7rem; border-radius:.35rem; overflow:hidden; background:var(--line) }
.bar i { display:block; height:100% } .bar .auto { background:var(--auto) } .bar .review { background:var(--review) }
.bar .not_applicable { background:var(--na) } .bar .failed { background:var(--failed) }
.legend { display:flex; flex-wrap:wrap; gap:.3rem 1.4rem; align-items:center }
nav ol { columns:14rem; padding-left:1.6rem; font-size:.88rem } nav li { overflow-wrap:anywhere }
article { background:var(--card); border:1px solid var(--line); border-radius:.6rem; margin:1.4rem 0; padding:1rem 1.1rem }
article header { display:flex; flex-wrap:wrap; gap:.3rem .8rem; align-items:baseline }
.badge { border:1.5px solid currentColor; border-radius:1rem; padding:0 .6rem; font-size:.82rem; font-weight:600;
  white-space:nowrap }
.badge.auto { color:var(--auto) } .badge.review { color:var(--review) } .badge.failed { color:var(--failed) }
.badge.not_applicable { color:var(--na) }
ul.reasons { margin:.5rem 0; padding-left:1.2rem } ul.reasons code { color:var(--soft); font-size:.82rem }
.scroll { overflow-x:auto } table { border-collapse:collapse; width:100%; min-width:42rem; margin:.6rem 0; font-size:.92rem }
th, td { text-align:left; padding:.3rem .7rem .3rem 0; border-bottom:1px solid var(--line); vertical-align:top }
th { color:var(--soft); font-weight:500; font-size:.82rem } td.num { font-variant-numeric:tabular-nums; white-space:nowrap }
meter { width:4.5rem; vertical-align:middle } .code { font-weight:650; white-space:nowrap }
.chips { display:flex; flex-wrap:wrap; gap:.35rem; margin:.5rem 0; align-items:center; font-size:.92rem }
.chips a { text-decoration:none; overflow-wrap:anywhere }
.text { white-space:pre-wrap; overflow-wrap:anywhere; border:1px solid var(--line); border-radius:.4rem; padding:.7rem .9rem;
  max-height:24rem; overflow-y:auto; font:.92rem/1.75 ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace }
mark { color:inherit; background:none; border-radius:.15rem; padding:.08em 0; print-color-adjust:exact;
  -webkit-print-color-adjust:exact } mark:target, a:target + mark { outline:2px solid var(--ink) }
.gap { color:var(--soft); font-style:italic; display:block }
.swatch { display:inline-block; padding:0 .5rem }
.stack td.num, .stack th.num { text-align:right; padding-right:1.2rem }
@media screen and (max-width:40rem) { main { padding:1rem .7rem 3rem } article { padding:.8rem .9rem }
  .stack, .stack tbody { display:block; min-width:0 } .stack thead { display:none }
  .stack tr { display:grid; grid-template-columns:repeat(auto-fit,minmax(6rem,1fr)); gap:.2rem .8rem; padding:.5rem 0;
    border-bottom:1px solid var(--line) }
  .stack td { display:block; min-width:0; padding:0; border:0; overflow-wrap:anywhere }
  .stack td.num { text-align:left; padding:0; white-space:normal }
  .stack td:first-child, .stack td.wide { grid-column:1/-1 } .stack td:empty { display:none }
  .stack td[data-label]::before { content:attr(data-label); display:block; color:var(--soft); font-size:.78rem;
    line-height:1.25 } }
@media print { body { background:#fff } main { max-width:none; padding:0 } .text { max-height:none; overflow:visible }
  article { break-inside:auto; border-color:#bbb } article header, table, .chips { break-inside:avoid } nav { display:none } }
"""

_LANES = {
    "lane0": "border-bottom:2px solid var(--lane0)",
    "lane1": "text-decoration:underline 2px dashed var(--lane1); text-underline-offset:.32em",
    "lane2": "border-top:2px solid var(--lane2)",
    "lane3": "box-shadow:inset 0 .2em var(--lane3)",
}
# What a text says of an entity, see `engine.text.assertions`.
_LOOKS = {
    "negated": "text-decoration:line-through",
    "lane1.negated": "text-decoration:underline line-through",
    "uncertain": "font-style:italic; opacity:.75",
    "historical": "font-style:italic; opacity:.75",
    "relative": "font-style:italic; opacity:.75",
}


def style() -> str:
    rules = [_BASE]
    for step in range(1, STRENGTHS + 1):
        alpha = round(0.06 + 0.54 * step / STRENGTHS, 3)
        rules += [f".{sign}{step} {{ background:rgb(var(--{sign}) / {alpha}) }}" for sign in ("for", "against")]
    rules += [f".{name} {{ {rule} }}" for name, rule in (_LANES | _LOOKS).items()]
    return "\n".join(rules)


def page(
    title: str,
    note: str,
    parts: Sequence[str],
    more: str = "",
    policy: str = "default-src 'none'; style-src 'unsafe-inline'",
    script: str = "",
) -> bytes:
    """A whole self-contained page.

    Args:
        note: a line under the title. parts: HTML, in order. more: further CSS rules. policy: the content security policy.
        script: HTML after the parts.
    """
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{shown(title)}</title><style>{style()}{more}</style></head><body><main>",
        f"<h1>{shown(title)}</h1>",
        f'<p class="soft">{shown(note)}</p>' if note else "",
        *parts,
        f"</main>{script}</body></html>\n",
    ]
    return "\n".join(lines).encode("utf-8")
