"""The Story tab: the form, Generate, the images, and what can be done with them."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.components.continue_panel import ContinuePanel
from consistory_svd.studio.components.export_panel import connect_export, export_widgets
from consistory_svd.studio.components.fields import (
    HIDDEN,
    NO_QUEUE,
    RAW,
    allow_leaving,
    ask_before_leaving,
    card_title,
    on_user_input,
    text_box,
)
from consistory_svd.studio.components.method_settings import DEFAULTS, MethodSettings
from consistory_svd.studio.components.model_picker import ModelPicker, recipe_values
from consistory_svd.studio.components.open_and_share import OpenAndShare
from consistory_svd.studio.components.sampling_settings import SamplingSettings
from consistory_svd.studio.components.scene_list import scene_list
from consistory_svd.studio.components.scores_panel import ScoresPanel
from consistory_svd.studio.components.svd_filter_plots import SVDFilterPlots
from consistory_svd.studio.examples import EXAMPLES, STYLES
from consistory_svd.studio.form import (
    LABELS,
    anchor_note,
    error_text,
    fill,
    parse,
    parse_switch,
    scene_rows,
    suggest_concept,
)
from consistory_svd.studio.generated_story import GeneratedStory, GenerationRequest
from consistory_svd.studio.job import GenerationJob
from consistory_svd.studio.services import NOT_WRITABLE, STOP_SECONDS, Services
from consistory_svd.studio.session import Session

START = EXAMPLES[0].story
LOCK_HELP = "Locked: reuse this seed. Unlocked: use a new random seed for every run."
MASKS_HELP = "Highlight the detected subject and fade the rest."
NO_STORY = "There is no story to export yet. Generate one first."
# On a narrow screen the status is below the form: scroll there, unless it is in view.
SHOW_STATUS = """() => {
  const status = document.getElementById("status");
  const box = status.getBoundingClientRect();
  if (box.bottom < 0 || box.top > window.innerHeight - 120) status.scrollIntoView({block: "start"});
}"""


class StoryTab:
    """The tab. `form` holds the components that `form.parse` reads, by name.

    Handlers return updates of what changes, keyed by component.
    """

    def __init__(self, services: Services) -> None:
        """Lay the tab out, inside the page's tabs. `connect` adds the events."""
        self.services = services
        self.form: dict[str, Any] = {}
        self.status = gr.HTML(view.welcome(), label="Status", elem_id="status", padding=False, render=False)
        with gr.Tab("Story", id="story"):
            self.examples = _examples()
            with gr.Row(equal_height=False):
                with gr.Column(scale=5, min_width=320, elem_id="story-column"):
                    self._lay_out_form()
                with gr.Column(scale=7, min_width=320, elem_id="pictures-column"):
                    self._lay_out_images()
        services.limits.show_on(self.form)

    def _lay_out_form(self) -> None:
        style = field_of(Story, "style")
        with gr.Group(elem_classes="card"):
            card_title("Story", "One subject, and a list of scenes.")
            self.form["subject"] = text_box(
                Story, "subject", START.subject, placeholder="a fluffy red cat with a hat"
            )
            self.form["scenes"] = scene_list(scene_rows(START), self.services.limits.frames)
            self.form["style"] = gr.Dropdown(
                choices=list(STYLES),
                value=START.style,
                allow_custom_value=True,
                label=style.label,
                info=style.help,
                elem_id="style",
            )
            self._lay_out_seed()
        self.method = MethodSettings()
        self.sampling = SamplingSettings(self.services.manager, START.concepts[0])
        self.form |= self.method.fields | self.sampling.fields
        self.suggested = gr.State(START.concepts[0])  # the concept word that the page filled in last
        self.share = OpenAndShare(self.services, self.fill, self.status)
        with gr.Row(elem_id="actions"):
            self.generate_button = gr.Button("Generate", variant="primary", scale=2, elem_id="generate")
            self.cancel_button = gr.Button("Cancel", interactive=False, scale=1, elem_id="cancel")

    def _lay_out_seed(self) -> None:
        seed = field_of(Story, "seed")
        with gr.Row(elem_id="seed-row"):
            self.form["seed"] = gr.Number(
                START.seed, precision=0, label=seed.label, info=seed.help, min_width=110, elem_id="seed"
            )
            self.dice = gr.Button("New seed", size="md", scale=0, min_width=110, elem_id="dice")
        self.lock = gr.Checkbox(True, label="Lock the seed", info=LOCK_HELP, elem_id="lock")

    def _lay_out_images(self) -> None:
        self.status.render()
        self.pictures = gr.Gallery(
            label="Images",
            show_label=False,
            columns=2,
            fit_columns=False,
            height="auto",
            object_fit="contain",
            format="png",
            interactive=False,
            buttons=["download"],
            elem_id="pictures",
        )
        self.masks = gr.Checkbox(False, label=LABELS["show_masks"], info=MASKS_HELP, elem_id="show_masks")
        self.continue_panel = ContinuePanel(self.services, self.form["scenes"], self.status, self.pictures)
        self.export = export_widgets("export")
        self.scores = ScoresPanel(self.services)
        self.svd_plots = SVDFilterPlots(self.services.sessions)
        self.model = ModelPicker(self.services.manager, self.services.limits, self.form, self.sampling)

    # -- the form ----------------------------------------------------------------------------------------

    def fill(self, story: Story, settings: Settings) -> dict[Any, Any]:
        """Return updates of the form for a story and its settings, the same for files, links, examples and
        saved stories: `form.fill`, within the studio's limits."""
        values = fill(story, settings, self.services.limits)
        updates = {self.form[name]: value for name, value in values.items()}
        updates |= {self.suggested: values["concept"], self.lock: True}
        if settings.filters:
            updates[self.method.svd_filter.group] = gr.update(open=True)
        return updates

    @property
    def fill_outputs(self) -> list[Any]:
        """The components that `fill` updates."""
        return [*self.form.values(), self.suggested, self.lock, self.method.svd_filter.group]

    def fill_example(self, index: int) -> dict[Any, Any]:
        """Return updates of the form for an example, as a few-step model needs it."""
        services = self.services
        recipe = recipe_values(services.manager.recipe, services.limits)
        return self.fill(EXAMPLES[index].story, DEFAULTS) | {
            self.form[name]: value for name, value in recipe.items()
        }

    def suggest(self, subject: str, concept: str, suggested: str) -> dict[Any, Any]:
        """Return updates of the concept word for a subject; see `_suggested`."""
        return self._suggested(subject, concept, suggested) or gr.skip()

    def _suggested(self, subject: str, concept: str, suggested: str) -> dict[Any, Any]:
        """A word that the visitor wrote stays until they empty the box."""
        if concept.strip() not in ("", suggested):
            return {}
        word = suggest_concept(subject)
        return {self.form["concept"]: word, self.suggested: word}

    def new_seed(self, rows: Any) -> dict[Any, Any]:
        """Return updates to a random seed, and to scenes without seeds of their own."""
        rows = [{**row, "seed": None} for row in rows] if isinstance(rows, list) else []
        seed = secrets.randbelow(int(field_of(Story, "seed").maximum) + 1)
        return {self.form["seed"]: seed, self.form["scenes"]: rows}

    # -- jobs --------------------------------------------------------------------------------------------

    def generate(
        self, request: gr.Request, suggested: str, locked: bool, show_masks: Any, **values: Any
    ) -> Iterator[dict[Any, Any]]:
        """Generate the form's story and stream images and status.

        Raises:
            gr.Error: a value is wrong or the queue is full; the status has said so before, and nothing
            changed.
        """
        session = self.services.sessions.of(request)
        # Again here: whoever presses Generate may be faster than the last suggestion.
        updates = self._suggested(values["subject"], values["concept"], suggested)
        if not locked:
            updates |= self.new_seed(values["scenes"])
        values |= {name: updates[item] for name, item in self.form.items() if item in updates}
        try:
            show_masks = parse_switch("show_masks", {"show_masks": show_masks})
            job = self._start(session, request, values)
        except (ValueError, OSError) as error:
            yield from self._refuse(error)
        session.show(None)
        session.job, session.show_masks = job, show_masks
        yield from self._stream(session, job, {self.continue_panel.part: gr.update(visible=False), **updates})

    def _start(self, session: Session, request: gr.Request, values: dict[str, Any]) -> GenerationJob:
        services = self.services
        story, settings = parse(values)
        services.limits.check(story, settings)
        record = parse_switch("record_svd", values)
        if services.manager.ready:
            from consistory_svd.pipeline import picture_size

            picture_size(services.manager.model, settings)
        services.manager.queue.check_capacity()
        folder = services.library_of(request).new(story.subject)
        note = anchor_note(values["anchors"], story, settings)
        opened, previous, frames = session.opened, None, None
        if opened is not None and fill(story, settings) == fill(opened.story, opened.settings):
            # Its anchors were generated from another story: generate it as it was.
            previous = GeneratedStory(story, settings, folder, opened.anchor_story)
            frames = tuple(range(len(story.scenes)))
        job = GenerationJob(
            services.manager,
            GenerationRequest(story, settings, folder, frames, previous, note=note, record_svd=record),
        )
        job.start()
        return job

    def continue_story(self, kind: str) -> Callable[..., Iterator[dict[Any, Any]]]:
        """Return the handler of a button of the continue panel, which streams as `generate` does."""

        def handle(scene: str, picture: Any, text: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
            session = self.services.sessions.of(request)
            try:
                job = self.continue_panel.start(session, kind, scene, picture, text)
            except ValueError as error:
                yield from self._refuse(error)
            yield from self._stream(session, job, {})

        return handle

    def _refuse(self, error: Exception) -> Iterator[dict[Any, Any]]:
        """Show why a job cannot start, and raise gr.Error."""
        message = error_text(error) if isinstance(error, ValueError) else f"{NOT_WRITABLE} {error}"
        yield {self.status: view.alert(message)}
        raise view.refusal(message) from error

    def _busy(self, busy: bool) -> dict[Any, Any]:
        """Return updates of the buttons, and of results that a running job makes outdated."""
        updates = {
            self.generate_button: gr.update(interactive=not busy),
            self.cancel_button: gr.update(interactive=busy),
        }
        if busy:
            updates |= {self.scores.card: "", self.svd_plots.part: gr.update(visible=False)}
        return updates

    def _stream(
        self, session: Session, job: GenerationJob, updates: dict[Any, Any]
    ) -> Iterator[dict[Any, Any]]:
        """Yield `updates` and the busy buttons, then images and status until the job is over. What has not
        changed is not sent again."""
        shown: tuple[Any, ...] = ()
        status = ""
        try:
            yield {**self._busy(True), **updates}
            for progress in job.watch():
                updates = {}
                pictures = progress.pictures, progress.previews, session.show_masks
                if pictures != shown or progress.over:
                    items = view.gallery_items(progress.pictures, session.show_masks, progress)
                    updates[self.pictures] = items
                if status != (status := view.status(progress)):
                    updates[self.status] = status
                shown = pictures
                yield updates or gr.skip()
        finally:
            job.stop()  # a cancelled or abandoned generator ends here

    def cancel(self, request: gr.Request) -> Iterator[dict[Any, Any]]:
        """Stop the visitor's job and show what was finished."""
        session = self.services.sessions.of(request)
        job = session.job
        if job is None:
            yield gr.skip()
            return
        job.stop()
        yield {self.status: view.stopping()}
        job.join(STOP_SECONDS)
        yield {
            self.pictures: view.gallery_items(job.progress.pictures, session.show_masks),
            self.status: view.status(job.progress),
        }

    def finish(self, rows: Any, request: gr.Request) -> dict[Any, Any]:
        """Return updates after a job, also a cancelled one: the buttons, and the parts below the images."""
        return {
            **self._busy(False),
            **self.continue_panel.refresh(rows, request),
            **self.svd_plots.show(request),
        }

    @property
    def finish_outputs(self) -> list[Any]:
        """The components that `finish` updates."""
        return [
            self.generate_button,
            self.cancel_button,
            *self.continue_panel.outputs,
            *self.svd_plots.outputs,
        ]

    def show_masks(self, shown: bool, request: gr.Request) -> Any:
        """Return the visitor's images with the subject highlighted, or without."""
        session = self.services.sessions.of(request)
        session.show_masks = shown
        if session.generated is None:
            return gr.skip()
        return view.gallery_items(session.generated.pictures, shown, session.job and session.job.progress)

    def _export_folder(self, request: gr.Request) -> Path:
        story = self.services.sessions.story_of(request)
        if story is None or not story.pictures:
            raise ValueError(NO_STORY)
        return story.folder

    # -- events ------------------------------------------------------------------------------------------

    def connect(self, demo: gr.Blocks) -> None:
        """Connect the events. Call it inside the page's Blocks."""
        form, services = self.form, self.services
        # Not `input`, which a text box sends for typed keys only, not for pasted text.
        form["subject"].change(
            self.suggest,
            [form["subject"], form["concept"], self.suggested],
            [form["concept"], self.suggested],
            trigger_mode="always_last",
            **NO_QUEUE,
        )
        self.dice.click(self.new_seed, form["scenes"], [form["seed"], form["scenes"]], **NO_QUEUE)
        self.examples.click(self.fill_example, self.examples, self.fill_outputs, **NO_QUEUE)
        self.method.connect()
        self.sampling.connect(form)
        self.svd_plots.connect()
        self.share.connect(demo, form, self.fill_outputs)
        on_user_input(self.masks)(self.show_masks, self.masks, self.pictures, **NO_QUEUE)
        connect_export("story", self.export, services.sessions, services.storage, self._export_folder, [])
        self._connect_jobs(demo)

    def _connect_jobs(self, demo: gr.Blocks) -> None:
        panel = self.continue_panel
        job: dict[str, Any] = {
            "outputs": [
                *(self.pictures, self.status, self.generate_button, self.cancel_button, panel.part),
                *(self.scores.card, self.svd_plots.part, self.suggested),
                *(self.form[name] for name in ("concept", "seed", "scenes")),
            ],
            "concurrency_limit": None,  # the model's queue decides whose turn it is
            **RAW,
            **HIDDEN,
        }
        options = {"suggested": self.suggested, "locked": self.lock, "show_masks": self.masks}
        generated = self.generate_button.click(self.generate, inputs_kwargs={**self.form, **options}, **job)
        jobs = [generated]
        jobs += [
            button.click(self.continue_story(kind), panel.inputs, **job)
            for kind, button in panel.buttons.items()
        ]
        for button in (self.generate_button, *panel.buttons.values()):
            button.click(fn=None, js=SHOW_STATUS, **NO_QUEUE)
            button.click(fn=None, js=ask_before_leaving("story"), **NO_QUEUE)
        scored = [self.scores.score_after(event.success) for event in jobs] + self.scores.connect()
        cancelled = self.cancel_button.click(
            self.cancel,
            outputs=[self.pictures, self.status],
            cancels=[*jobs, *scored],
            concurrency_limit=None,
            **HIDDEN,
        )
        self.scores.score_after(cancelled.success)
        for event in (*jobs, cancelled):
            event.success(self.finish, self.form["scenes"], self.finish_outputs, **RAW, **NO_QUEUE)
            event.then(fn=None, js=allow_leaving("story"), **NO_QUEUE)
        self.scores.score_after(panel.connect().success)
        self.model.connect(demo, generated)


def _examples() -> gr.Dataset:
    return gr.Dataset(
        label="Start from an example",
        components=["textbox"],
        samples=[[example.title] for example in EXAMPLES],
        samples_per_page=len(EXAMPLES),
        type="index",
        elem_id="examples",
    )
