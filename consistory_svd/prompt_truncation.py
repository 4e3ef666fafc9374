"""How much of a prompt a model reads: its text encoders stop at so many tokens, and say nothing of it."""

from collections.abc import Iterable, Sequence

import consistory_svd.compat  # noqa: F401 - before diffusers and transformers

from diffusers import StableDiffusionXLPipeline

from consistory_svd.attention import find_concept_spans
from consistory_svd.settings import Settings
from consistory_svd.story import Story

MOST_NAMED = 6  # groups of pictures; the rest is counted
LONGEST_NAMED = 80  # characters


def most_tokens(pipe: StableDiffusionXLPipeline) -> int:
    """How many tokens of a prompt both text encoders read, start and end included."""
    return min(tokenizer.model_max_length for tokenizer in _tokenizers(pipe))


def left_out(pipe: StableDiffusionXLPipeline, prompts: Sequence[str]) -> tuple[str, ...]:
    """For each prompt the words at its end that not both text encoders read; empty where they read it all.

    A word that is read in part counts as left out.
    """
    starts = [_end_of_reading(tokenizer, prompts) for tokenizer in _tokenizers(pipe)]
    cuts = map(min, zip(*starts, strict=True))
    return tuple(_from_word(prompt, cut) for prompt, cut in zip(prompts, cuts, strict=True))


def unread(
    pipe: StableDiffusionXLPipeline, story: Story, settings: Settings, frames: Iterable[int]
) -> tuple[str, ...]:
    """What of a story's prompts the model does not read, in words for the person who wrote them.

    `frames` are those that are told, from 0.

    Raises:
        ValueError: what is shared is looked for by words that no picture's prompt has where it is read.
    """
    frames = list(frames)
    prompts = [story.prompts[frame] for frame in frames]
    lost = dict(zip(frames, left_out(pipe, prompts), strict=True))
    said = []
    if any(lost.values()):
        named = _named(lost)
        said.append(f"the model reads {most_tokens(pipe)} tokens of a prompt; not read: {named}")
        if settings.shares:
            said += _subjects_unread(pipe, story, settings, [frame for frame in frames if lost[frame]])
    if settings.guidance > 1 and (rest := left_out(pipe, [story.negative])[0]):
        said.append(f"negative: the model reads {most_tokens(pipe)} tokens of it; not read: {_short(rest)}")
    return tuple(said)


def _subjects_unread(
    pipe: StableDiffusionXLPipeline, story: Story, settings: Settings, cut: Sequence[int]
) -> list[str]:
    """Pictures whose prompt is cut before the words that stay the same, so that nothing is known of them."""
    read = _has_concept(pipe, story, truncation=True)
    written = _has_concept(pipe, story, truncation=False)
    blind = [frame for frame in cut if written[frame] and not read[frame]]
    words = ", ".join(f"'{word}'" for word in story.concept_words)
    if blind and settings.masking and not any(read):
        raise ValueError(
            f"subject: {words} comes too late in the prompts, of which the model reads {most_tokens(pipe)} "
            "tokens; give a shorter style or subject, or a concept word that comes earlier"
        )
    which = _pictures(blind)
    return [f"{which}: {words} is not read, so the subject is not found there"] if blind else []


def _has_concept(pipe: StableDiffusionXLPipeline, story: Story, truncation: bool) -> list[bool]:
    # As `locate_concepts` looks for them: with the first tokenizer.
    tokenizer = pipe.tokenizer
    most = {"truncation": True, "max_length": tokenizer.model_max_length} if truncation else {}
    prompts = tokenizer(list(story.prompts), verbose=False, **most).input_ids
    concepts = tokenizer(list(story.concept_words), add_special_tokens=False).input_ids
    return find_concept_spans(prompts, concepts).present.any(dim=1).tolist()


def _tokenizers(pipe: StableDiffusionXLPipeline) -> tuple:
    return pipe.tokenizer, pipe.tokenizer_2


def _end_of_reading(tokenizer: object, prompts: Sequence[str]) -> list[int]:
    """At which character of each prompt the first token begins that is not read."""
    offsets = tokenizer(list(prompts), verbose=False, return_offsets_mapping=True).offset_mapping
    last = tokenizer.model_max_length - 1  # in whose place the end is read
    return [
        spans[last][0] if len(spans) > last + 1 else len(prompt)
        for spans, prompt in zip(offsets, prompts, strict=True)
    ]


def _from_word(prompt: str, cut: int) -> str:
    return "" if cut >= len(prompt) else prompt[prompt.rfind(" ", 0, cut + 1) + 1 :]


def _named(lost: dict[int, str]) -> str:
    """ "'on the beach' (picture 2), 'in the snow' (pictures 3, 4)"."""
    groups: dict[str, list[int]] = {}
    for frame, words in lost.items():
        if words:
            groups.setdefault(words, []).append(frame)
    named = [f"{_short(words)} ({_pictures(frames).lower()})" for words, frames in groups.items()]
    rest = [frame for frames in list(groups.values())[MOST_NAMED:] for frame in frames]
    return ", ".join(named[:MOST_NAMED]) + (f", and the ends of {len(rest)} more" if rest else "")


def _pictures(frames: Sequence[int]) -> str:
    numbers = ", ".join(str(frame + 1) for frame in frames)
    return f"picture{'' if len(frames) == 1 else 's'} {numbers}"


def _short(words: str) -> str:
    return f"'{words}'" if len(words) <= LONGEST_NAMED else f"'{words[:LONGEST_NAMED].rstrip()} …'"
