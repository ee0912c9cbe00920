"""Reports as one HTML file: pictures inside, no scripts, nothing fetched, every text escaped.

A page is a list of blocks. Names of cases, structures and models may hold anything, so only this module writes tags.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.io.write import write_text

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #5b6570; --line: #d5dae0; --page: #fff; --shade: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --soft: #9aa5b1; --line: #3a424b; --page: #14181c; --shade: #1d2329; }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
       max-width: 68rem; margin: 0 auto; padding: 1rem; overflow-wrap: break-word; }
h1 { line-height: 1.2; margin: .5rem 0; } h2 { margin: 2.2rem 0 .6rem; line-height: 1.25; }
.lead { font-size: 1.1rem; } figcaption, footer { color: var(--soft); }
.scroll { overflow-x: auto; }
.table figcaption { padding-bottom: .4rem; break-after: avoid; }
table { border-collapse: collapse; min-width: min(100%, 24rem); font-size: .875rem; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
thead th { border-bottom-width: 2px; }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--page); }
@media (max-width: 40rem) { th:first-child, td:first-child { max-width: 40vw; } }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.total { font-weight: 600; }
meter { width: 8rem; max-width: 25vw; vertical-align: middle; }
figure { margin: 1.2rem 0; break-inside: avoid; overflow-x: auto; }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
img { max-width: max(100%, 36rem); height: auto; background: #fff; border-radius: 4px; display: block; }
.gallery figure { margin: 0; } .gallery img { max-width: max(100%, 26rem); }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; background: var(--shade);
      border: 1px solid var(--line); border-radius: 4px; padding: .6rem; }
footer { margin-top: 3rem; font-size: .85rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; } pre { font-size: 8pt; }
  img, .gallery img { max-width: 100%; max-height: 12cm; }
  table { font-size: 8.5pt; } th, td { padding-right: .5rem; } .long { break-inside: auto; }
  h2 { break-after: avoid; } tr { break-inside: avoid; } .scroll { overflow: visible; }
}
"""
MEDIA = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg"}
DASH = "–"
WHOLE_ROWS = 16  # tables up to this length stay on one printed page


@dataclass(frozen=True)
class Heading:
    """Heading of a section."""

    text: str

    def html(self) -> str:
        """Return the tags."""
        return f"<h2>{escape(self.text)}</h2>"


@dataclass(frozen=True)
class Text:
    """Paragraph."""

    text: str

    def html(self) -> str:
        """Return the tags."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Meter:
    """A number from 0 to 1 in a table, with a bar beside it."""

    value: float | None


Cell = str | float | int | Meter | None


@dataclass(frozen=True)
class Table:
    """Table of texts and numbers.

    Attributes:
        header: one text per column.
        rows: numbers are right-aligned, integers as they are; None is a dash.
        caption: above the table.
        total_rows: how many rows at the end are printed bold.
        digits: decimals of numbers that are no integers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    total_rows: int = 0
    digits: int = 3

    def html(self) -> str:
        """Return the tags."""
        numeric = [self._is_numeric(column) for column in range(len(self.header))]
        head = "".join(f"<th{_number(n)}>{escape(text)}</th>" for text, n in zip(self.header, numeric, strict=True))
        body = []
        for i, row in enumerate(self.rows):
            total = ' class="total"' if i >= len(self.rows) - self.total_rows else ""
            cells = "".join(f"<td{_number(n)}>{self._cell(v)}</td>" for v, n in zip(row, numeric, strict=True))
            body.append(f"<tr{total}>{cells}</tr>")
        # Above the part that scrolls: a caption inside a wide table would be cut on a phone.
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        return (
            f'<figure class="table{" long" if len(self.rows) > WHOLE_ROWS else ""}">{caption}<div class="scroll">'
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div></figure>"
        )

    def _is_numeric(self, column: int) -> bool:
        values = [row[column] for row in self.rows if row[column] is not None]
        return bool(values) and all(isinstance(v, (int, float, Meter)) for v in values)

    def _cell(self, value: Cell) -> str:
        if isinstance(value, Meter):
            if value.value is None or value.value != value.value:
                return DASH
            share = min(max(value.value, 0.0), 1.0)
            return f'<meter min="0" max="1" value="{share:.3f}"></meter> {value.value:.{self.digits}f}'
        if value is None or value != value:
            return DASH
        if isinstance(value, str):
            return escape(value)
        return f"{value}" if isinstance(value, int) else f"{value:.{self.digits}f}"


def _number(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


@dataclass(frozen=True)
class Picture:
    """An image file, written into the page."""

    path: Path
    caption: str

    def html(self) -> str:
        """Return the tags.

        Raises:
            DatasetError: the file is no picture that pages show.
        """
        kind = MEDIA.get(Path(self.path).suffix.lower())
        if kind is None:
            raise DatasetError(f"{self.path}: a report shows {', '.join(MEDIA)}; save the picture as one of these")
        data = base64.b64encode(Path(self.path).read_bytes()).decode("ascii")
        text = escape(self.caption)
        return f'<figure><img src="data:{kind};base64,{data}" alt="{text}"><figcaption>{text}</figcaption></figure>'


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side where the page is wide enough."""

    pictures: Sequence[Picture]

    def html(self) -> str:
        """Return the tags."""
        return f'<div class="gallery">{"".join(picture.html() for picture in self.pictures)}</div>'


@dataclass(frozen=True)
class Code:
    """Text in lines as they are."""

    text: str

    def html(self) -> str:
        """Return the tags."""
        return f"<pre>{escape(self.text)}</pre>"


Block = Heading | Text | Table | Picture | Gallery | Code


@dataclass(frozen=True)
class Page:
    """A report: `lead` is its answer in a sentence or two, `footer` how it was made."""

    title: str
    lead: str
    sections: Sequence[Block]
    footer: str = ""

    def html(self) -> str:
        """Return the tags."""
        title = escape(self.title)
        parts = [f"<h1>{title}</h1>", f'<p class="lead">{escape(self.lead)}</p>' if self.lead else ""]
        parts += [block.html() for block in self.sections]
        parts += [f"<footer>{escape(self.footer)}</footer>" if self.footer else ""]
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
            + "\n".join(part for part in parts if part)
            + "\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> Path:
        """Write the page and return its path.

        Raises:
            WriteError: it cannot be written.
        """
        write_text(path, self.html())
        return Path(path)
