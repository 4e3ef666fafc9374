"""Going on with a story that was told: a scene more, a frame again, a stopped story to its end."""

import secrets
import threading
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.limits import Limits
from consistory_svd.settings import check
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.form import in_words, seeds_text
from consistory_svd.studio.gallery import gallery_items
from consistory_svd.studio.generated_story import (
    GeneratedStory,
    GenerationRequest,
    is_as_recorded,
    same_frame,
    undo,
    with_scene,
    with_seed,
    with_text,
    write_record,
)
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.own_seeds import owner_of
from consistory_svd.studio.session import Session, Sessions

BUSY = "A story is being told; wait for it or cancel it first."
ELSEWHERE = "This story is being told on another page; wait for its end, then open it from the Library again."
CHANGED = (
    "This story was changed on another page, or deleted; open it from the Library again to go on with it."
)
NO_STORY = "There is no story to go on with; tell one first."


def how_it_goes_on(generated: GeneratedStory) -> str:
    """What happens to the other pictures when one is told again, in words."""
    count = len(generated.story.scenes)
    anchors = generated.settings.anchors
    which = "picture 1" if anchors == 1 else f"pictures 1 to {anchors}"
    if not generated.settings.shares:
        return "Nothing is shared, so every picture stands alone: only the one that you change is drawn."
    if generated.settings.random_anchors:
        return (
            f"With random anchors every picture looks at every other one, so any change draws all "
            f"{view.pictures_in_words(count)} again."
        )
    if generated.needs_full_run:
        return "The story was stopped before its anchors were finished, so it begins anew."
    kept = (
        f"New images attend to the cached anchors ({which}, {_megabytes(generated.anchor_cache.size)})."
        if generated.anchor_cache
        else f"The anchors ({which}) were not kept in memory: they are drawn again first, unseen."
    )
    changed = f"{which} itself" if anchors == 1 else f"one of {which}"
    return (
        f"{kept} All others stay as they are. Where you change {changed}, the others go on looking at it as "
        "it was at first."
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


class ContinueHandlers:
    """The handlers of the part. `sessions` are those of the studio's other handlers, too."""

    def __init__(self, sessions: Sessions, manager: ModelManager, limits: Limits | None = None) -> None:
        self._sessions = sessions
        self._manager = manager
        self._limits = limits or Limits()
        self._starting = threading.Lock()  # two pages may go on with the same story

    def begin(self, kind: str, scene: str, picture: Any, text: str, request: gr.Request) -> Iterator[Any]:
        """Look at the wish before it takes its place in the queue: status, Generate, Cancel.

        Raises:
            gr.Error: there is nothing to go on with, or a field is wrong; the status has said so before.
        """
        session = self._sessions.of(request)
        try:
            self._wish(kind, scene, picture, text, session)
            waiting = self._sessions.begin_waiting(session, self._manager.queue.check_capacity)
        except ValueError as error:
            yield view.alert(in_words(error)), gr.skip(), gr.skip()
            raise view.refusal(in_words(error)) from error
        before = len(self._manager.queue) + waiting
        yield view.waiting(True, before), gr.update(interactive=False), gr.update(interactive=True)

    def next_run(self, kind: str, scene: str, picture: Any, text: str, session: Session) -> GenerationJob:
        """The run that does what the visitor wishes, started; it is the visitor's story from now on.

        ValueError as in `begin`.
        """
        self._sessions.end_waiting(session)
        with self._starting:
            story, wanted = self._wish(kind, scene, picture, text, session)
            request = GenerationRequest.continuing(self._story_of(session), story, wanted)
            job = GenerationJob(self._manager, request)
            job.start()
            session.job = job
        return job

    def _story_of(self, session: Session) -> GeneratedStory:
        generated = session.generated
        if generated is None or (not generated.pictures and session.is_generating):
            raise ValueError(NO_STORY)
        if session.is_generating or session.waiting:
            raise ValueError(BUSY)
        self._check_folder(generated)
        return generated

    def _check_folder(self, generated: GeneratedStory) -> None:
        """ValueError where another page tells into the story's folder, or has changed the story."""
        others = [session for session in self._sessions.all() if session.is_generating]
        if any(other.job.request.folder == generated.folder for other in others):
            raise ValueError(ELSEWHERE)
        if generated.pictures and not is_as_recorded(generated):
            raise ValueError(CHANGED)

    def _wish(
        self, kind: str, scene: str, picture: Any, text: str, session: Session
    ) -> tuple[Story, tuple[int, ...]]:
        """The story as it is to become, and the frames that are wanted."""
        generated = self._story_of(session)
        if refusal := self._manager.refuses(generated):
            raise ValueError(refusal)
        story = generated.story
        if kind == "resume":
            if not generated.missing:
                raise ValueError("The story has all of its pictures; there is nothing to continue.")
            return story, generated.missing
        if kind == "add":
            frames = (len(story.scenes),)
            story = with_scene(story, scene or "")
        else:
            frame = self._frame(generated, picture)
            frames = (frame,)
            story = with_text(story, frame, text or "") if kind == "change" else _reseeded(story, frame)
            if kind == "change" and story == generated.story:
                raise ValueError(
                    f"Its scene: {text!r} is what picture {frame + 1} shows already; write another"
                )
        check(story, generated.settings)
        self._limits.check(story, generated.settings)
        return story, frames

    @staticmethod
    def _frame(generated: GeneratedStory, picture: Any) -> int:
        if not isinstance(picture, int) or picture not in range(len(generated.story.scenes)):
            raise ValueError(f"Picture: {picture!r} is not allowed; choose one of the story's")
        return picture

    def offer(self, scenes: str, seeds: str, request: gr.Request) -> tuple[Any, ...]:
        """The part for the visitor's story as it stands, empty-handed where there is none; the form's scenes
        and seeds, and whose they are, follow where they were the story's."""
        session = self._sessions.find(request)
        generated = session and session.generated
        if generated is None or session.is_generating:
            return gr.update(visible=False), *(gr.skip() for _ in range(10))
        before = generated.story
        if session.job and session.job.request.previous:
            before = session.job.request.previous.story
        frames = [picture.frame for picture in generated.pictures]
        # The one that was told last is the likeliest to be told again, or else one that is withheld.
        changed = [frame for frame in frames if not same_frame(generated.story, before, frame)]
        filtered = [picture.frame for picture in generated.pictures if picture.filtered]
        at = next(iter(changed + filtered + frames), None)
        note = self._manager.refuses(generated) or how_it_goes_on(generated)
        return (
            gr.update(visible=True),
            f'<p class="note">{escape(note)}</p>',
            gr.update(visible=bool(generated.missing), value=_resume_label(generated)),
            gr.update(visible=bool(frames)),
            gr.update(value=""),
            gr.update(choices=[(f"{k + 1}: {generated.story.scenes[k].text}", k) for k in frames], value=at),
            gr.update(value="" if at is None else generated.story.scenes[at].text),
            gr.update(interactive=generated.can_undo(at)),
            *self._form_follows(scenes, seeds, before, generated.story),
        )

    @staticmethod
    def _form_follows(scenes: str, seeds: str, before: Story, now: Story) -> tuple[Any, Any, Any]:
        if (
            before == now
            or tuple(line.strip() for line in scenes.splitlines() if line.strip()) != before.scene_texts
        ):
            return gr.skip(), gr.skip(), gr.skip()
        lines = "\n".join(now.scene_texts)
        if seeds.strip() != seeds_text(before):
            return lines, gr.skip(), gr.skip()
        return lines, seeds_text(now), owner_of(now.subject, lines, seeds_text(now))

    def choose(self, picture: Any, request: gr.Request) -> tuple[Any, Any]:
        """The scene of a chosen picture, and whether a former one can be taken back."""
        generated = self._sessions.story_of(request)
        if generated is None or picture is None:
            return gr.skip(), gr.skip()
        return generated.story.scenes[picture].text, gr.update(interactive=generated.can_undo(picture))

    def point(self, request: gr.Request, event: gr.SelectData) -> Any:
        """The picture that was chosen among the pictures, for the box that chooses one."""
        session = self._sessions.find(request)
        generated = session and session.generated
        if generated is None or session.is_generating or event.index >= len(generated.pictures):
            return gr.skip()
        return generated.pictures[event.index].frame

    def take_back(self, picture: Any, scenes: str, seeds: str, request: gr.Request) -> tuple[Any, ...]:
        """Put the former picture of a frame back: pictures, status, the frame's scene, the form's scenes and
        seeds, and whose they are. What it replaces can be taken back in turn."""
        try:
            session = self._sessions.of(request)
            generated = self._story_of(session)
            frame = self._frame(generated, picture)
            changed = undo(generated, frame)
        except ValueError as error:
            return gr.skip(), view.alert(in_words(error)), *(gr.skip() for _ in range(4))
        session.show(changed)
        write_record(changed, changed.seconds)
        now = changed.story
        return (
            gallery_items(changed.pictures, session.show_masks),
            view.said(
                f"Picture {frame + 1} is the former one again; the other one can be taken back in turn."
            ),
            now.scene_texts[frame],
            *self._form_follows(scenes, seeds, generated.story, now),
        )


def _resume_label(generated: GeneratedStory) -> str:
    if generated.needs_full_run:
        return "Begin the story anew"
    return f"Continue: {view.pictures_in_words(len(generated.missing))} more"


def _reseeded(story: Story, frame: int) -> Story:
    most = int(field_of(Story, "seed").maximum) + 1
    while (seed := secrets.randbelow(most)) in story.frame_seeds:
        pass
    return with_seed(story, frame, seed)


def partial_handler(handler: Callable[..., Iterator[Any]], kind: str) -> Callable[..., Iterator[Any]]:
    """A handler of one kind of wish: "resume", "add", "redo" or "change"."""

    def answer(scene: str, picture: Any, text: str, request: gr.Request) -> Iterator[Any]:
        yield from handler(kind, scene, picture, text, request)

    return answer
