"""A story: its subject, its scenes and the words whose pixels are the subject."""

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from pydantic import field_validator, model_validator

from consistory_svd.errors import FieldError
from consistory_svd.fields import FilledText, Text, field, validated

MOST_SCENES = 1000
LARGEST_SEED = 2**32 - 1

WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
ARTICLE = re.compile(r"an?|the|this|that|these|those|my|your|his|her|its|our|their|some", re.IGNORECASE)
# The head noun stands before the first of these: prepositions, conjunctions, relative pronouns, and
# participles that take an object.
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


@validated
class Scene:
    """What one image shows, and its seed if it does not follow the story's."""

    text: FilledText = field("Scene", "Where the subject is or what it does.")
    seed: int | None = field(
        "Scene seed", "Empty: derived from the story's seed.", None, ge=0, le=LARGEST_SEED
    )


@validated
class Story:
    """A subject, the scenes it is seen in and the style of the images. Frames are the scenes in order.

    Scenes may be given as texts or as pairs of text and seed.

    Raises:
        FieldError: a field is empty, of a wrong type or out of range, a concept word is in no prompt, or two
            frames have the same seed.
    """

    subject: FilledText = field("Subject", "The subject to keep consistent across all images.")
    scenes: tuple[Scene, ...] = field("Scenes", "Where the subject is or what it does: one image per scene.")
    style: Text = field("Style", "How the images look; every prompt begins with it.", "a photo of")
    concepts: tuple[FilledText, ...] = field(
        "Concept words", "Words of the prompt that name the subject. Empty: taken from the subject.", ()
    )
    negative: Text = field("Negative prompt", "What the images should not show.", "")
    seed: int = field("Seed", "The same seed generates the same story.", 0, ge=0, le=LARGEST_SEED)

    @field_validator("scenes", mode="before")
    @classmethod
    def _make_scenes(cls, scenes: Any) -> tuple[Scene, ...]:
        if isinstance(scenes, str) or not isinstance(scenes, Sequence):
            raise FieldError("scenes", scenes, "a list of texts")
        if not 1 <= len(scenes) <= MOST_SCENES:
            raise FieldError("scenes", len(scenes), f"1 to {MOST_SCENES} texts")
        try:
            return tuple(map(_make_scene, scenes))
        except FieldError as error:
            name = "scenes" if error.field == "text" else "seeds"
            raise FieldError(name, error.value, error.allowed) from error

    @field_validator("concepts", mode="before")
    @classmethod
    def _list_to_tuple(cls, concepts: Any) -> Any:
        return tuple(concepts) if isinstance(concepts, list) else concepts

    @model_validator(mode="after")
    def _check_seeds_and_concepts(self) -> "Story":
        first: dict[int, int] = {}
        for number, seed in enumerate(self.frame_seeds, start=1):
            if first.setdefault(seed, number) != number:
                raise FieldError("seeds", seed, f"different for images {first[seed]} and {number}")
        for concept in self.concepts:
            if not any(contains(prompt, concept) for prompt in self.prompts):
                raise FieldError(
                    "concepts", concept, f"words of the subject ({self.subject!r}) or of a scene"
                )
        if not self.concepts:
            find_concept(self.subject)
        return self

    @property
    def scene_texts(self) -> tuple[str, ...]:
        """The texts of the scenes."""
        return tuple(scene.text for scene in self.scenes)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """One prompt per frame: style, subject and scene, separated by single spaces."""
        return tuple(" ".join(f"{self.style} {self.subject} {text}".split()) for text in self.scene_texts)

    @property
    def concept_words(self) -> tuple[str, ...]:
        """The words whose pixels are the subject: `concepts`, or the head noun of the subject."""
        return self.concepts or (find_concept(self.subject),)

    @cached_property
    def frame_seeds(self) -> tuple[int, ...]:
        """One seed per frame, all different: the scene's own, or one derived from story seed and position."""
        return tuple(
            self.seed_at(position) if scene.seed is None else scene.seed
            for position, scene in enumerate(self.scenes)
        )

    def seed_at(self, position: int) -> int:
        """Return the seed that the story's seed gives the frame at a position, counted from 0."""
        digest = hashlib.sha256(str(self.seed).encode()).digest()
        start = int.from_bytes(digest[:4], "big")
        # An odd stride visits every 32-bit number once.
        return (start + position * 0x9E3779B1) % 2**32


def _make_scene(given: Any) -> Scene:
    if isinstance(given, Scene):
        return given
    return Scene(*given) if isinstance(given, tuple) else Scene(given)


def find_concept(subject: str) -> str:
    """Return the head noun of a subject, as written there: "a fluffy red cat with a hat" -> "cat".

    It is the last word before the first comma, preposition or relative clause, without articles.

    Raises:
        FieldError: there is none.
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
    """Return whether the words of `phrase` occur in `text` as consecutive whole words, ignoring case."""
    words, searched = _words(text), _words(phrase)
    starts = range(len(words) - len(searched) + 1)
    return bool(searched) and any(words[start : start + len(searched)] == searched for start in starts)


def _words(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]
