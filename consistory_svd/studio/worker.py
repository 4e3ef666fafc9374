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

from consistory_svd.library import remove_folder
from consistory_svd.loading import ModelRequest
from consistory_svd.models import Model
from consistory_svd.settings import Settings, Story
from consistory_svd.sharing import AnchorBank, SpectraSketch
from consistory_svd.story import Cancelled, Event, Finished, FrameDone, Note, Preview, Started
from consistory_svd.studio.drafts import drafts_of
from consistory_svd.studio.engine import Engine
from consistory_svd.studio.folder import save_picture, write_record
from consistory_svd.studio.line import Place, Ticket, work_of
from consistory_svd.studio.pace import Pace
from consistory_svd.studio.progress import Progress, Stage
from consistory_svd.studio.same_model import not_of
from consistory_svd.studio.told import Picture, Told, foreign_lenders, in_order, same_frame

log = logging.getLogger(__name__)
# Previews of a pass, at most, and the share of the denoising time that they may take.
PREVIEWS = 8
PREVIEW_SHARE = 0.07
# Anchors are kept where they take no more than this share of the memory that is free.
MOST_OF_MEMORY = 0.25
OTHER_MODEL = "Another model was loaded meanwhile, so this ends here: its pictures could not be compared."
__all__ = ["Picture", "Progress", "Stage", "StoryRun"]


class StoryRun:
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
        engine: Engine,
        story: Story,
        settings: Settings,
        folder: Path,
        record_spectra: bool = False,
        after: Told | None = None,
        frames: Sequence[int] | None = None,
        on: ModelRequest | None = None,
        note: str = "",
    ) -> None:
        self.asked = on  # the model that it is told with, once its turn has come
        self._engine = engine
        self._story = story
        self._settings = settings
        self._folder = folder
        self._after = after
        self._frames = tuple(range(len(story.scenes)) if frames is None else frames)
        self._whole = frames is None
        self._bank = None if after is None or self._whole else after.bank
        self._lenders = story if after is None or self._whole else after.lenders
        self._former = () if after is None else after.former
        self._model_name = "" if after is None else after.model
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._progress = Progress(
            "loading",
            frames=len(story.scenes),
            pictures=() if after is None else after.pictures,
            anew=after is not None,
            prompts=story.prompts,
            subject=" ".join(f"{story.style} {story.subject}".split()),
            notes=(note,) if note else (),
        )
        self._noted = self._progress.notes  # beside the model's own notes
        # The context says whose request it is: a Space borrows its GPU in that visitor's name.
        work = partial(copy_context().run, self._work)
        self._thread = threading.Thread(target=work, name="tell-story", daemon=True)
        self.spectra = SpectraSketch(settings.steps) if record_spectra else None
        self.show_masks = False  # the visitor's wish, which may change at any time
        self._remove_from: Path | None = None  # the library that the folder is to be removed from
        self._began = 0.0  # on the monotonic clock; 0.0 until the model is ours
        self._total_steps = self._steps_before = 0
        self._ticket: Ticket | None = None
        self._pace = Pace()
        self._finished: set[int] = set()  # the frames that this run has told
        self._drafts = drafts_of(self)

    @classmethod
    def told_before(cls, engine: Engine, told: Told, folder: Path) -> "StoryRun":
        """A story that is over since long, with what it left in its folder."""
        run = cls(engine, told.story, told.settings, folder)
        run._lenders, run._former, run._model_name = told.lenders, told.former, told.model
        run._progress = replace(
            run._progress, stage="done", share=1.0, pictures=told.pictures, seconds=told.seconds
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
    def told(self) -> Told:
        """The story as it stands; to be gone on with once this run is over."""
        progress, after = self.progress, self._after
        # Where nothing became of a change, the story is what it was.
        changed = after is None or progress.told > 0
        return Told(
            self._story if changed else after.story,
            self._settings,
            self._lenders if changed else after.lenders,
            progress.pictures,
            self._former,
            self._bank,
            progress.seconds + (0.0 if after is None or self._whole else after.seconds),
            self._model_name,
        )

    @property
    def before(self) -> Told | None:
        """The story as it stood before this run, where this run went on with one."""
        return self._after

    def again(self, story: Story, frames: Sequence[int] | None) -> "StoryRun":
        """A run that goes on with this one's story, once this one is over; not started yet."""
        run = StoryRun(self._engine, story, self._settings, self._folder, False, self.told, frames)
        run.spectra, run.show_masks = self.spectra, self.show_masks
        return run

    def become(self, told: Told) -> None:
        """Show another state of the story, whose files are all there: what `taken_back` made of it."""
        self._story, self._lenders, self._former = told.story, told.lenders, told.former
        self._after = told
        self._update(pictures=told.pictures)
        write_record(self._folder, told, told.seconds)

    def start(self) -> None:
        """Begin; returns at once. ValueError where too many stories wait for the model."""
        self._folder.mkdir(exist_ok=True)  # it went where a story was stopped before its first picture
        try:
            self._ticket = self._engine.line.join(work_of(len(self._frames), self._settings))
        except ValueError:
            self._leave_no_empty_folder()
            raise
        self._engine.start()
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
            with self._engine.line.turn(self._ticket, self._stop, self._wait):
                model = self._loaded_model()
                if model is not None:
                    self._ticket.began = time.monotonic()  # loading the model is no measure of stories
                    self._update(stage="waiting", before=0, seconds_to_wait=None)
                    self._tell(model)
        except ValueError as error:  # most likely it does not fit the model; a fault leaves its trace here
            log.debug("a story was refused", exc_info=True)
            self._fail(str(error))
        except Exception as error:  # the thread's top: whatever went wrong, the page has to tell it
            log.exception("telling a story failed")
            self._fail(str(error))
        finally:
            self._engine.line.leave(self._ticket)
            self._leave_no_empty_folder()

    def _leave_no_empty_folder(self) -> None:
        with suppress(OSError):  # one with a picture in it stays
            self._folder.rmdir()

    def _fail(self, why: str) -> None:
        self._update(stage="failed", previews=(), error=f"The story could not be told: {why}")

    def _wait(self, place: Place) -> None:
        stage = "waiting" if self._engine.loaded else "loading"
        self._update(stage=stage, before=place.before, seconds_to_wait=place.seconds)

    def _tell(self, model: Model) -> None:
        settings, frames = self._settings, self._frames
        # Looked at before, too; but while the story waited another model may have been loaded.
        if self._after and (refusal := not_of(model.name, self._after, self._engine.may_switch)):
            raise ValueError(refusal)
        self._model_name = model.name
        needs_bank = settings.shares and not self._whole
        if needs_bank and not self._engine.keeps_anchors:
            frames, needs_bank = self._with_anchors(), False
        if needs_bank and self._bank is None:
            self._tell_anchors_again(model)
            if self._stop.is_set():
                self._close(model, "stopped", None)
                return
        keeps = settings.shares and not settings.random_anchors and not needs_bank
        keeps = keeps and self._engine.keeps_anchors
        every = max(1, settings.steps // PREVIEWS)
        for event in self._engine.tell(
            model,
            self._story,
            replace(settings, preview_every=every),
            self._stop,
            bank=self._bank if needs_bank else None,
            frames=[frame for frame in frames if frame not in self._finished],
            keep_anchors=keeps,
            spectra=self.spectra,
            preview_share=PREVIEW_SHARE,
        ):
            self._take(event, model)

    def _with_anchors(self) -> tuple[int, ...]:
        """The frames, and the anchors that they look at, to be told together where no bank is kept."""
        anchors = range(self._settings.anchors)
        if foreign_lenders(self._story, self._lenders, self._settings):
            raise ValueError(
                "an anchor was changed, and the former one is not kept on a GPU that is lent for one story; "
                "tell the story anew"
            )
        return tuple(sorted({*anchors, *self._frames}))

    def _tell_anchors_again(self, model: Model) -> None:
        """Fill the bank with the anchors as they were told at first. Their pictures are there already.

        Not those of a story from a file: its unchanged anchors are kept as they come, because an anchor that
        is told against the others is another picture.
        """
        anchors = range(self._settings.anchors)
        events = self._engine.tell(
            model, self._lenders, self._settings, self._stop, frames=anchors, keep_anchors=True
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
                case FrameDone() if event.frame in self._first_told:
                    self._keep(event, model)
                case Finished():
                    self._bank = event.bank
                    self._steps_before = steps

    @property
    def _first_told(self) -> set[int]:
        """The frames of a story from a file that are still the anchors they were."""
        if self._after is None or self._after.pictures:
            return set()
        anchors = set(range(self._settings.anchors)) & set(self._frames)
        return {frame for frame in anchors if same_frame(self._story, self._lenders, frame)}

    def _loaded_model(self) -> Model | None:
        """The model once it is loaded; None when the story was stopped before, or there is no such model."""
        engine = self._engine
        while not self._stop.is_set() and not engine.wait_for_model(0.2):
            pass
        if self._stop.is_set():
            self._update(stage="stopped")
        elif engine.reason:
            self._fail(engine.reason)
        elif self.asked not in (None, engine.wanted):
            self._update(stage="failed", error=OTHER_MODEL)
        else:
            self.asked = engine.wanted
            return engine.model
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
                self._close(model, "done", event.bank, share=1.0)
            case Note():
                self._update(notes=(*self._progress.notes, event.text))
            case Cancelled(reason=reason):
                stage = "failed" if reason else "stopped"
                self._close(model, stage, event.bank, error=_sentence(reason))

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
        picture = save_picture(self._folder, event, self._story, self._settings, model.name, self._lenders)
        others = tuple(one for one in progress.pictures if one not in replaced)
        self._former += replaced
        self._finished.add(frame)
        pictures = in_order((*others, picture))
        # First the record: whatever happens next, what is made can be found again.
        told = replace(self.told, story=self._story, lenders=self._lenders, pictures=pictures)
        write_record(self._folder, told, None)
        self._update(
            pictures=pictures,
            previews=tuple(one for one in progress.previews if one[0] != frame),
            told=len(self._finished),
        )

    def _close(self, model: Model, stage: Stage, bank: AnchorBank | None, **changes: Any) -> None:
        self._bank = _small_enough(bank) if bank else self._bank
        self._update(previews=())
        told = self.told
        if told.pictures:
            write_record(self._folder, told, told.seconds if self._began else None)
        self._update(stage=stage, unseen=False, **changes)

    def _update(self, **changes: Any) -> None:
        with self._changed:
            if self._began and not self._progress.over:
                changes["seconds"] = time.monotonic() - self._began
            self._progress = replace(self._progress, **changes)
            if self._progress.over and self._remove_from:
                remove_folder(self._folder, self._remove_from)
            self._changed.notify_all()


def _small_enough(bank: AnchorBank | None) -> AnchorBank | None:
    """The bank in the computer's memory, out of the next story's way; None where it is too large for that."""
    if bank is None or bank.size > MOST_OF_MEMORY * psutil.virtual_memory().available:
        return None
    return bank.to("cpu")


def _sentence(reason: str) -> str:
    return f"The story could not be finished: {reason}." if reason else ""
