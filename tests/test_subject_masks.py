"""Masks: thresholds, pooling and token lookup, against scikit-image and recorded data."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from skimage.filters import threshold_otsu

from consistory_svd.attention.subject_masks import (
    ConceptSpans,
    MapWindow,
    concept_maps,
    drop,
    find_concept_spans,
    otsu_threshold,
    subject_masks,
)

DATA = Path(__file__).parent / "data"


def some_maps(count: int, pixels: int) -> np.ndarray:
    """Maps of several kinds, [count, pixels]: flat, peaked, of two classes, tiny."""
    rng = np.random.default_rng(0)
    kinds = [
        lambda: rng.random(pixels),
        lambda: rng.random(pixels) ** 6 * 1e-3,
        lambda: np.concatenate([rng.normal(0, 1, pixels // 2), rng.normal(4, 1, pixels // 2)]),
        lambda: rng.integers(0, 5, pixels),
    ]
    return np.stack([kinds[i % len(kinds)]() for i in range(count)]).astype(np.float32)


@pytest.mark.parametrize("pixels", [16, 64, 1024, 4096])
def test_otsu_is_that_of_scikit_image(pixels: int) -> None:
    maps = some_maps(40, pixels)
    expected = [threshold_otsu(one) for one in maps]
    torch.testing.assert_close(
        otsu_threshold(torch.tensor(maps)), torch.tensor(np.array(expected)), rtol=0, atol=0
    )


def test_a_constant_map_is_its_own_threshold_and_has_no_subject() -> None:
    maps = torch.full((1, 1, 4, 4), 0.25)
    assert otsu_threshold(maps.flatten(2)[0]).item() == 0.25
    assert not subject_masks(maps, torch.ones(1, 1, dtype=torch.bool), (4, 4)).any()


def test_pooling_and_masks_are_the_recorded_ones() -> None:
    recorded = load_file(DATA / "unit_aggregate.safetensors")
    # [steps, layers, halves, frames, heads, pixels, tokens]; frame 0 has concepts at 2 and 4, frame 1 at 3.
    probabilities = recorded["attn_probs"].view(25, 2, 2, 2, 2, 64, 6)[:, :, 1].mean(3)
    columns = torch.tensor([[2, 4], [3, 3]])
    present = torch.tensor([[True, True], [True, False]])
    window = MapWindow()
    differing = {32: 0, 64: 0}
    for step, layers in enumerate(probabilities):
        for layer in layers:
            window.add(layer.gather(-1, columns[:, None].expand(-1, 64, -1)).transpose(1, 2))
        maps = window.close_step().unflatten(-1, (8, 8))
        for side in differing:
            masks = subject_masks(maps, present, (side, side))
            differing[side] += (masks != recorded[f"masks{side}"][step]).sum().item()
    assert differing[32] == 0
    assert differing[64] <= 7  # one exact tie between two bins is recorded in the data


def test_the_window_keeps_the_last_steps_and_averages_layers() -> None:
    window = MapWindow(length=3)
    for step in range(5):
        for layer in (0.0, 1.0):
            window.add(torch.full((1, 1, 2), step + layer))
        mean = window.close_step()
    assert mean.tolist() == [[[3.5, 3.5]]]  # steps 2, 3, 4, each half a layer higher
    with pytest.raises(RuntimeError, match="no cross-attention layer"):
        window.close_step()


def test_all_tokens_of_all_occurrences_are_found() -> None:
    prompts = [[0, 5, 6, 9, 5, 6, 1], [0, 6, 5, 7, 1], [0, 8, 1]]
    found = find_concept_spans(prompts, [[5, 6], [7]])
    assert found.present.tolist() == [[True, True], [True, False], [False, False]]
    assert found.tokens[0].tolist() == [1, 2, 4, 5]
    assert found.pool[0].tolist() == [[0.5, 0], [0.5, 0], [0, 0.5], [0, 0.5]]
    assert found.tokens[1, 0].item() == 3
    assert found.pool[1, :, 0].tolist() == [1, 0, 0, 0]
    assert not found.pool[2].any()


def test_one_token_words_are_found_where_the_reference_finds_them() -> None:
    # "a fox wearing a hat", "a fox", "a hat and a fox": fox is 10, hat is 11.
    prompts = [[0, 2, 10, 3, 2, 11, 1], [0, 2, 10, 1], [0, 2, 11, 4, 2, 10, 1]]
    found = find_concept_spans(prompts, [[10], [11]])
    assert found.tokens.tolist() == [[2, 5], [2, 0], [5, 2]]
    assert found.present.tolist() == [[True, True], [True, False], [True, True]]


def test_maps_are_the_columns_of_the_whole_softmax() -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 16, 4, generator=generator)
    key = torch.randn(2, 3, 7, 4, generator=generator)
    spans = find_concept_spans([[0, 5, 6, 9, 5, 6, 1], [0, 9, 9, 9, 9, 9, 1]], [[5, 6]])
    probabilities = (query @ key.transpose(-1, -2) * 0.5).softmax(-1).mean(1)
    maps = concept_maps(query, key, 0.5, spans)
    torch.testing.assert_close(maps[0, 0], probabilities[0, :, [1, 2]].mean(-1))
    torch.testing.assert_close(maps[0, 1], probabilities[0, :, [4, 5]].mean(-1))
    assert not maps[1].any()


def test_masks_of_several_occurrences_are_united_and_absent_words_skipped() -> None:
    left, right = torch.zeros(4, 6), torch.zeros(4, 6)
    left[:, :2], right[:, 4:] = 1, 1
    maps = torch.stack([left, right]).expand(3, -1, -1, -1)
    present = torch.tensor([[True, True], [True, False], [False, False]])
    masks = subject_masks(maps, present, (4, 6)).view(3, 4, 6)
    assert torch.equal(masks[0], (left + right).bool())
    assert torch.equal(masks[1], left.bool())
    assert not masks[2].any()


def test_masks_are_resized_to_grids_that_are_not_square() -> None:
    maps = torch.zeros(1, 1, 4, 8)
    maps[..., 4:] = 1
    present = torch.ones(1, 1, dtype=torch.bool)
    fine = subject_masks(maps, present, (8, 16)).view(8, 16)
    coarse = subject_masks(maps, present, (2, 4)).view(2, 4)
    assert fine[:, 9:].all()
    assert not fine[:, :7].any()
    assert torch.equal(coarse, torch.tensor([[False, False, True, True]] * 2))


def test_dropout_removes_about_its_share_and_nothing_else() -> None:
    mask = torch.arange(10_000) % 2 == 0
    dropped = drop(mask, 0.3, torch.Generator().manual_seed(0))
    assert not (dropped & ~mask).any()
    assert dropped.sum().item() == pytest.approx(0.7 * 5000, rel=0.05)
    assert torch.equal(drop(mask, 0.0, torch.Generator().manual_seed(0)), mask)
    assert not drop(mask, 1.0, torch.Generator().manual_seed(0)).any()
    assert torch.equal(dropped, drop(mask, 0.3, torch.Generator().manual_seed(0)))


def test_occurrences_move_together() -> None:
    moved = find_concept_spans([[0, 5, 1]], [[5]]).to(torch.device("meta"))
    assert isinstance(moved, ConceptSpans)
    assert moved.tokens.is_meta
    assert moved.pool.is_meta
    assert moved.present.is_meta
