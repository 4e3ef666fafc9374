"""Few-step models and LoRAs: recognised by name, with the sampling settings that they were distilled for."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class FewStepModel:
    """Sampling settings of a kind of distilled model or LoRA."""

    name: str
    steps: int
    guidance: float
    scheduler: str
    spacing: str = "own"


# By the word in the name of the file or model; the first that fits. Sources: the models' own cards.
FEW_STEP_MODELS: dict[str, FewStepModel] = {
    "lightning": FewStepModel("Lightning", 4, 0.0, "euler", "trailing"),
    "hyper": FewStepModel("Hyper-SD", 8, 0.0, "ddim", "trailing"),
    "turbo": FewStepModel("Turbo", 4, 0.0, "own"),
    "lcm": FewStepModel("LCM", 4, 1.0, "lcm"),
    "tcd": FewStepModel("TCD", 4, 0.0, "tcd"),
}


def few_step_model_for(*names: str) -> FewStepModel | None:
    """The settings of a few-step model or LoRA, recognised by name; None for all others.

    A number of steps in the name, as in `sdxl_lightning_8step_lora`, is used, but never less than 2, because
    a single step cannot share anything.
    """
    for name in names:
        lower = name.lower()
        found = next((model for word, model in FEW_STEP_MODELS.items() if word in lower), None)
        if found is None:
            continue
        named = [steps for steps in (1, 2, 4, 6, 8, 12, 16) if f"{steps}step" in lower.replace("-", "")]
        return replace(found, steps=max(2, named[-1])) if named else found
    return None
