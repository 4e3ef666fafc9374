"""Fonts of exported pages: which font draws a letter, how wide a text is, and where its lines break."""

import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont

from consistory_svd.paths import ASSETS

FONTS = ASSETS / "fonts"
ELLIPSIS = "…"
RIGHT_TO_LEFT = ("R", "AL")


class Typeface:
    """A font with fallbacks: each letter is drawn by the first font that has it.

    reportlab's Paragraph and Pillow's ImageText have no fallback per letter, do not balance lines and do not
    end truncated text with an ellipsis. Text runs from left to right; letters of other scripts are missing.
    """

    def __init__(self, fonts: Sequence[TTFont]) -> None:
        self._fonts = tuple(fonts)
        self._widths: dict[str, float] = {}  # of letters at a font size of 1 point

    def missing(self, text: str) -> str:
        """The letters of the text that no font has, each once."""
        return "".join(dict.fromkeys(letter for letter in text if self._font(letter) is None))

    def runs(self, text: str) -> list[tuple[TTFont, str]]:
        """The text in pieces of one font each."""
        return [(font, "".join(letters)) for font, letters in groupby(text, self._font)]

    def width(self, text: str, size: float) -> float:
        """The text's width in points at a font size in points."""
        return size * sum(map(self._width, text))

    def wrap(self, text: str, size: float, width: float) -> list[str]:
        """The text in as few lines of at most `width` points as possible, of about equal length."""
        count = len(self._greedy(text, size, width))
        low, high = width / 2, width
        while count > 1 and high - low > 2:
            middle = (low + high) / 2
            fits = len(self._greedy(text, size, middle)) <= count
            low, high = (low, middle) if fits else (middle, high)
        return self._greedy(text, size, high)

    def fits(self, text: str, size: float, width: float, lines: int) -> bool:
        """Whether the text fits into this many lines of this width."""
        return self.width(text, size) <= lines * width and len(self._greedy(text, size, width)) <= lines

    def truncate(self, text: str, size: float, width: float, lines: int) -> list[str]:
        """The first lines of the text, the last one with an ellipsis if more would follow."""
        wrapped = self._greedy(text, size, width)
        if len(wrapped) <= lines:
            return wrapped
        last = wrapped[lines - 1]
        while last and self.width(last + ELLIPSIS, size) > width:
            last = last[:-1].rstrip()
        return [*wrapped[: lines - 1], last + ELLIPSIS]

    def _greedy(self, text: str, size: float, width: float) -> list[str]:
        lines: list[str] = []
        for word in text.split():
            for piece in self._pieces(word, size, width):
                if lines and self.width(f"{lines[-1]} {piece}", size) <= width:
                    lines[-1] += f" {piece}"
                else:
                    lines.append(piece)
        return lines

    def _pieces(self, word: str, size: float, width: float) -> list[str]:
        """The word, broken if it is wider than a line."""
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


def typeface(style: str = "Regular", extra: Path | None = None) -> Typeface:
    """The fonts of the package, "Regular" or "Italic".

    Args:
        extra: a TrueType file for letters that they lack.

    Raises:
        ValueError: the extra file cannot be used; the message names the field `font`.
    """
    files = [FONTS / f"EBGaramond12-{style}.ttf", FONTS / "DejaVuSans.ttf"]
    fonts = [_font(file) for file in files]
    if extra:
        try:
            fonts.append(_font(extra))
        except (TTFError, OSError) as error:
            raise ValueError(f"font: {extra} cannot be used: {error}; give a TrueType file (.ttf)") from error
    return Typeface(fonts)


def plain(text: str) -> str:
    """The text with composed letters and single spaces, without control characters."""
    composed = unicodedata.normalize("NFC", text)
    spaced = "".join(" " if letter.isspace() else letter for letter in composed)
    return " ".join("".join(letter for letter in spaced if unicodedata.category(letter)[0] != "C").split())


@cache
def _font(file: Path) -> TTFont:
    font = TTFont(file.stem, str(file), shapable=False)
    pdfmetrics.registerFont(font)
    return font
