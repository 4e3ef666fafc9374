"""Going on with a story that was told: a scene more, a frame again, a stopped story to its end."""

import secrets
import threading
from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import gradio as gr

from consistory_svd.limits import Limits
from consistory_svd.settings import Story, check, knob
from consistory_svd.studio import view
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.folder import is_as_recorded
from consistory_svd.studio.forms import in_words, seeds_text
from consistory_svd.studio.gallery import gallery_items
from consistory_svd.studio.own_seeds import owner_of
from consistory_svd.studio.same_model import other_model
from consistory_svd.studio.session import Session, Sessions
from consistory_svd.studio.told import Told, taken_back, with_scene, with_seed, with_text
from consistory_svd.studio.worker import StoryRun

BUSY = "A story is being told; wait for it or cancel it first."
ELSEWHERE = "This story is being told on another page; wait for its end, then open it from the Library again."
CHANGED = (
    "This story was changed on another page, or deleted; open it from the Library again to go on with it."
)
NO_STORY = "There is no story to go on with; tell one first."


def how_it_goes_on(told: Told) -> str:
    """What happens to the other pictures when one is told again, in words."""
    count = len(told.story.scenes)
    anchors = told.settings.anchors
    which = "picture 1" if anchors == 1 else f"pictures 1 to {anchors}"
    if not told.settings.shares:
        return "Nothing is shared, so every picture stands alone: only the one that you change is drawn."
    if told.settings.random_anchors:
        return (
            f"With random anchors every picture looks at every other one, so any change draws all "
            f"{view.pictures_in_words(count)} again."
        )
    if told.begins_anew:
        return "The story was stopped before its anchors were finished, so it begins anew."
    kept = (
        f"New pictures are drawn against the kept anchors ({which}, {_megabytes(told.bank.size)} in memory)."
        if told.bank
        else f"The anchors ({which}) were not kept in memory: they are drawn again first, unseen."
    )
    changed = f"{which} itself" if anchors == 1 else f"one of {which}"
    return (
        f"{kept} All others stay as they are. Where you change {changed}, the others go on looking at it as "
        "it was at first."
    )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


class GoingOn:
    """The handlers of the part. `sessions` are those of the studio's other handlers, too."""

    def __init__(self, sessions: Sessions, engine: Engine, limits: Limits | None = None) -> None:
        self._sessions = sessions
        self._engine = engine
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
            waiting = self._sessions.begin_waiting(session, self._engine.line.check_room)
        except ValueError as error:
            yield view.alert(in_words(error)), gr.skip(), gr.skip()
            raise view.refusal(in_words(error)) from error
        before = len(self._engine.line) + waiting
        yield view.waiting(True, before), gr.update(interactive=False), gr.update(interactive=True)

    def next_run(self, kind: str, scene: str, picture: Any, text: str, session: Session) -> StoryRun:
        """The run that does what the visitor wishes, started; it is the visitor's story from now on.

        ValueError as in `begin`.
        """
        self._sessions.end_waiting(session)
        with self._starting:
            run = self._story_of(session)
            told = run.told
            story, wanted = self._wish(kind, scene, picture, text, session)
            again = run.again(story, told.frames_for(wanted))
            again.start()
            session.run = again
        return again

    def _story_of(self, session: Session) -> StoryRun:
        run = session.run
        if run is None or (not run.told.pictures and not run.progress.over):
            raise ValueError(NO_STORY)
        if not run.progress.over or session.waiting:
            raise ValueError(BUSY)
        self._check_folder(run)
        return run

    def _check_folder(self, run: StoryRun) -> None:
        """ValueError where another page tells into the story's folder, or has changed the story."""
        shown = [session.run for session in self._sessions.all() if session.run is not None]
        if any(other.folder == run.folder and not other.progress.over for other in shown):
            raise ValueError(ELSEWHERE)
        if run.told.pictures and not is_as_recorded(run.folder, run.told):
            raise ValueError(CHANGED)

    def _wish(
        self, kind: str, scene: str, picture: Any, text: str, session: Session
    ) -> tuple[Story, tuple[int, ...]]:
        """The story as it is to become, and the frames that are wanted."""
        told = self._story_of(session).told
        if refusal := other_model(told, self._engine):
            raise ValueError(refusal)
        story = told.story
        if kind == "resume":
            if not told.missing:
                raise ValueError("The story has all of its pictures; there is nothing to continue.")
            return story, told.missing
        if kind == "add":
            frames = (len(story.scenes),)
            story = with_scene(story, scene or "")
        else:
            frame = self._frame(told, picture)
            frames = (frame,)
            story = with_text(story, frame, text or "") if kind == "change" else _reseeded(story, frame)
            if kind == "change" and story == told.story:
                raise ValueError(
                    f"Its scene: {text!r} is what picture {frame + 1} shows already; write another"
                )
        check(story, told.settings)
        self._limits.check(story, told.settings)
        return story, frames

    @staticmethod
    def _frame(told: Told, picture: Any) -> int:
        if not isinstance(picture, int) or picture not in range(len(told.story.scenes)):
            raise ValueError(f"Picture: {picture!r} is not allowed; choose one of the story's")
        return picture

    def offer(self, scenes: str, seeds: str, request: gr.Request) -> tuple[Any, ...]:
        """The part for the visitor's story as it stands, empty-handed where there is none; the form's scenes
        and seeds, and whose they are, follow where they were the story's."""
        run = self._sessions.run_of(request)
        if run is None or not run.progress.over:
            return gr.update(visible=False), *(gr.skip() for _ in range(10))
        told = run.told
        before = told.story if run.before is None else run.before.story
        frames = [picture.frame for picture in told.pictures]
        # The one that was told last is the likeliest to be told again, or else one that is withheld.
        changed = [frame for frame in frames if not _same_frame(told.story, before, frame)]
        withheld = [picture.frame for picture in told.pictures if picture.withheld]
        at = next(iter(changed + withheld + frames), None)
        return (
            gr.update(visible=True),
            f'<p class="note">{escape(other_model(told, self._engine) or how_it_goes_on(told))}</p>',
            gr.update(visible=bool(told.missing), value=_resume_label(told)),
            gr.update(visible=bool(frames)),
            gr.update(value=""),
            gr.update(choices=[(f"{k + 1}: {told.story.scenes[k]}", k) for k in frames], value=at),
            gr.update(value="" if at is None else told.story.scenes[at]),
            gr.update(interactive=any(picture.frame == at for picture in told.former)),
            *self._form_follows(scenes, seeds, before, told.story),
        )

    @staticmethod
    def _form_follows(scenes: str, seeds: str, before: Story, now: Story) -> tuple[Any, Any, Any]:
        if (
            before == now
            or tuple(line.strip() for line in scenes.splitlines() if line.strip()) != before.scenes
        ):
            return gr.skip(), gr.skip(), gr.skip()
        lines = "\n".join(now.scenes)
        if seeds.strip() != seeds_text(before.seeds):
            return lines, gr.skip(), gr.skip()
        return lines, seeds_text(now.seeds), owner_of(now.subject, lines, seeds_text(now.seeds))

    def choose(self, picture: Any, request: gr.Request) -> tuple[Any, Any]:
        """The scene of a chosen picture, and whether a former one can be taken back."""
        run = self._sessions.run_of(request)
        if run is None or picture is None:
            return gr.skip(), gr.skip()
        told = run.told
        return told.story.scenes[picture], gr.update(
            interactive=any(former.frame == picture for former in told.former)
        )

    def point(self, request: gr.Request, event: gr.SelectData) -> Any:
        """The picture that was chosen among the pictures, for the box that chooses one."""
        run = self._sessions.run_of(request)
        if run is None or not run.progress.over or event.index >= len(run.progress.pictures):
            return gr.skip()
        return run.progress.pictures[event.index].frame

    def take_back(self, picture: Any, scenes: str, seeds: str, request: gr.Request) -> tuple[Any, ...]:
        """Put the former picture of a frame back: pictures, status, the frame's scene, the form's scenes and
        seeds, and whose they are. What it replaces can be taken back in turn."""
        try:
            run = self._story_of(self._sessions.of(request))
            told = run.told
            frame = self._frame(told, picture)
            run.become(taken_back(told, frame))
        except ValueError as error:
            return gr.skip(), view.alert(in_words(error)), *(gr.skip() for _ in range(4))
        now = run.told.story
        return (
            gallery_items(run.progress, run.show_masks),
            view.said(
                f"Picture {frame + 1} is the former one again; the other one can be taken back in turn."
            ),
            now.scenes[frame],
            *self._form_follows(scenes, seeds, told.story, now),
        )


def _same_frame(one: Story, other: Story, frame: int) -> bool:
    if frame >= len(other.scenes):
        return False
    return (one.scenes[frame], one.frame_seeds[frame]) == (other.scenes[frame], other.frame_seeds[frame])


def _resume_label(told: Told) -> str:
    if told.begins_anew:
        return "Begin the story anew"
    return f"Continue: {view.pictures_in_words(len(told.missing))} more"


def _reseeded(story: Story, frame: int) -> Story:
    most = int(knob(Story, "seed").maximum) + 1
    while (seed := secrets.randbelow(most)) in story.frame_seeds:
        pass
    return with_seed(story, frame, seed)


def bound(handler: Callable[..., Iterator[Any]], kind: str) -> Callable[..., Iterator[Any]]:
    """A handler of one kind of wish: "resume", "add", "redo" or "change"."""

    def answer(scene: str, picture: Any, text: str, request: gr.Request) -> Iterator[Any]:
        yield from handler(kind, scene, picture, text, request)

    return answer
