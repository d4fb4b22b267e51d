"""HTML of one page with everything inside it: no scripts, nothing from the net, images as data.

Cells and texts are markup: whoever makes them escapes what is not the program's own words.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Collection, Sequence
from io import BytesIO

from matplotlib.figure import Figure
from PIL import Image

_DPI = 160
_PLAIN_DPI = 96  # a browser's pixels per inch: pictures are shown at their nominal size, and sharp on dense screens
_STYLE = """
html { color-scheme: light dark }
:root { --ink: #1d2530; --soft: #66707d; --line: #dfe3e8; --better: #1c7a3d; --worse: #b3261e }
* { box-sizing: border-box }
body { font: 15px/1.55 system-ui, sans-serif; margin: 0; color: var(--ink); background: #f3f5f7 }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.2rem 4rem }
section, header { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.5rem 1.2rem;
  margin: 0 0 1.2rem }
h1 { font-size: 1.6rem; margin: .2rem 0 .4rem } h2 { font-size: 1.15rem; margin: .2rem 0 .6rem }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem } p { margin: .4rem 0; max-width: 50rem }
.soft, figcaption { color: var(--soft); font-size: .88rem }
.lead { font-size: 1.08rem } .better { color: var(--better) } .worse { color: var(--worse) }
.wide { overflow-x: auto } img { max-width: 100%; height: auto; display: block } figure { margin: .6rem 0 }
table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .28rem .9rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th { font-weight: 600; color: var(--soft) } th:first-child, td:first-child { text-align: left; padding-left: 0 }
.big td { font-size: 1.05rem } .interval { color: var(--soft); font-size: .85rem; display: block }
.pair { display: flex; flex-wrap: wrap; gap: 0 3rem } .object { border-top: 1px solid var(--line); padding: .5rem 0 }
.object p { margin: 0 0 .3rem } .object b { font-weight: 600 }
details summary { cursor: pointer } .list { columns: 14rem; margin: .4rem 0; padding: 0; list-style: none }
td.words, th.words, .soft, h1, li { overflow-wrap: anywhere }
td.words { white-space: normal; min-width: 8rem; max-width: 18rem }
figure { overflow-x: auto } pre { font-size: .85rem; margin: .4rem 0 } figure img { border-radius: 4px }
@media (max-width: 40rem) {
  main { padding: .6rem .5rem 2rem } section, header { padding: .7rem .8rem .8rem } h1 { font-size: 1.3rem }
  th, td { padding: .28rem .45rem } .interval { white-space: normal }
  td.words { min-width: 6rem } th { white-space: normal }
  td.words:not(:first-child) { white-space: nowrap; max-width: none }
  figure img { max-width: none; width: auto; height: auto; max-height: 26rem; min-width: 34rem }
}
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ed; --soft: #9aa5b1; --line: #343c46; --better: #5fce85; --worse: #ff8a80 }
  body { background: #12161b } section, header { background: #1b2128 }
  img { background: #fff; border-radius: 4px } figure img { padding: 4px }
}
@media print { body { background: #fff } section, header { border: 0; padding: 0 } .object { break-inside: avoid } }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """The whole document; empty sections are left out."""
    return (
        '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, sections))
        + "\n</main></body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>\n" + "\n".join(filter(None, parts)) + "\n</section>"


def soft(text: str) -> str:
    return f'<p class="soft">{text}</p>' if text else ""


def folded(title: str, names: Sequence[str]) -> str:
    """A list of plain names that opens when asked to."""
    entries = "".join(f"<li>{html.escape(name)}</li>" for name in names)
    return f'<details class="soft"><summary>{html.escape(title)}</summary><ul class="list">{entries}</ul></details>'


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(rows: Sequence[Sequence[str]], kind: str = "", words: Collection[int] = (0,)) -> str:
    """The first row is the head; `words` are the columns whose cells may be broken into lines."""

    def line(row: Sequence[str], tag: str) -> str:
        kinds = (' class="words"' if column in words else "" for column in range(len(row)))
        return "<tr>" + "".join(f"<{tag}{of}>{cell}</{tag}>" for of, cell in zip(kinds, row, strict=True)) + "</tr>"

    head, *body = rows
    lines = [line(head, "th"), *(line(row, "td") for row in body)]
    named = f' class="{kind}"' if kind else ""
    return f'<div class="wide"><table{named}>' + "".join(lines) + "</table></div>"


def figure(figure: Figure, alt: str) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    width = round(figure.get_size_inches()[0] * _PLAIN_DPI)
    return f"<figure>{embedded(buffer.getvalue(), alt, width)}</figure>"


def image(picture: Image.Image, alt: str) -> str:
    buffer = BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return embedded(buffer.getvalue(), alt, picture.width)


def embedded(png: bytes, alt: str, width: int) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{html.escape(alt)}" width="{width}" src="data:image/png;base64,{data}">'
