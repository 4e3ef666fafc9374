"""The page: what stands where, and which handler answers which widget."""

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from consistory_svd.settings import Story, knob
from consistory_svd.studio import view
from consistory_svd.studio.alike import DEFAULTS, HOW_ALIKE, how_alike, preset_values, switches
from consistory_svd.studio.examples import EXAMPLES, STYLES, Example
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.scoring import ScoreWidgets, connect_scores, score_widgets
from consistory_svd.studio.widgets import card_title, dial, text

START = EXAMPLES[0]
# On a narrow screen the pictures stand below the form: go there, unless they are in sight already.
SHOW_STATUS = """() => {
  const status = document.getElementById("status");
  const box = status.getBoundingClientRect();
  if (box.bottom < 0 || box.top > window.innerHeight - 120) status.scrollIntoView({block: "start"});
}"""


@dataclass(frozen=True)
class Form:
    """The inputs of a story, in the order in which the handlers take them."""

    subject: gr.Textbox
    concept: gr.Textbox
    style: gr.Dropdown
    scenes: gr.Textbox
    negative: gr.Textbox
    sdsa: gr.Checkbox
    query_blending: gr.Checkbox
    masking: gr.Checkbox
    mask_dropout: gr.Slider
    anchors: gr.Slider
    random_anchors: gr.Checkbox
    same_latent: gr.Checkbox
    injection: gr.Checkbox
    short_first_pass: gr.Checkbox
    freeu: gr.Checkbox
    steps: gr.Slider
    guidance: gr.Slider
    seed: gr.Number

    def components(self) -> list[Any]:
        """The widgets in order."""
        return [getattr(self, field.name) for field in fields(self)]

    def how_alike(self) -> list[Any]:
        """The widgets that a preset fills, in order."""
        return [getattr(self, name) for name in HOW_ALIKE]


@dataclass(frozen=True)
class Stage:
    """The widgets around the form."""

    generate: gr.Button
    cancel: gr.Button
    dice: gr.Button
    examples: gr.Dataset
    preset: gr.Dropdown
    pictures: gr.Gallery
    show_masks: gr.Checkbox
    status: gr.HTML
    scores: ScoreWidgets
    model: gr.HTML
    words_frame: gr.Accordion
    words: gr.HTML
    offered: gr.State


def build(handlers: Handlers) -> gr.Blocks:
    """Lay the page out and connect it."""
    with gr.Blocks(
        title="Story studio", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)
    ) as demo:
        gr.HTML(
            "<h1>Story studio</h1><p>Describe someone once, list a few scenes, and get a picture of each "
            "in which they stay the same.</p>",
            elem_id="masthead",
            padding=False,
        )
        examples = _examples()
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_id="story-column"):
                form, preset_choice, dice = _form()
                with gr.Row(elem_id="actions"):
                    generate = gr.Button("Generate", variant="primary", scale=2, elem_id="generate")
                    cancel = gr.Button("Cancel", interactive=False, scale=1, elem_id="cancel")
            with gr.Column(scale=7, min_width=320, elem_id="pictures-column"):
                stage = _stage(generate, cancel, dice, examples, preset_choice)
        _connect(demo, handlers, form, stage)
    return demo


def example_values(example: Example) -> list[Any]:
    """The whole form for an example, in the form's order."""
    return [
        example.subject,
        example.concept,
        example.style,
        "\n".join(example.scenes),
        "",
        *(getattr(DEFAULTS, name) for name in HOW_ALIKE),
        DEFAULTS.steps,
        DEFAULTS.guidance,
        example.seed,
    ]


def _examples() -> gr.Dataset:
    values = [example_values(example) for example in EXAMPLES]
    return gr.Dataset(
        label="Start from an example",
        components=["textbox"] * len(values[0]),
        samples=values,
        sample_labels=[example.title for example in EXAMPLES],
        samples_per_page=len(EXAMPLES),
        type="index",
        elem_id="examples",
    )


def _form() -> tuple[Form, gr.Dropdown, gr.Button]:
    with gr.Group(elem_classes="card"):
        card_title("The story", "Who it is about, and where they go.")
        subject = text(Story, "subject", START.subject, placeholder="a fluffy red cat with a hat")
        scenes = text(
            Story, "scenes", "\n".join(START.scenes), more_help=" One a line.", lines=4, max_lines=12
        )
        with gr.Row():
            concept = text(
                Story, "concepts", START.concept, more_help=" Part several by commas.", min_width=160
            )
            style = gr.Dropdown(
                choices=list(STYLES),
                value=START.style,
                allow_custom_value=True,
                label=knob(Story, "style").label,
                info=knob(Story, "style").help,
                min_width=160,
                elem_id="style",
            )
        negative = text(Story, "negative", "", placeholder="nothing")
    preset_choice, alike = how_alike()
    with gr.Group(elem_classes="card"):
        card_title("Sampling", "How each picture is drawn.")
        with gr.Row():
            steps = dial("steps", DEFAULTS.steps)
            guidance = dial("guidance", DEFAULTS.guidance)
        with gr.Row():
            known = knob(Story, "seed")
            seed = gr.Number(
                START.seed, precision=0, label=known.label, info=known.help, scale=3, elem_id="seed"
            )
            dice = gr.Button("Roll the dice", size="md", scale=1, min_width=120, elem_id="dice")
    form = Form(subject, concept, style, scenes, negative, *alike, steps, guidance, seed)
    return form, preset_choice, dice


def _stage(
    generate: gr.Button, cancel: gr.Button, dice: gr.Button, examples: gr.Dataset, preset_choice: gr.Dropdown
) -> Stage:
    status = gr.HTML(view.welcome(), label="Status", elem_id="status", padding=False)
    pictures = gr.Gallery(
        label="Pictures",
        show_label=False,
        columns=2,
        fit_columns=False,
        height="auto",
        object_fit="contain",
        format="png",
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id="pictures",
    )
    show_masks = gr.Checkbox(
        False,
        label="Show the subject masks",
        info="What the method takes for the subject stays coloured, the rest turns pale.",
        elem_id="show_masks",
    )
    scores = score_widgets()
    model = gr.HTML(view.model_loading(), elem_id="model", padding=False)
    with gr.Accordion("Words this model knows", open=False, visible=False, elem_id="words") as words_frame:
        words = gr.HTML("")
    return Stage(
        generate,
        cancel,
        dice,
        examples,
        preset_choice,
        pictures,
        show_masks,
        status,
        scores,
        model,
        words_frame,
        words,
        gr.State(START.concept),
    )


def _connect(demo: gr.Blocks, handlers: Handlers, form: Form, stage: Stage) -> None:
    inputs = form.components()
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    at_once: dict[str, Any] = {**quiet, "queue": False}
    buttons = [stage.generate, stage.cancel]
    # Values reach the library as they came: Gradio's own refusals do not name the field, the library's do.
    as_sent: dict[str, Any] = {"preprocess": False}

    demo.load(
        handlers.follow_model,
        outputs=[stage.model, stage.words_frame, stage.words],
        concurrency_limit=None,
        **quiet,
    )
    demo.unload(handlers.leave)

    # `change` and not `input`, which Gradio's text box tells of typed keys only, not of pasted text.
    form.subject.change(
        handlers.offer_concept,
        [form.subject, form.concept, stage.offered],
        [form.concept, stage.offered],
        trigger_mode="always_last",
        **at_once,
    )
    stage.dice.click(handlers.roll_seed, outputs=form.seed, **at_once)
    stage.examples.click(
        lambda index: (*example_values(EXAMPLES[index]), EXAMPLES[index].concept),
        stage.examples,
        [*inputs, stage.offered],
        **at_once,
    )
    stage.preset.input(preset_values, stage.preset, form.how_alike(), **at_once)
    dependent = [
        form.query_blending,
        form.masking,
        form.mask_dropout,
        form.anchors,
        form.random_anchors,
        form.short_first_pass,
    ]
    for control in form.how_alike():
        control.change(
            switches,
            form.how_alike(),
            [*dependent, stage.preset],
            trigger_mode="always_last",
            **at_once,
        )
    stage.show_masks.input(handlers.show_masks, stage.show_masks, stage.pictures, **at_once)

    begin = stage.generate.click(
        handlers.begin,
        [stage.offered, *inputs],
        [stage.status, form.concept, *buttons],
        concurrency_limit=None,
        **as_sent,
        **quiet,
    )
    telling = begin.success(
        handlers.tell,
        [*inputs, stage.show_masks],
        [stage.pictures, stage.status],
        api_name="tell",
        concurrency_limit=1,
        concurrency_id="model",
        show_progress="hidden",
        **as_sent,
    )
    begin.success(fn=None, js=SHOW_STATUS, **at_once)
    telling.then(handlers.rest, outputs=buttons, **at_once)
    begin.success(lambda: "", outputs=stage.scores.card, **at_once)
    scored = connect_scores(handlers, stage.scores, telling)
    stage.cancel.click(
        handlers.cancel,
        outputs=[stage.pictures, stage.status, *buttons],
        cancels=[begin, telling, *scored],
        concurrency_limit=None,
        **quiet,
    )
