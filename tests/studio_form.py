"""The values of the form, for tests of the studio."""

from typing import Any

SCENES = ("in the forest", "on the beach", "in the snow")


FORM = {
    "subject": "a cat",
    "concept": "cat",
    "style": "a photo of",
    "scenes": [{"text": scene, "seed": None} for scene in SCENES],
    "negative": "",
    "sdsa": True,
    "query_blending": False,
    "masking": True,
    "mask_dropout": 0.5,
    "anchors": 1,
    "random_anchors": False,
    "same_latent": False,
    "injection": False,
    "short_first_pass": False,
    "freeu": False,
    "k_keep": "all",
    "k_count": 8,
    "k_quantile": 0.05,
    "k_energy": 0.95,
    "k_reweight": "none",
    "k_alpha": 1,
    "v_as_k": True,
    "v_keep": "all",
    "v_count": 8,
    "v_quantile": 0.05,
    "v_energy": 0.95,
    "v_reweight": "none",
    "v_alpha": 1,
    "record_svd": False,
    "steps": 2,
    "guidance": 5,
    "seed": 0,
    "width": "",
    "height": "",
    "batch": 4,
    "show_masks": False,
    "suggested": "cat",
    "locked": True,
}


def form(**changes: Any) -> dict[str, Any]:
    """What the page sends. `scenes` may be a text with a line for each."""
    if isinstance(changes.get("scenes"), str):
        changes["scenes"] = [{"text": text, "seed": None} for text in changes["scenes"].splitlines()]
    return {**FORM, **changes}
