"""Which handler answers which widget of the page."""

from functools import partial
from typing import Any

import gradio as gr

from consistory_svd.studio import model_choice
from consistory_svd.studio.alike import DEPENDENT, HOW_ALIKE, preset_values, switches
from consistory_svd.studio.examples import EXAMPLES
from consistory_svd.studio.handlers import Handlers
from consistory_svd.studio.layout import Form, Stage, example_values, lay_out
from consistory_svd.studio.scoring import ScoreWidgets
from consistory_svd.studio.spectrum import SIDES, start_value

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE: dict[str, Any] = {**QUIET, "queue": False}
# Values reach the library as they came: Gradio's own refusals do not name the field, the library's do.
AS_SENT: dict[str, Any] = {"preprocess": False}
# On a narrow screen the pictures stand below the form: go there, unless they are in sight already.
SHOW_STATUS = """() => {
  const status = document.getElementById("status");
  const box = status.getBoundingClientRect();
  if (box.bottom < 0 || box.top > window.innerHeight - 120) status.scrollIntoView({block: "start"});
}"""


def build(handlers: Handlers) -> gr.Blocks:
    """Lay the page out and connect it."""
    demo, _rooms, form, stage = lay_out()
    with demo:
        demo.load(
            handlers.follow_model,
            outputs=[stage.model, stage.words_frame, stage.words],
            concurrency_limit=None,
            **QUIET,
        )
        demo.unload(handlers.leave)
        line = [stage.model, stage.words_frame, stage.words]
        model_choice.connect(handlers.engine, stage.model_choice, demo, line, handlers.follow_model)
        _connect_form(handlers, form, stage)
        _connect_alike(form, stage)
        _connect_telling(handlers, form, stage)
        stage.show_masks.input(handlers.show_masks, stage.show_masks, stage.pictures, **AT_ONCE)
        chosen = [stage.spectra_layer, stage.spectra_step]
        gr.on(
            [choice.input for choice in chosen],
            handlers.draw_spectra,
            chosen,
            stage.spectra_figures,
            **AS_SENT,
            **AT_ONCE,
        )
    return demo


def _connect_form(handlers: Handlers, form: Form, stage: Stage) -> None:
    # `change` and not `input`, which Gradio's text box tells of typed keys only, not of pasted text.
    form["subject"].change(
        handlers.offer_concept,
        [form["subject"], form["concept"], stage.offered],
        [form["concept"], stage.offered],
        trigger_mode="always_last",
        **AT_ONCE,
    )
    stage.dice.click(handlers.roll_seed, outputs=form["seed"], **AT_ONCE)
    stage.examples.click(
        lambda index: (*example_values(EXAMPLES[index]), EXAMPLES[index].concept),
        stage.examples,
        [*form.values(), stage.offered],
        **AT_ONCE,
    )


def _connect_alike(form: Form, stage: Stage) -> None:
    alike = [form[name] for name in HOW_ALIKE]
    stage.preset.input(preset_values, stage.preset, [*alike, stage.spectrum], **AT_ONCE)
    for side in SIDES:
        select = form[f"{side}_select"]
        select.input(partial(start_value, side), select, form[f"{side}_value"], **AT_ONCE)
    gr.on(
        [control.change for control in alike],
        switches,
        alike,
        [*(form[name] for name in DEPENDENT), stage.spectrum, stage.preset],
        trigger_mode="always_last",
        **AS_SENT,
        **AT_ONCE,
    )


def _connect_telling(handlers: Handlers, form: Form, stage: Stage) -> None:
    buttons = [stage.generate, stage.cancel]
    spectra = [stage.spectra, stage.spectra_layer, stage.spectra_step, stage.spectra_figures]
    begin = stage.generate.click(
        handlers.begin,
        stage.offered,
        [stage.status, form["concept"], *buttons],
        inputs_kwargs=form,
        concurrency_limit=None,
        **AS_SENT,
        **QUIET,
    )
    telling = begin.success(
        handlers.tell,
        outputs=[stage.pictures, stage.status],
        inputs_kwargs={**form, "show_masks": stage.show_masks},
        api_name="tell",
        concurrency_limit=1,
        concurrency_id="model",
        show_progress="hidden",
        **AS_SENT,
    )
    begin.success(fn=None, js=SHOW_STATUS, **AT_ONCE)
    telling.then(handlers.rest, outputs=buttons, **AT_ONCE)
    begin.success(
        lambda: ("", gr.update(visible=False)), outputs=[stage.scores.card, stage.spectra], **AT_ONCE
    )
    telling.success(handlers.show_spectra, outputs=spectra, **AT_ONCE)
    scored = _connect_scores(handlers, stage.scores, telling)
    stage.cancel.click(
        handlers.cancel,
        outputs=[stage.pictures, stage.status, *buttons],
        cancels=[begin, telling, *scored],
        concurrency_limit=None,
        **QUIET,
    )


def _connect_scores(handlers: Handlers, widgets: ScoreWidgets, telling: Any) -> list[Any]:
    """Score each told story, and again when how it is computed changes or weights have come.

    Returns the events that a cancelled story cancels too.
    """
    how = [widgets.backbone, widgets.fill]
    score: dict[str, Any] = {
        "fn": handlers.score,
        "inputs": how,
        "outputs": widgets.card,
        "concurrency_limit": 1,
        "concurrency_id": "scores",
        **QUIET,
    }
    fetched = widgets.fetch.click(
        handlers.fetch, how, widgets.weights(), concurrency_limit=None, **QUIET
    ).success(**score)
    scored = [telling.success(**score), *(choice.input(**score) for choice in how), fetched]
    for event in scored:
        event.success(handlers.offer_fetch, outputs=widgets.weights(), **AT_ONCE)
    return scored
