"""The page: what stands where."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from consistory_svd.fields import field_of
from consistory_svd.settings import Settings
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.components.continue_panel import ContinuePanel, continue_panel
from consistory_svd.studio.components.export_panel import ExportWidgets, export_widgets
from consistory_svd.studio.components.fields import card_title, text
from consistory_svd.studio.components.method_settings import (
    DEFAULTS,
    METHOD_FIELDS,
    method_settings,
    method_values,
)
from consistory_svd.studio.components.model_picker import ModelWidgets, model_widgets
from consistory_svd.studio.components.sampling_settings import advanced
from consistory_svd.studio.components.scene_list import scene_list
from consistory_svd.studio.components.scores_panel import ScoreWidgets, score_widgets
from consistory_svd.studio.components.svd_filter_settings import value_scale
from consistory_svd.studio.examples import EXAMPLES, STYLES, Example
from consistory_svd.studio.form import seeds_text, size_text
from consistory_svd.studio.own_seeds import owner_of

START = EXAMPLES[0]
# The boxes of the form in its order, by the names under which their values reach the handlers.
FORM = (
    *("subject", "concept", "style", "scenes", "negative"),
    *METHOD_FIELDS,
    "record_svd",
    *("steps", "guidance", "seed"),
    *("seeds", "seeds_of", "width", "height", "batch"),
    *("scheduler", "spacing"),
)
LOCK_HELP = "Locked: the same story again. Unlocked: each Generate first rolls a new seed and shows it here."
# What was uploaded, or told for programmes: looked at every ten minutes, gone when it is an hour old.
CACHE_SECONDS = (600, 3600)
Form = dict[str, Any]  # the boxes' widgets by name, in the order of FORM


@dataclass(frozen=True)
class StoryTab:
    """The widgets around the form."""

    generate: gr.Button
    cancel: gr.Button
    dice: gr.Button
    examples: gr.Dataset
    preset: gr.Dropdown
    svd_filter: gr.Accordion
    pictures: gr.Gallery
    show_masks: gr.Checkbox
    status: gr.HTML
    export: ExportWidgets
    scores: ScoreWidgets
    filter_log: gr.Accordion
    svd_layer: gr.Dropdown
    svd_step: gr.Dropdown
    svd_plots: gr.HTML
    model: gr.HTML
    model_choice: ModelWidgets
    words_frame: gr.Accordion
    words: gr.HTML
    offered: gr.State
    lock: gr.Checkbox
    size: gr.Dropdown
    open_file: gr.UploadButton
    copy_link: gr.Button
    link: gr.Textbox
    continue_story: ContinuePanel

    def svd_parts(self) -> list[Any]:
        """What `Handlers.show_spectra` updates."""
        return [self.filter_log, self.svd_layer, self.svd_step, self.svd_plots]


def lay_out() -> tuple[gr.Blocks, gr.Tabs, Form, StoryTab]:
    """The page with its first room, not connected yet; further rooms are tabs beside it."""
    with gr.Blocks(
        title="Story studio", fill_width=True, analytics_enabled=False, delete_cache=CACHE_SECONDS
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
                    form, around = _form()
                    around |= _carriers()
                    with gr.Row(elem_id="actions"):
                        around["generate"] = gr.Button(
                            "Generate", variant="primary", scale=2, elem_id="generate"
                        )
                        around["cancel"] = gr.Button("Cancel", interactive=False, scale=1, elem_id="cancel")
                with gr.Column(scale=7, min_width=320, elem_id="pictures-column"):
                    stage = _stage(examples=examples, **around)
    return demo, rooms, form, stage


def form_values(story: Story, settings: Settings) -> list[Any]:
    """What every box of the form holds for a story told with these settings, in the form's order."""
    values = {
        **{name: getattr(story, name) for name in ("subject", "style", "negative", "seed")},
        "seeds": seeds_text(story),
        "seeds_of": owner_of(story.subject, "\n".join(story.scene_texts), seeds_text(story)),
        "concept": ", ".join(story.concept_words),
        "scenes": "\n".join(story.scene_texts),
        **method_values(settings),
        "record_svd": False,
        **{name: getattr(settings, name) for name in ("steps", "guidance", "batch", "scheduler", "spacing")},
        **{name: size_text(getattr(settings, name)) for name in ("width", "height")},
    }
    return [values[name] for name in FORM]


def form_updates(story: Story, settings: Settings) -> list[Any]:
    """`form_values` as updates: before its value, a slider needs the range that the value is in."""
    values = dict(zip(FORM, form_values(story, settings), strict=True))
    ranges = {f"{side}_amount": value_scale(side, values[f"{side}_keep"]) for side in "kv"}
    return [gr.update(value=value, **ranges.get(name, {})) for name, value in values.items()]


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


def _form() -> tuple[Form, dict[str, Any]]:
    """The form's widgets, and those of the stage that stand among them."""
    with gr.Group(elem_classes="card"):
        card_title("The story", "Who it is about, and where they go.")
        made: Form = {}
        made["subject"] = text(Story, "subject", START.subject, placeholder="a fluffy red cat with a hat")
        made["scenes"] = scene_list("\n".join(START.scenes))
        made["style"] = gr.Dropdown(
            choices=list(STYLES),
            value=START.style,
            allow_custom_value=True,
            label=field_of(Story, "style").label,
            info=field_of(Story, "style").help,
            elem_id="style",
        )
        made["seed"], around = _seed()
    around["preset"], around["svd_filter"], alike = method_settings()
    folded, around["size"] = advanced(START.concept)
    made |= alike | folded
    return {name: made[name] for name in FORM}, around


def _seed() -> tuple[gr.Number, dict[str, Any]]:
    known = field_of(Story, "seed")
    with gr.Row(elem_id="seed-row"):
        seed = gr.Number(
            START.seed, precision=0, label=known.label, info=known.help, min_width=110, elem_id="seed"
        )
        dice = gr.Button("Roll the dice", size="md", scale=0, min_width=110, elem_id="dice")
    lock = gr.Checkbox(True, label="Lock the seed", info=LOCK_HELP, elem_id="lock")
    return seed, {"dice": dice, "lock": lock}


def _carriers() -> dict[str, Any]:
    """What carries the form to and from other places."""
    with gr.Row(elem_id="carriers"):
        # Of any type: a wrong one gets our words, and not silence.
        open_file = gr.UploadButton("Open a story.json or picture", size="sm", elem_id="story-file")
        copy_link = gr.Button("Copy link", size="sm", elem_id="copy-link")
    link = gr.Textbox(
        "",
        label="Link to this story",
        info="Opens the page with everything as it is in the form now.",
        visible=False,
        interactive=False,
        max_lines=4,
        buttons=["copy"],
        elem_id="link",
    )
    return {"open_file": open_file, "copy_link": copy_link, "link": link}


def _stage(**around: Any) -> StoryTab:
    """The right column, and all that stands around the form."""
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
        buttons=["download"],
        elem_id="pictures",
    )
    show_masks = gr.Checkbox(
        False,
        label="Show the subject masks",
        info="What the method takes for the subject stays coloured, the rest turns pale.",
        elem_id="show_masks",
    )
    continue_story = continue_panel()
    export = export_widgets("export")
    scores = score_widgets()
    filter_log = _filter_log()
    model = gr.HTML(view.model_loading(), elem_id="model", padding=False)
    model_choice = model_widgets()
    with gr.Accordion("Words this model knows", open=False, visible=False, elem_id="words") as words_frame:
        words = gr.HTML("")
    part, layer, step, figures = filter_log
    return StoryTab(
        pictures=pictures,
        show_masks=show_masks,
        status=status,
        export=export,
        scores=scores,
        model=model,
        model_choice=model_choice,
        words_frame=words_frame,
        words=words,
        offered=gr.State(START.concept),
        continue_story=continue_story,
        filter_log=part,
        svd_layer=layer,
        svd_step=step,
        svd_plots=figures,
        **around,
    )


def _filter_log() -> tuple[gr.Accordion, gr.Dropdown, gr.Dropdown, gr.HTML]:
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
