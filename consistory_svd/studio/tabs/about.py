"""The About tab: model and machine, what each part of the method does, and commands that add more.

`tools/make_about_pictures.py` makes the images from PARTS with the embedded model. `Part.seen` describes them
and was written by looking at them: change it when the images change.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from consistory_svd.paths import ASSETS
from consistory_svd.presets import PRESETS
from consistory_svd.settings import Settings, SVDFilter
from consistory_svd.story import Story
from consistory_svd.studio import html as view
from consistory_svd.studio.comparison import Row
from consistory_svd.studio.model_manager import ModelManager
from consistory_svd.system_info import Memory, memory, versions
from consistory_svd.text_format import format_bytes

# The tests run each command with --help.
COMMANDS = (
    (
        "SDXL on your GPU",
        "The embedded storybook model is small, so that everything runs without a GPU. Use any SDXL model "
        "instead: a Hub id or a folder. Its weights are downloaded once.",
        "python app.py --model stabilityai/stable-diffusion-xl-base-1.0",
    ),
    (
        "DreamSim scores",
        "Perceptual similarity of the images, the score of the papers. Without its weights the studio says "
        "so and shows the other scores.",
        "python -m consistory_svd fetch dreamsim",
    ),
    (
        "CLIP and DINO scores",
        "How well images match their prompts, and a second measure of consistency.",
        "python -m consistory_svd fetch clip\npython -m consistory_svd fetch dino",
    ),
)
LICENCE = "Apache-2.0. The method was implemented from its description."
PAPER = "https://arxiv.org/abs/2402.03286"
LOADING = "The model is loading."

PICTURES = ASSETS / "about"
STEPS = 30
CAT = Story("a cat", ("in the forest", "on the beach", "in the snow", "in a library"), seed=7)
EXACT = Settings(mask_dropout=0.0)
UNMASKED = replace(EXACT, masking=False)
MASKS = "Detected subject"


@dataclass(frozen=True)
class Part:
    """A part of the method.

    Attributes:
        rows: one strip of images each.
        masks: one more strip shows the subject masks of the last row.
    """

    key: str
    title: str
    does: str
    seen: str
    rows: tuple[Row, ...]
    story: Story = CAT
    masks: bool = False

    @property
    def strips(self) -> tuple[tuple[str, str], ...]:
        """The name and file of each strip."""
        names = [*(row.name for row in self.rows), *([MASKS] if self.masks else [])]
        return tuple((name, f"{self.key}-{number}.webp") for number, name in enumerate(names, start=1))


PARTS = (
    Part(
        "sharing",
        "Shared self-attention",
        "In self-attention, each image also attends to the subject in a few other images, the anchors. "
        "Nothing is trained. The paper calls this subject-driven self-attention (SDSA).",
        "Without sharing only the prompt decides, and every scene shows another cat: orange, red, blue, "
        "pink. With sharing all four show the same red cat.",
        (Row("No sharing", PRESETS["plain"]), Row("With sharing", EXACT)),
    ),
    Part(
        "masks",
        "Subject masks",
        "Cross-attention to the concept word shows where the subject is. Only these pixels of the anchors "
        "are shared; their background is not.",
        "Without masks the cats are consistent, but the scenes lose their own content: the palms and clouds "
        "of the beach, the trees in the snow. With masks these are back.",
        (Row("Sharing without masks", UNMASKED), Row("Sharing with masks", EXACT)),
        masks=True,
    ),
    Part(
        "dropout",
        "Mask dropout",
        "A random fraction of the subject's pixels is hidden from the other images at every step, which "
        "leaves poses and details more freedom.",
        "At 0 all bellies are yellowish; at 0.5 they are green, white, yellow and white; at 0.9 hardly "
        "anything is shared, and the blue and the pink cat are back.",
        (
            Row("Dropout 0", EXACT),
            Row("Dropout 0.5", replace(EXACT, mask_dropout=0.5)),
            Row("Dropout 0.9", replace(EXACT, mask_dropout=0.9)),
        ),
    ),
    Part(
        "anchors",
        "Anchors",
        "All images attend to the first images of the story. Their number is a setting. With random anchors "
        "each image attends to a randomly chosen one.",
        "One or two anchors are red, so all cats are red. With four, every image contributes, and all cats "
        "are pink. With random anchors they differ slightly: the last is pinker than the others.",
        (
            Row("1 anchor", replace(EXACT, anchors=1)),
            Row("2 anchors", EXACT),
            Row("4 anchors", replace(EXACT, anchors=4)),
            Row("Random anchors", replace(EXACT, random_anchors=True)),
        ),
    ),
    Part(
        "injection",
        "Feature injection",
        "Matching pixels of the subject are found in pairs of images, and fine detail is copied between "
        "them. This needs two passes, so it takes about twice as long.",
        "Without injection the bellies are green, white, yellow and white, and the cat in the library is "
        "pinker. With injection all bellies are light, and the reds agree.",
        (Row("Without injection", Settings()), Row("With injection", Settings(injection=True))),
    ),
    Part(
        "blending",
        "Query blending",
        "In the first steps each image keeps part of the layout that it would have without sharing, so that "
        "poses stay varied.",
        "The small embedded model generates nearly the same pose in any case, so there is hardly a "
        "difference.",
        (Row("Without blending", UNMASKED), Row("With blending", replace(UNMASKED, query_blending=True))),
    ),
    Part(
        "latent",
        "Same noise",
        "All images start from the same noise instead of their own.",
        "All bellies become the same olive, so the cats are more consistent. The images vary less, and the "
        "beach is seen from another angle.",
        (Row("Different noise", EXACT), Row("Same noise", replace(EXACT, same_latent=True))),
    ),
    Part(
        "filter",
        "SVD filter",
        "Another way to keep the anchors' background out, without masks: only the largest singular values of "
        "the anchors' keys (K) and values (V) are shared, or all of them are rescaled.",
        "Without a filter all cats are red, but the beach lost its clouds and half of its palms. Quantile "
        "0.05 looks much the same here. Quantile 0.01 shares too little: clouds and trees are back, but so "
        "are four different cats. Log brings the clouds back but loses the colour of two cats; log2 keeps "
        "it.",
        (
            Row("No mask, no filter", replace(UNMASKED, query_blending=True)),
            Row("Quantile 0.05", PRESETS["svd-quantile"]),
            Row(
                "Quantile 0.01",
                replace(
                    PRESETS["svd-quantile"],
                    k_filter=SVDFilter("quantile", 0.01),
                    v_filter=SVDFilter("quantile", 0.01),
                ),
            ),
            Row("Log", PRESETS["svd-log"]),
            Row("Log2", PRESETS["svd-log2"]),
        ),
    ),
)


def add_about(manager: ModelManager, tabs: gr.Tabs) -> None:
    """Add the tab. What it says of the machine is updated whenever it is opened."""
    gr.set_static_paths([PICTURES])
    with tabs, gr.Tab("About", id="about") as tab, gr.Column(elem_id="about"):
        status = gr.HTML(machine(LOADING, (), {}), elem_id="about-machine", padding=False)
        gr.HTML(method(PARTS), elem_id="about-method", padding=False)
        gr.HTML(commands(), elem_id="about-more", padding=False)

    def follow() -> Iterator[Any]:
        manager.start()
        yield now(manager)
        while not manager.wait(0.2):
            yield gr.skip()
        yield now(manager)

    tab.select(
        follow, outputs=status, concurrency_limit=None, show_progress="hidden", api_visibility="private"
    )


def now(manager: ModelManager) -> str:
    """Return the state of model and machine."""
    if not manager.ready:
        return machine(manager.error or LOADING, memory(), versions())
    # Not the model's device: the memory of a lent GPU is not visible from here.
    return machine(manager.description, memory(manager.scores_on), versions())


def machine(model: str, memories: Sequence[Memory], known: dict[str, str]) -> str:
    """Return model, memory and versions."""
    return _macro("machine", model, memories, known)


def method(parts: Sequence[Part]) -> str:
    """Return what each part of the method does, with its images."""
    return _macro("method", parts, STEPS, PAPER, PICTURES)


def commands() -> str:
    """Return the commands that add a larger model and the weights of scores."""
    return _macro("commands", COMMANDS, LICENCE)


def _macro(name: str, *arguments: Any) -> str:
    template = view.TEMPLATES.get_template("about.html", globals={"format": format_bytes})
    return str(getattr(template.module, name)(*arguments))
