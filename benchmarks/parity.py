"""Compare the method's final latents and masks with recorded ones (docs/method.md, section 9).

    python -m benchmarks.parity DIR [--case NAME]

DIR holds `manifest.json`, a model in diffusers' format, initial latents, and for each case a safetensors file
with the expected final latents and masks. Prints relative error, mask agreement and seconds of each case.
Exit code 1 if a case exceeds its bound, 2 if the folder cannot be read.
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file
from torch import Tensor

from consistory_svd import Settings, Story, generate, load_model
from consistory_svd.attention import subject_masks
from consistory_svd.cli.options import run, wrong_values
from consistory_svd.models.model import Model
from consistory_svd.pipeline import FrameDone
from consistory_svd.sampling import FREEU

Case = Mapping[str, Any]  # an entry of the manifest

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def settings_of(case: Mapping[str, Any], manifest: Mapping[str, Any]) -> Settings:
    """Convert a case's settings to Settings. ValueError for a setting that does not exist here."""
    asked = {name: value for name, value in case["settings"].items() if name not in ("concepts", "freeu")}
    freeu = case["settings"].get("freeu")
    if freeu and list(freeu) != list(FREEU.values()):
        raise ValueError(f"freeu: {freeu} is not allowed; ours is {list(FREEU.values())} or off")
    unknown = sorted(set(asked) - set(Settings.__dataclass_fields__))
    if unknown:
        raise ValueError(f"settings: {', '.join(unknown)} of case {case['name']} are not known")
    size = {side: manifest[side] for side in ("height", "width")}
    return Settings(**{**asked, **size, "freeu": bool(freeu)})


def story_of(case: Mapping[str, Any], manifest: Mapping[str, Any]) -> Story:
    """Return a story with the case's prompts: their common beginning is the subject, the rest the scenes."""
    words = [prompt.split() for prompt in case["prompts"]]
    common = 0
    while all(len(w) > common + 1 and w[common] == words[0][common] for w in words):
        common += 1
    common = common if common else 1
    return Story(
        subject=" ".join(words[0][:common]),
        scenes=tuple(" ".join(w[common:]) for w in words),
        style="",
        concepts=tuple(case["settings"]["concepts"]),
        negative=manifest.get("negative_prompt", ""),
    )


def generated(
    model: Model, case: Mapping[str, Any], manifest: Mapping[str, Any], noise: Tensor
) -> list[FrameDone]:
    """Generate the frames of a case from its recorded noise."""
    story, settings = story_of(case, manifest), settings_of(case, manifest)
    if list(story.prompts) != case["prompts"]:
        raise ValueError(f"prompts: those of case {case['name']} share no beginning that could be a subject")
    events = generate(model, story, settings, latents=noise, with_masks=True)
    return [event for event in events if isinstance(event, FrameDone)]


def compare(frames: list[FrameDone], expected: Mapping[str, Tensor], case: Case) -> tuple[float, float]:
    """Root mean square of the latents' difference over the expected standard deviation, and the share of
    equal mask pixels at the worst grid."""
    expect, rows = case["expect"], case.get("expected_frames", list(range(len(frames))))
    latents = expected[expect["final_latents"]].float()
    ours = torch.stack([frames[row].latents for row in rows])
    error = ((ours - latents).pow(2).mean().sqrt() / latents.std()).item()
    agreement = 1.0
    for key in expect.get("masks", {}).values():
        masks = expected[key].flatten(1).bool()
        side = round(masks.shape[1] ** 0.5)
        grid = (side, side)
        mine = torch.stack(
            [
                subject_masks(maps[None], torch.ones(1, len(maps), dtype=torch.bool), grid)[0]
                for maps in (frames[row].maps for row in rows)
            ]
        )
        agreement = min(agreement, (mine == masks).float().mean().item())
    return error, agreement


@app.command()
def parity(
    folder: Annotated[Path, typer.Argument(help="Folder with manifest.json.")],
    case: Annotated[list[str] | None, typer.Option(help="Only this case; repeatable.")] = None,
) -> None:
    """Generate every case of a folder and compare."""
    with wrong_values():
        manifest_file = folder / "manifest.json"
        if not manifest_file.is_file():
            raise ValueError(f"folder: {folder} has no manifest.json; give a folder of recorded cases")
        manifest = json.loads(manifest_file.read_text())
        names = [entry["name"] for entry in manifest["cases"]]
        missing = sorted(set(case or ()) - set(names))
        if missing:
            raise ValueError(f"case: {', '.join(missing)} is not there; give one of {', '.join(names)}")
        model = load_model(str(folder / manifest["model"]), device="cpu", dtype=torch.float32)
        everything = load_file(folder / manifest["initial_latents"])
    all_noise = next(iter(everything.values()))
    failed = False
    typer.echo(f"{'case':28} {'relative rms':>12} {'bound':>8} {'masks':>9} {'bound':>7} {'seconds':>8}")
    for entry in manifest["cases"]:
        if case and entry["name"] not in case:
            continue
        began = time.perf_counter()
        with wrong_values():
            frames = generated(model, entry, manifest, all_noise[entry["initial_latent_rows"]])
        expected = load_file(folder / entry["expect"]["file"])
        error, agreement = compare(frames, expected, entry)
        bound = entry["bound"]
        over = error > bound["relative_rms"] or agreement < bound["mask_agreement"]
        failed = failed or over
        seconds, verdict = time.perf_counter() - began, "  OVER ITS BOUND" if over else ""
        typer.echo(
            f"{entry['name']:28} {error:12.2e} {bound['relative_rms']:8.0e} {agreement:9.4%} "
            f"{bound['mask_agreement']:7.1%} {seconds:8.0f}{verdict}"
        )
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    sys.exit(run(app))
