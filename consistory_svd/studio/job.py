"""One story being told: a thread that does the work, and a snapshot of how far it is.

A Gradio generator that is cancelled keeps running until its next yield, and a step of a large model can take
long. So the work happens in a thread of its own with a stop event, and handlers only look at snapshots.
"""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from consistory_svd.attention import AnchorCache, FilterSummary
from consistory_svd.library import remove_folder
from consistory_svd.models.model import Model
from consistory_svd.models.request import ModelRequest
from consistory_svd.pipeline import Cancelled, Event, Finished, FrameDone, Note, Preview, Started
from consistory_svd.settings import Settings, Story
from consistory_svd.studio.drafts import drafts_of
from consistory_svd.studio.eta import Pace
from consistory_svd.studio.generated_story import (
    GeneratedStory,
    Picture,
    changed_anchor_story,
    in_order,
    same_frame,
)
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.progress import Progress, Stage
from consistory_svd.studio.queue import Place, Ticket, work_of
from consistory_svd.studio.same_model import not_of
from consistory_svd.studio.story_files import save_picture, write_record

log = logging.getLogger(__name__)
# Previews of a pass, at most, and the share of the denoising time that they may take.
PREVIEWS = 8
PREVIEW_SHARE = 0.07
# Anchors are kept where they take no more than this share of the memory that is free.
MOST_OF_MEMORY = 0.25
OTHER_MODEL = "Another model was loaded meanwhile, so this ends here: its pictures could not be compared."
__all__ = ["GenerationJob", "Picture", "Progress", "Stage"]


class GenerationJob:
    """A story, or some frames of it, told in a thread of its own. Saves each frame once into `folder`, as PNG
    with its metadata.

    `spectra` is what the spectral filter did, where that is recorded; read it when the story is over.

    Args:
        after: the story as it stands, to go on with; `story` is then what it is to become.
        frames: which are told, from 0; all by default. All others keep their pictures.
        on: the one model to tell it with, as `asked` of another run; by default the one that is there when
            its turn comes.
        note: what the page says of the story beside the model's own notes.
    """

    def __init__(
        self,
        manager: ModelManager,
        story: Story,
        settings: Settings,
        folder: Path,
        record_svd: bool = False,
        after: GeneratedStory | None = None,
        frames: Sequence[int] | None = None,
        on: ModelRequest | None = None,
        note: str = "",
    ) -> None:
        self.asked = on  # the model that it is told with, once its turn has come
        self._manager = manager
        self._story = story
        self._settings = settings
        self._folder = folder
        self._after = after
        self._frames = tuple(range(len(story.scenes)) if frames is None else frames)
        self._whole = frames is None
        self._anchor_cache = None if after is None or self._whole else after.anchor_cache
        self._anchor_story = story if after is None or self._whole else after.anchor_story
        self._replaced = () if after is None else after.replaced
        self._model_name = "" if after is None else after.model
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._progress = Progress(
            "loading",
            frames=len(story.scenes),
            pictures=() if after is None else after.pictures,
            full_run=after is not None,
            prompts=story.prompts,
            subject=" ".join(f"{story.style} {story.subject}".split()),
            notes=(note,) if note else (),
        )
        self._noted = self._progress.notes  # beside the model's own notes
        # The context says whose request it is: a Space borrows its GPU in that visitor's name.
        work = partial(copy_context().run, self._work)
        self._thread = threading.Thread(target=work, name="tell-story", daemon=True)
        self.filter_log = FilterSummary(settings.steps) if record_svd else None
        self.show_masks = False  # the visitor's wish, which may change at any time
        self._remove_from: Path | None = None  # the library that the folder is to be removed from
        self._began = 0.0  # on the monotonic clock; 0.0 until the model is ours
        self._total_steps = self._steps_before = 0
        self._ticket: Ticket | None = None
        self._pace = Pace()
        self._finished: set[int] = set()  # the frames that this run has told
        self._drafts = drafts_of(self)

    @classmethod
    def from_saved(cls, manager: ModelManager, generated: GeneratedStory, folder: Path) -> "GenerationJob":
        """A story that is over since long, with what it left in its folder."""
        run = cls(manager, generated.story, generated.settings, folder)
        run._anchor_story, run._replaced, run._model_name = (
            generated.anchor_story,
            generated.replaced,
            generated.model,
        )
        run._progress = replace(
            run._progress, stage="done", share=1.0, pictures=generated.pictures, seconds=generated.seconds
        )
        return run

    @property
    def folder(self) -> Path:
        """Where the story's files are."""
        return self._folder

    @property
    def progress(self) -> Progress:
        """The latest snapshot."""
        with self._changed:
            return self._progress

    @property
    def generated(self) -> GeneratedStory:
        """The story as it stands; to be gone on with once this run is over."""
        progress, after = self.progress, self._after
        # Where nothing became of a change, the story is what it was.
        changed = after is None or progress.generated > 0
        return GeneratedStory(
            self._story if changed else after.story,
            self._settings,
            self._anchor_story if changed else after.anchor_story,
            progress.pictures,
            self._replaced,
            self._anchor_cache,
            progress.seconds + (0.0 if after is None or self._whole else after.seconds),
            self._model_name,
        )

    @property
    def before(self) -> GeneratedStory | None:
        """The story as it stood before this run, where this run went on with one."""
        return self._after

    def again(self, story: Story, frames: Sequence[int] | None) -> "GenerationJob":
        """A run that goes on with this one's story, once this one is over; not started yet."""
        run = GenerationJob(self._manager, story, self._settings, self._folder, False, self.generated, frames)
        run.filter_log, run.show_masks = self.filter_log, self.show_masks
        return run

    def show(self, generated: GeneratedStory) -> None:
        """Show another state of the story, whose files are all there: what `taken_back` made of it."""
        self._story, self._anchor_story, self._replaced = (
            generated.story,
            generated.anchor_story,
            generated.replaced,
        )
        self._after = generated
        self._update(pictures=generated.pictures)
        write_record(self._folder, generated, generated.seconds)

    def start(self) -> None:
        """Begin; returns at once. ValueError where too many stories wait for the model."""
        self._folder.mkdir(exist_ok=True)  # it went where a story was stopped before its first picture
        try:
            self._ticket = self._manager.line.join(work_of(len(self._frames), self._settings))
        except ValueError:
            self._leave_no_empty_folder()
            raise
        self._manager.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask the story to end after the step that is running; returns at once."""
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Wait at most `seconds` for the story to end; True when it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def remove_files(self, library: Path) -> None:
        """Remove the story's folder from `library`: now, or when a running step has ended."""
        with self._changed:
            self._remove_from = library
            if self._progress.over:
                remove_folder(self._folder, library)

    def watch(self, tick: float = 0.2) -> Iterator[Progress]:
        """Snapshots until the story is over: each new one at once, the same one again after `tick` seconds.

        The repetition lets whoever consumes this be cancelled while a long step runs.
        """
        seen: Progress | None = None
        while seen is None or not seen.over:
            with self._changed:
                if self._progress is seen:
                    self._changed.wait(tick)
                seen = self._progress
            yield seen

    def _work(self) -> None:
        try:
            # The model is taken when the turn has come: another one may be loaded before.
            with self._manager.line.turn(self._ticket, self._stop, self._wait):
                model = self._loaded_model()
                if model is not None:
                    self._ticket.began = time.monotonic()  # loading the model is no measure of stories
                    self._update(stage="waiting", before=0, seconds_to_wait=None)
                    self._generate(model)
        except ValueError as error:  # most likely it does not fit the model; a fault leaves its trace here
            log.debug("a story was refused", exc_info=True)
            self._fail(str(error))
        except Exception as error:  # the thread's top: whatever went wrong, the page has to tell it
            log.exception("telling a story failed")
            self._fail(str(error))
        finally:
            self._manager.line.leave(self._ticket)
            self._leave_no_empty_folder()

    def _leave_no_empty_folder(self) -> None:
        with suppress(OSError):  # one with a picture in it stays
            self._folder.rmdir()

    def _fail(self, why: str) -> None:
        self._update(stage="failed", previews=(), error=f"The story could not be told: {why}")

    def _wait(self, place: Place) -> None:
        stage = "waiting" if self._manager.loaded else "loading"
        self._update(stage=stage, before=place.before, seconds_to_wait=place.seconds)

    def _generate(self, model: Model) -> None:
        settings, frames = self._settings, self._frames
        # Looked at before, too; but while the story waited another model may have been loaded.
        if self._after and (refusal := not_of(model.name, self._after, self._manager.may_switch)):
            raise ValueError(refusal)
        self._model_name = model.name
        needs_cache = settings.shares and not self._whole
        if needs_cache and not self._manager.keeps_anchors:
            frames, needs_cache = self._with_anchors(), False
        if needs_cache and self._anchor_cache is None:
            self._regenerate_anchors(model)
            if self._stop.is_set():
                self._close(model, "stopped", None)
                return
        keeps = settings.shares and not settings.random_anchors and not needs_cache
        keeps = keeps and self._manager.keeps_anchors
        every = max(1, settings.steps // PREVIEWS)
        for event in self._manager.generate(
            model,
            self._story,
            replace(settings, preview_every=every),
            self._stop,
            anchor_cache=self._anchor_cache if needs_cache else None,
            frames=[frame for frame in frames if frame not in self._finished],
            keep_anchors=keeps,
            filter_log=self.filter_log,
            preview_share=PREVIEW_SHARE,
        ):
            self._take(event, model)

    def _with_anchors(self) -> tuple[int, ...]:
        """The frames, and the anchors that they look at, to be told together where no bank is kept."""
        anchors = range(self._settings.anchors)
        if changed_anchor_story(self._story, self._anchor_story, self._settings):
            raise ValueError(
                "an anchor was changed, and the former one is not kept on a GPU that is lent for one story; "
                "tell the story anew"
            )
        return tuple(sorted({*anchors, *self._frames}))

    def _regenerate_anchors(self, model: Model) -> None:
        """Fill the bank with the anchors as they were told at first. Their pictures are there already.

        Not those of a story from a file: its unchanged anchors are kept as they come, because an anchor that
        is told against the others is another picture.
        """
        anchors = range(self._settings.anchors)
        events = self._manager.generate(
            model, self._anchor_story, self._settings, self._stop, frames=anchors, keep_anchors=True
        )
        for event in events:
            match event:
                case Started():
                    self._begin(event)
                    steps = event.total_steps
                    # The frames after them take as many steps each.
                    self._total_steps += steps // len(anchors) * len(self._frames)
                    self._update(unseen=True)
                case Preview():
                    self._count_step(event)
                case FrameDone() if event.frame in self._first_generated:
                    self._keep(event, model)
                case Finished():
                    self._anchor_cache = event.anchor_cache
                    self._steps_before = steps

    @property
    def _first_generated(self) -> set[int]:
        """The frames of a story from a file that are still the anchors they were."""
        if self._after is None or self._after.pictures:
            return set()
        anchors = set(range(self._settings.anchors)) & set(self._frames)
        return {frame for frame in anchors if same_frame(self._story, self._anchor_story, frame)}

    def _loaded_model(self) -> Model | None:
        """The model once it is loaded; None when the story was stopped before, or there is no such model."""
        manager = self._manager
        while not self._stop.is_set() and not manager.wait_for_model(0.2):
            pass
        if self._stop.is_set():
            self._update(stage="stopped")
        elif manager.reason:
            self._fail(manager.reason)
        elif self.asked not in (None, manager.wanted):
            self._update(stage="failed", error=OTHER_MODEL)
        else:
            self.asked = manager.wanted
            return manager.model
        return None

    def _take(self, event: Event, model: Model) -> None:
        match event:
            case Started():
                self._begin(event)
            case Preview():
                self._count_step(event)
                if event.image is not None:
                    self._draft(event)
            case FrameDone() if event.frame in self._frames:
                self._keep(event, model)
            case Finished():
                self._close(model, "done", event.anchor_cache, share=1.0)
            case Note():
                self._update(notes=(*self._progress.notes, event.text))
            case Cancelled(reason=reason):
                stage = "failed" if reason else "stopped"
                self._close(model, stage, event.anchor_cache, error=_sentence(reason))

    def _begin(self, event: Started) -> None:
        self._began = self._began or time.monotonic()
        self._total_steps = self._total_steps or event.total_steps
        # Memory and time are said before the first step.
        known = [item for item in (event.memory, event.estimate) if item]
        self._update(
            stage="telling",
            steps=event.steps,
            notes=(*self._noted, *event.notes),
            plan=event.memory.short_words() if event.memory else "",
            expected=event.estimate.short_words() if event.estimate else "",
            plans=tuple(f"{item.words()}." for item in known),
            unseen=False,
        )

    def _count_step(self, event: Preview) -> None:
        done = self._steps_before + event.done
        share = done / self._total_steps
        now = time.monotonic()
        progress = self._progress
        self._pace.note((self._steps_before, event.step, event.first_pass), done, now)
        self._ticket.seconds_left = self._pace.seconds_left(self._total_steps, now)
        waiting = [frame for frame in self._frames if frame not in self._finished]
        first = waiting[0] + 1 if waiting and not progress.unseen else 1
        self._update(
            first_frame=first,
            last_frame=max(event.frame + 1, first if progress.first_frame != first else progress.last_frame),
            step=event.step + 1,
            first_pass=event.first_pass,
            share=share,
            seconds_left=self._ticket.seconds_left,
        )

    def _draft(self, event: Preview) -> None:
        path = self._drafts / f"{event.frame + 1:02d}-{event.done}.jpg"
        event.image.save(path, quality=85)
        self._update(previews=tuple({**dict(self._progress.previews), event.frame: path}.items()))

    def _keep(self, event: FrameDone, model: Model) -> None:
        progress, frame = self._progress, event.frame
        replaced = tuple(picture for picture in progress.pictures if picture.frame == frame)
        picture = save_picture(
            self._folder, event, self._story, self._settings, model.name, self._anchor_story
        )
        others = tuple(one for one in progress.pictures if one not in replaced)
        self._replaced += replaced
        self._finished.add(frame)
        pictures = in_order((*others, picture))
        # First the record: whatever happens next, what is made can be found again.
        generated = replace(
            self.generated, story=self._story, anchor_story=self._anchor_story, pictures=pictures
        )
        write_record(self._folder, generated, None)
        self._update(
            pictures=pictures,
            previews=tuple(one for one in progress.previews if one[0] != frame),
            generated=len(self._finished),
        )

    def _close(self, model: Model, stage: Stage, anchor_cache: AnchorCache | None, **changes: Any) -> None:
        self._anchor_cache = _small_enough(anchor_cache) if anchor_cache else self._anchor_cache
        self._update(previews=())
        generated = self.generated
        if generated.pictures:
            write_record(self._folder, generated, generated.seconds if self._began else None)
        self._update(stage=stage, unseen=False, **changes)

    def _update(self, **changes: Any) -> None:
        with self._changed:
            if self._began and not self._progress.over:
                changes["seconds"] = time.monotonic() - self._began
            self._progress = replace(self._progress, **changes)
            if self._progress.over and self._remove_from:
                remove_folder(self._folder, self._remove_from)
            self._changed.notify_all()


def _small_enough(anchor_cache: AnchorCache | None) -> AnchorCache | None:
    """The bank in the computer's memory, out of the next story's way; None where it is too large for that."""
    if anchor_cache is None or anchor_cache.size > MOST_OF_MEMORY * psutil.virtual_memory().available:
        return None
    return anchor_cache.to("cpu")


def _sentence(reason: str) -> str:
    return f"The story could not be finished: {reason}." if reason else ""
