"""Between widgets and library: a handler turns form values into a call, and snapshots into updates."""

import logging
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.library import Library, keep_scores
from consistory_svd.limits import Limits
from consistory_svd.metrics.report import as_json
from consistory_svd.metrics.settings import ScoreSettings
from consistory_svd.metrics.weights import fetchable
from consistory_svd.pipeline import picture_size
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.components import scores_fetching as fetching
from consistory_svd.studio.components import scores_html as scorecard
from consistory_svd.studio.components import svd_filter_plots as curves
from consistory_svd.studio.components.continue_handlers import ContinueHandlers
from consistory_svd.studio.components.model_following import few_steps
from consistory_svd.studio.form import concept_of, fewer_anchors, in_words, read_form, read_switch
from consistory_svd.studio.gallery import gallery_items, updates
from consistory_svd.studio.generated_story import GeneratedStory, GenerationRequest, OpenedStory
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.layout import form_values
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.studio.session import Session, Sessions
from consistory_svd.studio.visitor_storage import VisitorStorage

log = logging.getLogger(__name__)
# How long Cancel waits for the running step before it reports; a step on a small machine may take this long.
PATIENCE_SECONDS = 120.0
NOT_WRITTEN = "The library's folder cannot be written:"


class StoryOwner(Protocol):
    """A room beside the story's that tells stories, too."""

    def leave(self, session: Session, remove_from: Path | None) -> Path | None:
        """The visitor has gone: stop what is told, and remove its files if they lie in `remove_from`; the
        folder that is still written to, if any."""

    def is_generating_into(self, folder: Path) -> bool:
        """Whether a story is being told into the folder."""


class Handlers:
    """The studio's handlers and what they share: the engine, the visitors' sessions, and the library of each
    (by default one of their own)."""

    def __init__(
        self, manager: ModelManager, limits: Limits | None = None, storage: VisitorStorage | None = None
    ) -> None:
        self.manager = manager
        self.limits = limits or Limits()
        self.storage = storage or VisitorStorage()
        self.sessions = Sessions()
        self._fetching = fetching.Fetching()
        self.rooms: list[StoryOwner] = []  # other rooms that tell
        self.continuing = ContinueHandlers(self.sessions, manager, self.limits)

    # -- the model ---------------------------------------------------------------------------------------

    def follow_model(self) -> Iterator[tuple[Any, ...]]:
        """Tell how the model is doing until it is loaded: the model line, the words' frame, the words."""
        self.manager.start()
        yield view.model_loading(), gr.update(visible=False), ""
        while not self.manager.wait_for_model(0.2):
            yield gr.skip(), gr.skip(), gr.skip()
        if self.manager.error:
            yield view.alert(self.manager.error), gr.update(visible=False), ""
            return
        yield self.model_shown()

    def model_shown(self) -> tuple[Any, ...]:
        """The model that is there: the model line, the words' frame, the words."""
        model, few = self.manager.model, few_steps(self.manager.recipe, self.limits)
        line = self.manager.description
        return (
            view.model_line(f"{line.rstrip('.')}. {few}" if few else line),
            gr.update(visible=bool(model.vocabulary)),
            view.word_groups(model.vocabulary),
        )

    # -- the form ----------------------------------------------------------------------------------------

    @staticmethod
    def offer_concept(subject: str, concept: str, offered: str) -> tuple[str, str]:
        """Fill in the concept word from the subject: the box's new text, and what was offered last.

        What differs from the last offer was written by hand and stays, until the visitor empties the box.
        """
        if concept.strip() not in ("", offered):
            return concept, offered
        word = concept_of(subject)
        return word, word

    @staticmethod
    def roll_seed() -> tuple[int, str]:
        """A new seed, and no seeds of single pictures."""
        return secrets.randbelow(int(field_of(Story, "seed").maximum) + 1), ""

    # -- telling -----------------------------------------------------------------------------------------

    def begin(
        self, request: gr.Request, offered: str, locked: bool, **form: Any
    ) -> Iterator[tuple[Any, ...]]:
        """Look at the form before the story takes its place in the queue: status, concept, seed, seeds of
        single pictures, Generate, Cancel.

        The concept is filled in here too: whoever presses Generate may have been faster than the last offer.
        Where the seed is not locked, a new one is rolled, for all pictures.

        Raises:
            gr.Error: a field is wrong; the status area has said so before.
        """
        session = self.sessions.of(request)
        concept, _ = self.offer_concept(form["subject"], form["concept"], offered)
        rolled = (gr.skip(), gr.skip()) if locked else self.roll_seed()
        try:
            story, settings = read_form({**form, "concept": concept})
            self.limits.check(story, settings)
            read_switch("record_svd", form)
            if self.manager.ready:
                picture_size(self.manager.model, settings)
            waiting = self.sessions.begin_waiting(session, self.manager.queue.check_capacity)
        except ValueError as error:
            yield view.alert(in_words(error)), concept, gr.skip(), gr.skip(), *_buttons(generation=False)
            raise view.refusal(in_words(error)) from error
        before = len(self.manager.queue) + waiting
        yield view.waiting(self.manager.loaded, before), concept, *rolled, *_buttons(generation=True)

    def generate(self, request: gr.Request, **form: Any) -> Iterator[tuple[Any, ...]]:
        """Tell a story and stream it: the pictures so far with their prompts, and the status.

        `form` is as in `read_form`, with two switches more: `record_spectra` and `show_masks`.

        Raises:
            gr.Error: a field is wrong, or the story failed; pictures already made stay.
        """
        session = self.sessions.of(request)
        if self._was_cancelled(session):
            return
        self.sessions.end_waiting(session)
        try:
            story, settings = read_form(form)
            self.limits.check(story, settings)
            record_svd, show_masks = (read_switch(name, form) for name in ("record_svd", "show_masks"))
            folder = self.library_of(request).new(story.subject)
            note = fewer_anchors(form["anchors"], story, settings)
            job = GenerationJob(self.manager, _request(session, story, settings, folder, record_svd, note))
            job.start()
        except ValueError as error:
            raise gr.Error(in_words(error), print_exception=False) from error
        except OSError as error:
            raise gr.Error(f"{NOT_WRITTEN} {error}", print_exception=False) from error
        session.show(None)
        session.job, session.show_masks = job, show_masks
        yield from _streamed(session, job)

    def continue_story(
        self, kind: str, scene: str, picture: Any, text: str, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Go on with the visitor's story, as `ContinueHandlers` has it, and stream it as `tell` does.

        Raises:
            gr.Error: the wish is wrong, or telling failed; the story stays as it was.
        """
        session = self.sessions.of(request)
        if self._was_cancelled(session):
            return
        try:
            job = self.continuing.next_run(kind, scene, picture, text, session)
        except ValueError as error:
            raise gr.Error(in_words(error), print_exception=False) from error
        yield from _streamed(session, job)

    def score(self, backbone: str, fill: str, request: gr.Request) -> Iterator[str]:
        """The visitor's finished story in numbers, as they become known. Pictures never wait for it."""
        session = self.sessions.find(request)
        generated = session and session.generated
        if not generated or not generated.pictures or session.is_generating or session.failed:
            return
        pictures = generated.pictures
        if not scorecard.scored(pictures):
            yield scorecard.nothing_to_score(pictures)
            return
        yield scorecard.scoring()
        model = generated.model
        settings = ScoreSettings(backbone, fill=fill, device=self.manager.scores_on)
        suite, entries = session.suite_for(settings), []
        frames, note = scorecard.frames_of(pictures, model), scorecard.left_out(pictures)
        try:
            for entry in suite.measure(frames):
                if session.waiting or session.is_generating or session.generated.pictures != pictures:
                    yield ""  # a newer story has the page
                    return
                entries.append(entry)
                yield scorecard.card(entries, frames, note)
        finally:
            suite.free()  # the next story needs the memory
        session.missing_weights = fetchable(entries)
        try:
            keep_scores(generated.folder, [picture.path for picture in pictures], as_json(entries))
        except OSError:  # the story was deleted meanwhile, or the disk is full: the page has the scores
            log.warning("the scores of %s could not be kept", generated.folder.name, exc_info=True)

    def offer_fetch(self, request: gr.Request) -> tuple[Any, str]:
        """The button that fetches what the visitor's scores lack, and the line below it; neither where they
        lack nothing."""
        session = self.sessions.find(request)
        missing = session.missing_weights if session else ()
        if not missing:
            return gr.update(visible=False), ""
        return gr.update(visible=True, value=fetching.button_label(missing)), fetching.offer(missing)

    def fetch(self, backbone: str, fill: str, request: gr.Request) -> Iterator[tuple[Any, str]]:
        """Fetch what the visitor's scores lack and tell how far it is: the button, the line below it.

        Raises:
            gr.Error: it failed; the line has said so before.
        """
        missing = self.sessions.of(request).missing_weights
        self._fetching.start(missing, ScoreSettings(backbone, fill=fill))
        error = ""
        for now in self._fetching.watch():
            error = now.error
            yield gr.update(interactive=now.over), fetching.progress(now)
        if error:
            raise view.refusal("The weights could not be fetched.")

    def show_svd_plots(self, request: gr.Request) -> tuple[Any, ...]:
        """What the spectral filter did to the visitor's story, where that was recorded: the part of the page
        that shows it, the layers and steps to choose from, the figures."""
        session = self.sessions.find(request)
        log_of = session and session.generated and not session.is_generating and session.generated.filter_log
        if not log_of:
            return gr.update(visible=False), gr.skip(), gr.skip(), ""
        layers, steps = log_of.layers, log_of.whole_steps
        if not layers:
            return gr.update(visible=True), *_no_choice(), curves.nothing_recorded()
        layer, step = layers[len(layers) // 2], steps[len(steps) // 2]
        return (
            gr.update(visible=True),
            gr.update(
                choices=[(curves.layer_in_words(name), name) for name in layers],
                value=layer,
                interactive=True,
            ),
            gr.update(choices=[(str(at + 1), at) for at in steps], value=step, interactive=True),
            curves.figures(log_of, layer, step),
        )

    def draw_svd_plots(self, layer: str, step: int, request: gr.Request) -> Any:
        """The figures for the layer and step that the visitor has chosen."""
        generated = self.story_of(request)
        if generated is None or generated.filter_log is None:
            return gr.skip()
        return curves.figures(generated.filter_log, layer, step)

    def cancel(self, request: gr.Request) -> Iterator[tuple[Any, ...]]:
        """Stop the visitor's story and tell what is kept: pictures, status, Generate, Cancel."""
        session = self.sessions.of(request)
        job = session.job
        if waited := self.sessions.end_waiting(session):
            session.cancelled = True
        if waited or job is None:
            yield gr.skip(), view.cancelled_early(), *_buttons(generation=False)
            return
        job.stop()
        yield gr.skip(), view.stopping(), gr.skip(), gr.skip()
        job.join(PATIENCE_SECONDS)
        shown = gallery_items(job.progress.pictures, session.show_masks)
        yield shown, view.status(job.progress), *_buttons(generation=False)

    def show_masks(self, shown: bool, request: gr.Request) -> Any:
        """The visitor's pictures so far, with the subject's masks over them or without."""
        session = self.sessions.of(request)
        session.show_masks = shown
        if session.generated is None:
            return gr.skip()
        return gallery_items(session.generated.pictures, shown, session.job and session.job.progress)

    def leave(self, request: gr.Request) -> None:
        """The tab was closed: stop the visitor's story, and remove what nobody else has a right to."""
        session = self.sessions.remove(request)
        if session is None:
            return
        private = self.storage.private_folder(session)
        busy = [folder for room in self.rooms if (folder := room.leave(session, private))]
        job = session.show(None)
        if job is not None and not job.progress.over:
            busy.append(job.request.folder)
            if private:
                job.remove_files(private)
        self.storage.leave(session, busy)

    def library_of(self, request: gr.Request) -> Library:
        """The library that the visitor sees."""
        return self.storage.of(self.sessions.of(request))

    def story_of(self, request: gr.Request) -> GeneratedStory | None:
        """The story that the visitor's page shows; None where there is none yet."""
        return self.sessions.story_of(request)

    def show(self, story: GeneratedStory, request: gr.Request, missing_weights: tuple[str, ...] = ()) -> None:
        """Make a saved story the one that the visitor's page shows; `missing_weights` are what its scores
        need."""
        session = self.sessions.of(request)
        session.show(story)
        session.show_masks, session.missing_weights = False, missing_weights

    def forget_folder(self, folder: Path) -> None:
        """A story was deleted: no page shows it any longer. None is told into it."""
        for session in self.sessions.all():
            if session.generated is not None and session.generated.folder == folder:
                session.show(None)

    def is_generating(self, request: gr.Request) -> bool:
        """Whether a story of the visitor is being told, or waits for its turn."""
        session = self.sessions.find(request)
        return session is not None and (session.waiting or session.is_generating)

    def is_generating_into(self, folder: Path) -> bool:
        """Whether a story is being told into the folder, by whomever."""
        sessions = self.sessions.all()
        busy = any(one.is_generating and one.job.request.folder == folder for one in sessions)
        return busy or any(room.is_generating_into(folder) for room in self.rooms)

    @staticmethod
    def rest() -> tuple[Any, ...]:
        """Generate can be pressed again, Cancel cannot."""
        return _buttons(generation=False)

    def opened(self, opened: OpenedStory | None, request: gr.Request) -> None:
        """A story came from a file: one whose anchors were another story's is told with those, as it was."""
        self.sessions.of(request).opened = opened

    @staticmethod
    def _was_cancelled(session: Session) -> bool:
        """Whether the visitor cancelled what is about to begin. Gradio's page cannot call an event back whose
        number it does not know yet: it asks for that without one, is answered 422, and the event comes."""
        cancelled = session.cancelled and not session.waiting
        session.cancelled = False
        return cancelled


def _request(
    session: Session, story: Story, settings: Settings, folder: Path, record_svd: bool, note: str
) -> GenerationRequest:
    """What Generate asks for: a story that was opened and not changed keeps its anchors."""
    opened, previous, frames = session.opened, None, None
    if opened is not None and form_values(story, settings) == form_values(opened.story, opened.settings):
        previous = GeneratedStory(story, settings, folder, opened.anchor_story)
        frames = tuple(range(len(story.scenes)))
    return GenerationRequest(story, settings, folder, frames, previous, note=note, record_svd=record_svd)


def _streamed(session: Session, job: GenerationJob) -> Iterator[tuple[Any, ...]]:
    """Stream a job that was started: pictures, status. Whoever leaves early stops the work."""
    try:
        yield from updates(session, job)
    finally:
        job.stop()  # a cancelled or abandoned generator ends here, and the work with it
    if job.progress.state == "failed":
        raise view.refusal(job.progress.error)


def _buttons(generation: bool) -> tuple[Any, Any]:
    return gr.update(interactive=not generation), gr.update(interactive=generation)


def _no_choice() -> tuple[Any, Any]:
    nothing = gr.update(choices=[], value=None, interactive=False)
    return nothing, nothing
