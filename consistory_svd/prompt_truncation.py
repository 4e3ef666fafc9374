"""Which part of a prompt the text encoders truncate, which they do silently."""

from collections.abc import Iterable, Sequence

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

from diffusers import StableDiffusionXLPipeline

from consistory_svd.attention import find_concept_spans
from consistory_svd.settings import Settings
from consistory_svd.story import Story

MOST_NAMED = 6  # groups of images; the others are counted
LONGEST_NAMED = 80  # characters


def most_tokens(pipe: StableDiffusionXLPipeline) -> int:
    """Return how many tokens both text encoders accept, start and end tokens included."""
    return min(tokenizer.model_max_length for tokenizer in _tokenizers(pipe))


def left_out(pipe: StableDiffusionXLPipeline, prompts: Sequence[str]) -> tuple[str, ...]:
    """Return, for each prompt, the words at its end that a text encoder truncates, or "".

    A word that is truncated in part counts as a whole.
    """
    starts = [_end_of_reading(tokenizer, prompts) for tokenizer in _tokenizers(pipe)]
    cuts = map(min, zip(*starts, strict=True))
    return tuple(_from_word(prompt, cut) for prompt, cut in zip(prompts, cuts, strict=True))


def unread(
    pipe: StableDiffusionXLPipeline, story: Story, settings: Settings, frames: Iterable[int]
) -> tuple[str, ...]:
    """Return notes on what is truncated of the prompts of `frames` (from 0).

    Raises:
        ValueError: the concept words are truncated in all prompts, so that no subject mask could be found.
    """
    frames = list(frames)
    prompts = [story.prompts[frame] for frame in frames]
    lost = dict(zip(frames, left_out(pipe, prompts), strict=True))
    notes = []
    if any(lost.values()):
        named = _named(lost)
        notes.append(f"prompt truncated to {most_tokens(pipe)} tokens; ignored: {named}")
        if settings.shares:
            notes += _subjects_unread(pipe, story, settings, [frame for frame in frames if lost[frame]])
    if settings.guidance > 1 and (rest := left_out(pipe, [story.negative])[0]):
        notes.append(f"negative prompt truncated to {most_tokens(pipe)} tokens; ignored: {_short(rest)}")
    return tuple(notes)


def _subjects_unread(
    pipe: StableDiffusionXLPipeline, story: Story, settings: Settings, cut: Sequence[int]
) -> list[str]:
    """Return a note on the images whose concept words are truncated, so that their subject is not found."""
    read = _has_concept(pipe, story, truncation=True)
    written = _has_concept(pipe, story, truncation=False)
    blind = [frame for frame in cut if written[frame] and not read[frame]]
    words = ", ".join(f"'{word}'" for word in story.concept_words)
    if blind and settings.masking and not any(read):
        raise ValueError(
            f"subject: the prompts are truncated to {most_tokens(pipe)} tokens, before {words}; use a "
            "shorter style or subject, or a concept word that comes earlier"
        )
    which = _images(blind)
    return [f"{which}: {words} is truncated, so the subject is not found there"] if blind else []


def _has_concept(pipe: StableDiffusionXLPipeline, story: Story, truncation: bool) -> list[bool]:
    # As `locate_concepts` does: with the first tokenizer.
    tokenizer = pipe.tokenizer
    most = {"truncation": True, "max_length": tokenizer.model_max_length} if truncation else {}
    prompts = tokenizer(list(story.prompts), verbose=False, **most).input_ids
    concepts = tokenizer(list(story.concept_words), add_special_tokens=False).input_ids
    return find_concept_spans(prompts, concepts).present.any(dim=1).tolist()


def _tokenizers(pipe: StableDiffusionXLPipeline) -> tuple:
    return pipe.tokenizer, pipe.tokenizer_2


def _end_of_reading(tokenizer: object, prompts: Sequence[str]) -> list[int]:
    """Return the character of each prompt at which the first truncated token begins."""
    offsets = tokenizer(list(prompts), verbose=False, return_offsets_mapping=True).offset_mapping
    last = tokenizer.model_max_length - 1  # the end token takes its place
    return [
        spans[last][0] if len(spans) > last + 1 else len(prompt)
        for spans, prompt in zip(offsets, prompts, strict=True)
    ]


def _from_word(prompt: str, cut: int) -> str:
    return "" if cut >= len(prompt) else prompt[prompt.rfind(" ", 0, cut + 1) + 1 :]


def _named(lost: dict[int, str]) -> str:
    """Return such as "'on the beach' (image 2), 'in the snow' (images 3, 4)"."""
    groups: dict[str, list[int]] = {}
    for frame, words in lost.items():
        if words:
            groups.setdefault(words, []).append(frame)
    named = [f"{_short(words)} ({_images(frames)})" for words, frames in groups.items()]
    rest = [frame for frames in list(groups.values())[MOST_NAMED:] for frame in frames]
    return ", ".join(named[:MOST_NAMED]) + (f", and the ends of {len(rest)} more" if rest else "")


def _images(frames: Sequence[int]) -> str:
    numbers = ", ".join(str(frame + 1) for frame in frames)
    return f"image{'' if len(frames) == 1 else 's'} {numbers}"


def _short(words: str) -> str:
    return f"'{words}'" if len(words) <= LONGEST_NAMED else f"'{words[:LONGEST_NAMED].rstrip()} …'"
