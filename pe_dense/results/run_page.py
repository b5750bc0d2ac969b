"""One run as one HTML file: curves, worst and best items, confusion, data, command; no network.

Whatever comes from a run (names of classes and files, options, scores) is escaped text. The page
runs no script at all and may load nothing: its policy allows its own style and the pictures in it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np

from pe_dense.results.confusion import Confusion

PAGE = Path(__file__).parent / "page"
MAX_CLASSES = 30  # of a matrix that is shown whole
_MAX_POINTS = 400  # of a curve: more are not seen
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 340, 180, 66, 10, 24


@dataclass(frozen=True)
class Curve:
    """A number over the steps of a training.

    Attributes:
        name: 'loss'.
        points: (step, value), in the order of the steps; values that are not finite are gaps.
        unit: Of the steps: 'step', 'epoch'.
    """

    name: str
    points: Sequence[tuple[float, float]]
    unit: str = "step"


@dataclass(frozen=True)
class Picture:
    """One item: a JPEG file's bytes, and its scores and name in words."""

    jpeg: bytes
    words: str


@dataclass(frozen=True)
class RunPage:
    """All that the page of a run shows; what is empty is left out.

    Attributes:
        title: The name of the recipe.
        about: One sentence.
        facts: Name and value of each line at the top.
        loud: Names of facts that must not be overlooked.
        scores: Name and value, the main one first.
        curves: Of the training.
        worst: The items with the lowest scores, the worst first.
        best: The items with the highest, the best first.
        seen: Of which items worst and best are, in words.
        pictures: Further pictures: heading, what they show, and the pictures, by section.
        confusion: What was taken for what.
        data: Table of the data as the run printed it.
        commands: Command lines, to be typed.
        versions: Library -> version.
    """

    title: str
    about: str = ""
    facts: Sequence[tuple[str, str]] = ()
    loud: Sequence[str] = ()
    scores: Sequence[tuple[str, str]] = ()
    curves: Sequence[Curve] = ()
    worst: Sequence[Picture] = ()
    best: Sequence[Picture] = ()
    seen: str = ""
    pictures: Sequence[tuple[str, str, Sequence[Picture]]] = ()
    confusion: Confusion | None = None
    data: str = ""
    commands: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def render_run_page(page: RunPage) -> str:
    """The file's text; equal pages give equal bytes.

    Example:
        >>> text = render_run_page(RunPage("a<b", facts=[("encoder", "pe")]))
        >>> "<title>a&lt;b</title>" in text, "<script" in text
        (True, False)
    """
    style = "".join((PAGE / name).read_text(encoding="ascii") for name in ("page.css", "run.css"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    parts = [
        f"<h1>{_text(page.title)}</h1>",
        f'<p class="about">{_text(page.about)}</p>' if page.about else "",
        _facts(page.facts, page.loud),
        _section("Scores", _facts(page.scores)) if page.scores else "",
        *(_pictures(heading, shown, about) for heading, about, shown in page.pictures),
        _curves(page.curves),
        _pictures("Worst items", page.worst, page.seen),
        _pictures("Best items", page.best, page.seen),
        "" if page.confusion is None else _confusion(page.confusion),
        _section("Data", f"<pre>{_text(page.data)}</pre>") if page.data else "",
        _commands(page.commands),
        _section("Versions", _facts(list(page.versions.items()))) if page.versions else "",
    ]
    body = "\n".join(filter(None, parts))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(page.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _text(value: str) -> str:
    """Escaped, without what no page may hold: lone surrogates of file names, control characters."""
    plain = value.encode("utf-8", "replace").decode()
    kept = (sign if sign in "\n\t" or sign.isprintable() else "\ufffd" for sign in plain)
    return escape("".join(kept))


def _section(heading: str, inner: str) -> str:
    return f"<section>\n<h2>{_text(heading)}</h2>\n{inner}\n</section>"


def _facts(rows: Sequence[tuple[str, str]], loud: Sequence[str] = ()) -> str:
    if not rows:
        return ""
    lines = []
    for name, value in rows:
        mark = ' class="loud"' if name in loud else ""
        lines.append(f"<dt>{_text(name)}</dt><dd{mark}>{_text(value)}</dd>")
    return '<dl class="facts">' + "\n".join(lines) + "</dl>"


def _commands(commands: Sequence[str]) -> str:
    if not commands:
        return ""
    lines = "".join(f'<pre class="wrapped">{_text(line)}</pre>' for line in commands)
    return _section("Command" if len(commands) == 1 else "Commands", lines)


def _pictures(heading: str, pictures: Sequence[Picture], seen: str) -> str:
    if not pictures:
        return ""
    shown = []
    for picture in pictures:
        data = base64.b64encode(picture.jpeg).decode()
        shown.append(
            f'<figure><img alt="{_text(picture.words)}" src="data:image/jpeg;base64,{data}">'
            f"<figcaption>{_text(picture.words)}</figcaption></figure>"
        )
    about = f'<p class="note">{_text(seen)}</p>' if seen else ""
    return _section(heading, f'{about}<div class="pictures">{"".join(shown)}</div>')


# ---- curves ----------------------------------------------------------------------------------


def _curves(curves: Sequence[Curve]) -> str:
    drawn = [chart(curve) for curve in curves]
    if not any(drawn):
        return ""
    return _section("Curves", f'<div class="curves">{"".join(drawn)}</div>')


def thinned(points: Sequence[tuple[float, float]], limit: int = _MAX_POINTS) -> list[np.ndarray]:
    """Points that are drawn, (P, 2) for each piece between gaps; means where there are too many.

    Example:
        >>> [piece.tolist() for piece in thinned([(1, 2), (2, float("nan")), (3, 4)])]
        [[[1.0, 2.0]], [[3.0, 4.0]]]
    """
    if len(points) == 0:
        return []
    array_N2 = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    if len(array_N2) > limit:
        groups = np.array_split(array_N2, limit)
        array_N2 = np.stack([group.mean(0) for group in groups])  # nan of a group with one
    is_good_N = np.isfinite(array_N2).all(1)
    breaks = np.flatnonzero(np.diff(is_good_N.astype(int))) + 1
    pieces = zip(np.split(array_N2, breaks), np.split(is_good_N, breaks), strict=True)
    return [piece for piece, good in pieces if len(good) and good[0]]


def chart(curve: Curve) -> str:
    """An SVG of one curve with its least and greatest value; '' where nothing is to be drawn."""
    pieces = thinned(curve.points)
    if not pieces:
        return ""
    all_N2 = np.concatenate(pieces)
    (x0, y0), (x1, y1) = all_N2.min(0), all_N2.max(0)
    span_x, span_y = (x1 - x0) or 1.0, (y1 - y0) or 1.0
    right, bottom = _WIDTH - 8, _HEIGHT - _BOTTOM

    def place(x: float, y: float) -> str:
        across = _LEFT + (x - x0) / span_x * (right - _LEFT)
        down = bottom - (y - y0) / span_y * (bottom - _TOP) if y1 > y0 else (_TOP + bottom) / 2
        return f"{across:.1f},{down:.1f}"

    drawn = []
    for piece_P2 in pieces:
        spots = [place(x, y) for x, y in piece_P2]
        if len(spots) > 1:
            drawn.append(f'<polyline class="line" points="{" ".join(spots)}"/>')
        if len(spots) <= 12:
            for spot in spots:
                cx, cy = spot.split(",")
                drawn.append(f'<circle class="dot" cx="{cx}" cy="{cy}" r="3"/>')
    last = all_N2[-1]
    labels = [
        _label(_LEFT - 6, _TOP + 8, "end", number(y1)),
        _label(_LEFT - 6, bottom, "end", number(y0)) if y1 > y0 else "",
        _label(_LEFT, _HEIGHT - 8, "start", f"{curve.unit} {number(x0)}"),
        _label(right, _HEIGHT - 8, "end", number(x1)) if x1 > x0 else "",
    ]
    words = f"{curve.name}: {number(last[1])} at {curve.unit} {number(last[0])}"
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{_text(words)}">'
        f'<path class="axis" fill="none" d="M{_LEFT},{_TOP}V{bottom}H{right}"/>'
        f"{''.join(drawn)}{''.join(labels)}</svg><figcaption>{_text(words)}</figcaption></figure>"
    )


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{_text(text)}</text>'


def number(value: float) -> str:
    """Three digits that matter; whole numbers as they are.

    Example:
        >>> [number(x) for x in (1200.0, 0.12345, 5e-05, -2.0)]
        ['1200', '0.123', '5e-05', '-2']
    """
    if float(value).is_integer() and abs(value) < 1e7:
        return str(int(value))
    return f"{value:.3g}"


# ---- confusion -------------------------------------------------------------------------------


def _confusion(found: Confusion) -> str:
    counts_RC, rows, columns = np.asarray(found.counts_RC), list(found.rows), list(found.columns)
    note = f"{found.about}. A row is what is there, a column what it was taken for, in per cent of "
    note += f"the row's {found.unit}."
    if len(rows) > MAX_CLASSES + 1:
        return _section("Confusion", _notes(note) + _pairs(counts_RC, rows, columns))
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
    lines = []
    for name, row_C in zip(rows, counts_RC, strict=True):
        total = int(row_C.sum())
        cells = "".join(_cell(int(count), total) for count in row_C)
        lines.append(f'<tr><th scope="row">{_text(name)} ({total:,})</th>{cells}</tr>')
    table = f"<thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return _section(
        "Confusion",
        f'{_notes(note)}<div class="wide"><table class="confusion">{table}</table></div>',
    )


def _notes(text: str) -> str:
    return f'<p class="note">{_text(text)}</p>'


def _cell(count: int, total: int) -> str:
    if count == 0:
        return '<td class="none">.</td>'
    share = count / total
    return f'<td class="q{min(5, 1 + int(share * 5))}">{_percent(share)}</td>'


def _percent(share: float) -> str:
    return "&lt;1" if share < 0.005 else f"{100 * share:.0f}"


def _pairs(
    counts_RC: np.ndarray, rows: Sequence[str], columns: Sequence[str], most: int = 20
) -> str:
    """The most frequent mistakes, where a whole matrix would not be read."""
    totals_R = counts_RC.sum(1)
    wrong = [
        (int(counts_RC[r, c]), r, c)
        for r in range(len(rows))
        for c in range(len(columns))
        if rows[r] != columns[c] and counts_RC[r, c] > 0
    ]
    lines = [
        f"<tr><td>{_text(rows[r])}</td><td>{_text(columns[c])}</td><td>{count:,}</td>"
        f"<td>{_percent(count / totals_R[r])}</td></tr>"
        for count, r, c in sorted(wrong, key=lambda item: (-item[0], item[1:]))[:most]
    ]
    head = "<tr><th>there</th><th>taken for</th><th>count</th><th>%</th></tr>"
    return f'<div class="wide"><table class="confusion">{head}{"".join(lines)}</table></div>'
