"""Drawing as inline SVG: elements, text that fits, ticks and scales. Colours and fonts come from the page's style.

Written straight as text: two hundred rows take milliseconds, one file serves light and dark, and the same input
gives the same bytes.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import escape

FONT = 11.0  # user units; a plot is shown at about one unit to the pixel
LINE = 14.0

# Widths of a wide sans-serif face in em, so that text which fits here fits with any system font.
_NARROW, _WIDE = "iIjlrft.,:;!|'`()[]{}-/ ", "mwMWOQ@%&—×+=<>~"


def text_width(text: str, size: float = FONT) -> float:
    """An upper estimate of how wide ``text`` is drawn, in user units."""
    return size * sum(_em(character) for character in text)


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.0
    if character in _NARROW:
        return 0.41
    return 0.92 if character in _WIDE else 0.7 if character.isupper() else 0.63


def fitted(text: str, width: float, size: float = FONT) -> str:
    """``text`` cut with an ellipsis so that it is at most ``width`` wide."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


class Drawing:
    """One SVG being drawn. Every text is escaped; numbers keep one decimal.

    Args:
        name: Prefix of its ids; unique on the page.
        title: What it shows, for those who cannot see it.
        description: What can be read from it.
    """

    def __init__(self, name: str, width: float, height: float, *, title: str, description: str) -> None:
        self.width, self.height = width, height
        self._parts = [
            f'<svg class="plot" role="img" viewBox="0 0 {number(width)} {number(height)}" '
            f'aria-labelledby="{name}-title {name}-desc">'
            f'<title id="{name}-title">{escape(title)}</title>'
            f'<desc id="{name}-desc">{escape(description)}</desc>'
        ]

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line of CSS class ``kind``."""
        ends = f'x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"'
        self._parts.append(f'<line class="{kind}" {ends}/>')

    def bar(self, x: float, y: float, width: float, height: float, kind: str, tip: str = "") -> None:  # noqa: PLR0917
        """A rectangle; it says ``tip`` under the pointer."""
        place = f'x="{number(x)}" y="{number(y)}" width="{number(max(width, 0))}" height="{number(height)}"'
        self._parts.append(_tipped("rect", f'class="{kind}" {place}', tip))

    def dot(self, x: float, y: float, kind: str, tip: str = "", radius: float = 3.5) -> None:
        """A filled circle."""
        place = f'cx="{number(x)}" cy="{number(y)}" r="{number(radius)}"'
        self._parts.append(_tipped("circle", f'class="{kind}" {place}', tip))

    def path(self, points: Sequence[tuple[float, float]], kind: str, tip: str = "") -> None:
        """Straight lines through ``points``."""
        steps = "L".join(f"{number(x)} {number(y)}" for x, y in points)
        self._parts.append(_tipped("path", f'class="{kind}" d="M{steps}"', tip))

    def text(self, x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> None:
        """Text whose baseline starts, ends or is centred (``anchor``) at a point."""
        attributes = f' class="{kind}"' if kind else ""
        attributes += f' text-anchor="{anchor}"' if anchor != "start" else ""
        self._parts.append(f'<text x="{number(x)}" y="{number(y)}"{attributes}>{escape(text)}</text>')

    def render(self) -> str:
        """The whole element."""
        return "".join(self._parts) + "</svg>"


def _tipped(tag: str, attributes: str, tip: str) -> str:
    return f"<{tag} {attributes}><title>{escape(tip)}</title></{tag}>" if tip else f"<{tag} {attributes}/>"


def number(value: float) -> str:
    """A coordinate without needless digits."""
    return f"{value:.1f}".removesuffix(".0")


@dataclass(frozen=True)
class Scale:
    """Values ``low`` to ``high`` on the stretch from ``start`` to ``end``, even or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (math.log(v) for v in (self.low, self.high, value)) if self.log else (
            self.low, self.high, value)  # fmt: skip
        return self.start + (self.end - self.start) * (at - low) / (high - low)

    def ticks(self, count: int = 5) -> tuple[float, ...]:
        """Round values within the scale, about ``count`` of them."""
        return log_ticks(self.low, self.high) if self.log else even_ticks(self.low, self.high, count)


def even_ticks(low: float, high: float, count: int = 5) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten from ``low`` to ``high``, at most ``count`` + 1 of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(index * step for index in range(first, last + 1))


_LEADING = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9),
)


def log_ticks(low: float, high: float, least: int = 4) -> tuple[float, ...]:
    """Round values for a logarithmic scale, as few leading digits as give ``least`` of them."""
    powers = [10.0**power for power in range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)]
    inside: tuple[float, ...] = ()
    for leading in _LEADING:
        found = (factor * power for power in powers for factor in leading)
        inside = tuple(value for value in found if low * (1 - 1e-9) <= value <= high * (1 + 1e-9))
        if len(inside) >= least:
            return inside
    return inside if len(inside) > 1 else even_ticks(low, high, 3)


def padded(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """The range of ``values`` with ``share`` of its width added on both sides; never empty."""
    low, high = min(values), max(values)
    margin = (high - low) * share or abs(high) * share or 1.0
    return low - margin, high + margin


def padded_log(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """As `padded`, for a logarithmic scale; values must be positive."""
    low, high = padded([math.log(value) for value in values], share)
    if high - low < 0.2:  # less than a fifth apart: a range that shows them as close as they are
        middle = (high + low) / 2
        low, high = middle - 0.1, middle + 0.1
    return math.exp(low), math.exp(high)
