"""The page: what stands where."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from consistory_svd.settings import Settings, Story, knob
from consistory_svd.studio import view
from consistory_svd.studio.alike import DEFAULTS, HOW_ALIKE, alike_values, how_alike
from consistory_svd.studio.examples import EXAMPLES, STYLES, Example
from consistory_svd.studio.model_choice import ModelWidgets, model_widgets
from consistory_svd.studio.scoring import ScoreWidgets, score_widgets
from consistory_svd.studio.widgets import card_title, dial, one_of, text

START = EXAMPLES[0]
# The boxes of the form in its order, by the names under which their values reach the handlers.
FORM = (
    *("subject", "concept", "style", "scenes", "negative"),
    *HOW_ALIKE,
    "record_spectra",
    *("steps", "guidance", "seed"),
    *("scheduler", "spacing"),
)
Form = dict[str, Any]  # the boxes' widgets by name, in the order of FORM


@dataclass(frozen=True)
class Stage:
    """The widgets around the form."""

    generate: gr.Button
    cancel: gr.Button
    dice: gr.Button
    examples: gr.Dataset
    preset: gr.Dropdown
    spectrum: gr.Accordion
    pictures: gr.Gallery
    show_masks: gr.Checkbox
    status: gr.HTML
    scores: ScoreWidgets
    spectra: gr.Accordion
    spectra_layer: gr.Dropdown
    spectra_step: gr.Dropdown
    spectra_figures: gr.HTML
    model: gr.HTML
    model_choice: ModelWidgets
    words_frame: gr.Accordion
    words: gr.HTML
    offered: gr.State


def lay_out() -> tuple[gr.Blocks, gr.Tabs, Form, Stage]:
    """The page with its first room, not connected yet; further rooms are tabs beside it."""
    with gr.Blocks(
        title="Story studio", fill_width=True, analytics_enabled=False, delete_cache=(3600, 86400)
    ) as demo:
        gr.HTML(
            "<h1>Story studio</h1><p>Describe someone once, list a few scenes, and get a picture of each "
            "in which they stay the same.</p>",
            elem_id="masthead",
            padding=False,
        )
        with gr.Tabs(elem_id="rooms") as rooms, gr.Tab("Story", id="story"):
            examples = _examples()
            with gr.Row(equal_height=False):
                with gr.Column(scale=5, min_width=320, elem_id="story-column"):
                    form, preset_choice, spectrum, dice = _form()
                    with gr.Row(elem_id="actions"):
                        generate = gr.Button("Generate", variant="primary", scale=2, elem_id="generate")
                        cancel = gr.Button("Cancel", interactive=False, scale=1, elem_id="cancel")
                with gr.Column(scale=7, min_width=320, elem_id="pictures-column"):
                    stage = _stage(generate, cancel, dice, examples, preset_choice, spectrum)
    return demo, rooms, form, stage


def form_values(story: Story, settings: Settings) -> list[Any]:
    """What every box of the form holds for a story told with these settings, in the form's order."""
    values = {
        **{name: getattr(story, name) for name in ("subject", "style", "negative", "seed")},
        "concept": ", ".join(story.concept_words),
        "scenes": "\n".join(story.scenes),
        **alike_values(settings),
        "record_spectra": False,
        **{name: getattr(settings, name) for name in ("steps", "guidance", "scheduler", "spacing")},
    }
    return [values[name] for name in FORM]


def example_values(example: Example) -> list[Any]:
    """The whole form for an example, in the form's order."""
    story = Story(
        example.subject, example.scenes, example.style, concepts=(example.concept,), seed=example.seed
    )
    return form_values(story, DEFAULTS)


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


def _form() -> tuple[Form, gr.Dropdown, gr.Accordion, gr.Button]:
    with gr.Group(elem_classes="card"):
        card_title("The story", "Who it is about, and where they go.")
        made: Form = {}
        made["subject"] = text(Story, "subject", START.subject, placeholder="a fluffy red cat with a hat")
        made["scenes"] = text(
            Story, "scenes", "\n".join(START.scenes), more_help=" One a line.", lines=4, max_lines=12
        )
        with gr.Row():
            made["concept"] = text(
                Story, "concepts", START.concept, more_help=" Part several by commas.", min_width=160
            )
            made["style"] = gr.Dropdown(
                choices=list(STYLES),
                value=START.style,
                allow_custom_value=True,
                label=knob(Story, "style").label,
                info=knob(Story, "style").help,
                min_width=160,
                elem_id="style",
            )
        made["negative"] = text(Story, "negative", "", placeholder="nothing")
    preset_choice, spectrum, alike = how_alike()
    made |= alike
    with gr.Group(elem_classes="card"):
        card_title("Sampling", "How each picture is drawn.")
        with gr.Row():
            made["steps"] = dial("steps", DEFAULTS.steps)
            made["guidance"] = dial("guidance", DEFAULTS.guidance)
        with gr.Row():
            made["scheduler"] = one_of("scheduler", DEFAULTS.scheduler)
            made["spacing"] = one_of("spacing", DEFAULTS.spacing)
        with gr.Row():
            known = knob(Story, "seed")
            made["seed"] = gr.Number(
                START.seed, precision=0, label=known.label, info=known.help, scale=3, elem_id="seed"
            )
            dice = gr.Button("Roll the dice", size="md", scale=1, min_width=120, elem_id="dice")
    return {name: made[name] for name in FORM}, preset_choice, spectrum, dice


def _stage(
    generate: gr.Button,
    cancel: gr.Button,
    dice: gr.Button,
    examples: gr.Dataset,
    preset_choice: gr.Dropdown,
    spectrum: gr.Accordion,
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
    spectra = _spectra()
    model = gr.HTML(view.model_loading(), elem_id="model", padding=False)
    model_choice = model_widgets()
    with gr.Accordion("Words this model knows", open=False, visible=False, elem_id="words") as words_frame:
        words = gr.HTML("")
    return Stage(
        generate,
        cancel,
        dice,
        examples,
        preset_choice,
        spectrum,
        pictures,
        show_masks,
        status,
        scores,
        *spectra,
        model,
        model_choice,
        words_frame,
        words,
        gr.State(START.concept),
    )


def _spectra() -> tuple[gr.Accordion, gr.Dropdown, gr.Dropdown, gr.HTML]:
    """The folded part that shows what the spectral filter did, where that was recorded."""
    with gr.Accordion("Spectra", open=False, visible=False, elem_id="spectra") as part:
        with gr.Row():
            layer = gr.Dropdown(
                [], label="Layer", info="Where in the model.", filterable=False, scale=2, elem_id="layer"
            )
            step = gr.Dropdown(
                [], label="Step", info="Of those recorded.", filterable=False, min_width=100, elem_id="step"
            )
        drawn = gr.HTML("", padding=False)
    return part, layer, step, drawn
