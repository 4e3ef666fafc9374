"""Letters for exported pages: which font draws which, how wide a text is, and where its lines break."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont

from consistory_svd.paths import ASSETS

FONTS = ASSETS / "fonts"
CUT = "…"
RIGHT_TO_LEFT = ("R", "AL")


class Typeface:
    """Fonts that stand in for each other: a letter is drawn by the first that has it.

    Letters are set one by one from left to right; scripts that are written otherwise count as missing.
    """

    def __init__(self, fonts: Sequence[TTFont]) -> None:
        self._fonts = tuple(fonts)
        self._widths: dict[str, float] = {}  # of letters of one point

    def missing(self, text: str) -> str:
        """The letters of the text that cannot be drawn, each once."""
        return "".join(dict.fromkeys(letter for letter in text if self._font(letter) is None))

    def runs(self, text: str) -> list[tuple[TTFont, str]]:
        """The text in pieces of one font each. All its letters can be drawn."""
        return [(font, "".join(letters)) for font, letters in groupby(text, self._font)]

    def width(self, text: str, size: float) -> float:
        """The text's width in points when set in `size` points."""
        return size * sum(map(self._width, text))

    def wrapped(self, text: str, size: float, width: float) -> list[str]:
        """The text in as few lines of at most `width` points as it takes, about equally long."""
        lines = self._greedy(text, size, width)
        low, high = width / 2, width
        while len(lines) > 1 and high - low > 2:
            middle = (low + high) / 2
            tried = self._greedy(text, size, middle)
            low, high = (low, middle) if len(tried) <= len(lines) else (middle, high)
        return self._greedy(text, size, high)

    def fits(self, text: str, size: float, width: float, lines: int) -> bool:
        """Whether the text takes at most so many lines of that width."""
        return self.width(text, size) <= lines * width and len(self._greedy(text, size, width)) <= lines

    def cut(self, text: str, size: float, width: float, lines: int) -> list[str]:
        """The first lines of the text, the last of them with an ellipsis where more would follow."""
        whole = self._greedy(text, size, width)
        if len(whole) <= lines:
            return whole
        last = whole[lines - 1]
        while last and self.width(last + CUT, size) > width:
            last = last[:-1].rstrip()
        return [*whole[: lines - 1], last + CUT]

    def _greedy(self, text: str, size: float, width: float) -> list[str]:
        lines: list[list[str]] = []
        space, taken = self.width(" ", size), width
        pieces = (piece for word in text.split() for piece in self._pieces(word, size, width))
        for piece in pieces:
            needed = self.width(piece, size)
            if lines and taken + space + needed <= width:
                lines[-1].append(piece)
                taken += space + needed
            else:
                lines.append([piece])
                taken = needed
        return [" ".join(line) for line in lines]

    def _pieces(self, word: str, size: float, width: float) -> list[str]:
        """The word, broken where it is wider than a line."""
        if self.width(word, size) <= width:
            return [word]
        pieces = [""]
        for letter in word:
            if pieces[-1] and self.width(pieces[-1] + letter, size) > width:
                pieces.append("")
            pieces[-1] += letter
        return pieces

    def _width(self, letter: str) -> float:
        if letter not in self._widths:
            self._widths[letter] = self._font(letter).stringWidth(letter, 1000) / 1000
        return self._widths[letter]

    def _font(self, letter: str) -> TTFont | None:
        if unicodedata.bidirectional(letter) in RIGHT_TO_LEFT:
            return None
        return next((font for font in self._fonts if ord(letter) in font.face.charToGlyph), None)


def typeface(style: str = "Regular", own: Path | None = None) -> Typeface:
    """The storybook's letters, "Regular" or "Italic"; `own` is a font file for letters that they lack.

    ValueError, naming `font`, when that cannot be read.
    """
    files = [FONTS / f"EBGaramond12-{style}.ttf", FONTS / "DejaVuSans.ttf"]
    return Typeface([_font(file) for file in files] + ([_own_font(own)] if own else []))


def plain(text: str) -> str:
    """The text as it is set: composed letters, single spaces, nothing unseen."""
    composed = unicodedata.normalize("NFC", text)
    seen = "".join(" " if letter.isspace() else letter for letter in composed)
    return " ".join("".join(letter for letter in seen if unicodedata.category(letter)[0] != "C").split())


@cache
def _font(file: Path) -> TTFont:
    font = TTFont(file.stem, str(file), shapable=False)
    pdfmetrics.registerFont(font)
    return font


def _own_font(file: Path) -> TTFont:
    try:
        return _font(file)
    except (TTFError, OSError) as error:
        raise ValueError(f"font: {file} cannot be used: {error}; give a TrueType file (.ttf)") from error
