"""Words in prompts: the head noun of a subject, and whether a text contains given words."""

import re

from consistory_svd.errors import FieldError

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
ARTICLE = re.compile(r"an?|the|this|that|these|those|my|your|his|her|its|our|their|some", re.IGNORECASE)
# The head noun stands before the first of these: prepositions, conjunctions, relative words, and participles
# that take an object.
END_OF_HEAD = re.compile(
    r"""about|above|across|after|against|along|amid|among|around|as|at|atop|before|behind|below|beneath|beside|
    between|beyond|by|down|during|for|from|in|inside|into|like|near|of|off|on|onto|outside|over|past|through|to|
    towards?|under|up|upon|while|with|within|without|and|or|but|who|whom|whose|which|that|where|when|is|are|
    wearing|holding|carrying|riding|having|playing|reading|eating|dressed|made|named|called""",
    re.IGNORECASE | re.VERBOSE,
)
# Participles that may follow a noun ("a dog running") as well as precede it ("a running dog").
MOVING = re.compile(
    r"sitting|standing|jumping|waving|running|sleeping|walking|flying|swimming|dancing|looking|smiling|lying",
    re.IGNORECASE,
)


def find_concept(subject: str) -> str:
    """The head noun of a subject, as written there: "a fluffy red cat with a hat" -> "cat".

    It is the last word before the first comma, preposition or relative clause, articles left out.
    FieldError when there is none. Source: issue 2, section 4.
    """
    first_clause = re.split(r"[,;:.()!?\n]", subject.strip(" ,;:.()!?\n"))[0]
    nouns: list[str] = []
    for word in WORD.findall(first_clause):
        if nouns and END_OF_HEAD.fullmatch(word):
            break
        if not ARTICLE.fullmatch(word):
            nouns.append(word)
    while len(nouns) > 1 and MOVING.fullmatch(nouns[-1]):
        nouns.pop()
    if not nouns:
        raise FieldError("subject", subject, "a phrase with a noun, unless concept words are given")
    return nouns[-1]


def contains(text: str, phrase: str) -> bool:
    """Whether the words of `phrase` occur in `text` as whole words in a row, upper or lower case alike."""
    words, looked_for = _words(text), _words(phrase)
    starts = range(len(words) - len(looked_for) + 1)
    return bool(looked_for) and any(words[start : start + len(looked_for)] == looked_for for start in starts)


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]
