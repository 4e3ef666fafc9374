"""A job: a thread that generates a story or some frames of it, and a snapshot of its progress.

A Gradio generator that is cancelled keeps running until its next yield, and a step of a large model can take
long. So the work happens in a thread of its own with a stop event, and handlers only read snapshots.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from consistory_svd.library import remove_folder
from consistory_svd.studio.generated_story import (
    GeneratedStory,
    GenerationRequest,
    changed_anchor_story,
    same_frame,
    save_picture,
    write_record,
)
from consistory_svd.studio.model_manager import ModelManager, other_model
from consistory_svd.studio.progress import JobState, Progress, StepTimer, preview_folder
from consistory_svd.studio.queue import Position, Ticket, job_cost

if TYPE_CHECKING:
    from consistory_svd.attention import AnchorCache
    from consistory_svd.events import Event, FrameDone, Preview, Started
    from consistory_svd.models.model import Model

log = logging.getLogger(__name__)
# Previews of a pass, at most, and the share of the denoising time that they may take.
PREVIEW_COUNT = 8
PREVIEW_SHARE = 0.07
# The anchor cache is kept if it takes at most this share of the free memory.
MAX_CACHE_SHARE = 0.25
OTHER_MODEL = (
    "Another model was loaded meanwhile. The comparison ends here, because images of different models cannot "
    "be compared."
)


class GenerationJob:
    """A request carried out in a thread. Every frame is saved once, as a PNG with metadata.

    Attributes:
        request: what it generates.
        model: the model that it used, once its turn has come.
    """

    def __init__(self, manager: ModelManager, request: GenerationRequest) -> None:
        story, previous = request.story, request.previous
        self.request = request
        self.model = request.model
        self._manager = manager
        self._generated = request.begin()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._progress = Progress(
            "loading",
            frames=len(story.scenes),
            scenes=story.scene_texts,
            subject=" ".join(f"{story.style} {story.subject}".split()),
            pictures=() if previous is None else previous.pictures,
            continues=previous is not None,
            notes=(request.note,) if request.note else (),
        )
        # The context says whose request it is: a Space borrows its GPU in that visitor's name.
        work = partial(copy_context().run, self._work)
        self._thread = threading.Thread(target=work, name="generate", daemon=True)
        self._remove_from: Path | None = None  # the library that the folder is to be removed from
        self._ticket: Ticket | None = None
        self._timer = StepTimer()
        self._finished: set[int] = set()
        self._previews = preview_folder(self)

    @property
    def progress(self) -> Progress:
        """The latest snapshot."""
        with self._changed:
            return self._progress

    @property
    def generated(self) -> GeneratedStory:
        """The story as it is now. If nothing came of a change, it is the previous story."""
        before = self.request.previous.seconds if self.request.attends_to_previous else 0.0
        with self._changed:
            return replace(self._generated, seconds=before + self._progress.seconds)

    def start(self) -> None:
        """Start and return at once. ValueError if the queue is full."""
        folder = self.request.folder
        folder.mkdir(exist_ok=True)  # it was removed if the story was stopped before its first image
        try:
            cost = job_cost(len(self.request.indices), self.request.settings)
            self._ticket = self._manager.queue.enqueue(cost)
        except ValueError:
            self._remove_empty_folder()
            raise
        self._manager.start()
        self._thread.start()

    def stop(self) -> None:
        """Ask the job to end after the current step; returns at once."""
        self._stop.set()

    def join(self, seconds: float) -> bool:
        """Wait at most `seconds` for the job to end; return whether it has."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def remove_files(self, library: Path) -> None:
        """Remove the story's folder from `library`: now, or when the current step has ended."""
        with self._changed:
            self._remove_from = library
            if self._progress.over:
                remove_folder(self.request.folder, library)

    def watch(self, tick: float = 0.2) -> Iterator[Progress]:
        """Yield snapshots until the job is over: each new one at once, the same one again after `tick` s.

        The repetition lets the consumer be cancelled during a long step.
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
            with self._manager.queue.wait_turn(self._ticket, self._stop, self._wait):
                model = self._loaded_model()
                if model is not None:
                    self._ticket.started = time.monotonic()  # loading the model is not part of the job
                    self._update(state="waiting", jobs_ahead=0, seconds_to_wait=None)
                    self._generate(model)
        except ValueError as error:  # most likely the request does not fit the model
            log.debug("a story was refused", exc_info=True)
            self._fail(str(error))
        except Exception as error:  # the thread's top: the page reports any failure
            log.exception("generating a story failed")
            self._fail(str(error))
        finally:
            self._manager.queue.leave(self._ticket)
            self._remove_empty_folder()

    def _remove_empty_folder(self) -> None:
        with suppress(OSError):  # it has images
            self.request.folder.rmdir()

    def _fail(self, reason: str) -> None:
        self._update(state="failed", previews=(), error=f"The story could not be generated: {reason}")

    def _wait(self, position: Position) -> None:
        state = "waiting" if self._manager.loaded else "loading"
        self._update(state=state, jobs_ahead=position.jobs_ahead, seconds_to_wait=position.seconds)

    def _loaded_model(self) -> "Model | None":
        """Return the model once it is loaded; None if the job was stopped, or there is no such model."""
        manager = self._manager
        while not self._stop.is_set() and not manager.wait_for_model(0.2):
            pass
        if self._stop.is_set():
            self._update(state="stopped")
        elif manager.error:
            self._fail(manager.error)
        elif self.model not in (None, manager.requested):
            self._update(state="failed", error=OTHER_MODEL)
        else:
            self.model = manager.requested
            return manager.model
        return None

    def _generate(self, model: "Model") -> None:
        request, settings, keeps = self.request, self.request.settings, self._manager.keeps_anchors
        # Checked on the page, too; but another model may have been loaded while the job waited.
        may_switch = self._manager.may_switch
        if request.previous and (refusal := other_model(model.name, request.previous, may_switch)):
            raise ValueError(refusal)
        self._generated = replace(self._generated, model=model.name)
        frames, needs_cache = request.indices, settings.shares and request.frames is not None
        if needs_cache and not keeps:
            frames, needs_cache = self._with_anchors(), False
        if needs_cache and self._generated.anchor_cache is None:
            self._regenerate_anchors(model)
            if self._stop.is_set():
                self._close("stopped", None)
                return
        events = self._manager.generate(
            model,
            request.story,
            replace(settings, preview_every=max(1, settings.steps // PREVIEW_COUNT)),
            self._stop,
            anchor_cache=self._generated.anchor_cache if needs_cache else None,
            frames=[frame for frame in frames if frame not in self._finished],
            keep_anchors=keeps and settings.shares and not settings.random_anchors and not needs_cache,
            filter_log=self._generated.filter_log,
            preview_share=PREVIEW_SHARE,
        )
        for event in events:
            self._take(event)

    def _with_anchors(self) -> tuple[int, ...]:
        """Return the frames and their anchors, to be generated together if no anchor cache is kept."""
        request, previous = self.request, self.request.previous
        if changed_anchor_story(request.story, previous.anchor_story, request.settings):
            raise ValueError(
                "an anchor was changed, and the former one is not kept on a GPU that is lent for one story; "
                "generate the story again"
            )
        return tuple(sorted({*range(request.settings.anchors), *request.indices}))

    def _regenerate_anchors(self, model: "Model") -> None:
        """Fill the anchor cache from the story that the anchors come from. Their images exist already.

        In a story from a file they do not: unchanged anchors are kept as they come, because an anchor that
        attends to the others is another image.
        """
        from consistory_svd.events import Finished, FrameDone, Preview, Started

        request = self.request
        anchors = range(request.settings.anchors)
        events = self._manager.generate(
            model,
            request.previous.anchor_story,
            request.settings,
            self._stop,
            frames=anchors,
            keep_anchors=True,
        )
        for event in events:
            match event:
                case Started():
                    self._begin(event)
                    steps = event.total_steps
                    # The frames after them take as many steps each.
                    self._timer.total += steps // len(anchors) * len(request.indices)
                    self._update(anchors_only=True)
                case Preview():
                    self._count_step(event)
                case FrameDone() if event.frame in self._unchanged_anchors:
                    self._keep(event)
                case Finished():
                    self._generated = replace(self._generated, anchor_cache=event.anchor_cache)
                    self._timer.offset = steps

    @property
    def _unchanged_anchors(self) -> set[int]:
        """The anchors of a story from a file that are still what they were."""
        request, previous = self.request, self.request.previous
        if previous.pictures:
            return set()
        anchors = set(range(request.settings.anchors)) & set(request.indices)
        return {frame for frame in anchors if same_frame(request.story, previous.anchor_story, frame)}

    def _take(self, event: "Event") -> None:
        from consistory_svd.events import Cancelled, Finished, FrameDone, Note, Preview, Started

        match event:
            case Started():
                self._begin(event)
            case Preview():
                self._count_step(event)
                if event.image is not None:
                    self._save_preview(event)
            case FrameDone() if event.frame in self.request.indices:
                self._keep(event)
            case Finished():
                self._close("done", event.anchor_cache, share=1.0)
            case Note():
                self._update(notes=(*self._progress.notes, event.text))
            case Cancelled(reason=reason):
                error = f"The story could not be finished: {reason}." if reason else ""
                self._close("failed" if reason else "stopped", event.anchor_cache, error=error)

    def _begin(self, event: "Started") -> None:
        self._timer.start(event.total_steps)
        self._update(
            state="generating",
            steps=event.steps,
            notes=(*((self.request.note,) if self.request.note else ()), *event.notes),
            memory=event.memory.summary() if event.memory else "",
            details=f"{event.memory.description()}." if event.memory else "",
            anchors_only=False,
        )

    def _count_step(self, event: "Preview") -> None:
        progress, now = self._progress, time.monotonic()
        self._timer.record((event.step, event.first_pass), event.done, now)
        self._ticket.seconds_left = self._timer.seconds_left(now)
        waiting = [frame for frame in self.request.indices if frame not in self._finished]
        first = waiting[0] + 1 if waiting and not progress.anchors_only else 1
        self._update(
            first_frame=first,
            last_frame=max(event.frame + 1, first if progress.first_frame != first else progress.last_frame),
            step=event.step + 1,
            first_pass=event.first_pass,
            share=self._timer.share,
            seconds_left=self._ticket.seconds_left,
        )

    def _save_preview(self, event: "Preview") -> None:
        path = self._previews / f"{event.frame + 1:02d}-{event.done}.jpg"
        event.image.save(path, quality=85)
        self._update(previews=tuple({**dict(self._progress.previews), event.frame: path}.items()))

    def _keep(self, event: "FrameDone") -> None:
        changed = self.request.change(self._generated) if not self._finished else self._generated
        generated = changed.with_picture(save_picture(event, changed))
        self._finished.add(event.frame)
        write_record(generated, None)  # first: whatever happens next, the image can be found again
        self._generated = generated
        self._update(
            pictures=generated.pictures,
            previews=tuple(one for one in self._progress.previews if one[0] != event.frame),
            finished=len(self._finished),
        )

    def _close(self, state: JobState, anchor_cache: "AnchorCache | None", **changes: Any) -> None:
        if anchor_cache:
            self._generated = replace(self._generated, anchor_cache=_if_small(anchor_cache))
        self._update(previews=())
        generated = self.generated
        if generated.pictures:
            write_record(generated, generated.seconds if self._timer.started else None)
        self._update(state=state, anchors_only=False, **changes)

    def _update(self, **changes: Any) -> None:
        with self._changed:
            if self._timer.started and not self._progress.over:
                changes["seconds"] = time.monotonic() - self._timer.started
            self._progress = replace(self._progress, **changes)
            if self._progress.over and self._remove_from:
                remove_folder(self.request.folder, self._remove_from)
            self._changed.notify_all()


def _if_small(anchor_cache: "AnchorCache") -> "AnchorCache | None":
    """Return the cache in main memory, so that the GPU is free; None if it is too large for that."""
    if anchor_cache.size > MAX_CACHE_SHARE * psutil.virtual_memory().available:
        return None
    return anchor_cache.to("cpu")
