"""The settings that the study compares, by the name of their row in the tables."""

from dataclasses import replace

from consistory_svd.settings import Settings, SVDFilter

# Keep ratios of the grid over K and V.
RATIOS = (0.02, 0.05, 0.2, 0.5)
# Every row that shares also blends queries.
MASKS = Settings(query_blending=True, mask_dropout=0.0)
NO_MASKS = replace(MASKS, masking=False)
CONSISTORY = Settings(query_blending=True, injection=True)


def _filtered(base: Settings, svd_filter: SVDFilter) -> Settings:
    """The base with the same filter on K and V."""
    return replace(base, k_filter=svd_filter, v_filter=svd_filter)


def _baselines() -> dict[str, Settings]:
    return {
        "no sharing": Settings(sdsa=False),
        "masks": MASKS,
        "masks, dropout 0.5": replace(MASKS, mask_dropout=0.5),
        "ConsiStory, all parts": CONSISTORY,
        "ConsiStory, all parts, dropout 0": replace(CONSISTORY, mask_dropout=0.0),
        "no masks": NO_MASKS,
    }


def _filters() -> dict[str, Settings]:
    """Selection and reweighting without masks."""
    rows = {
        f"quantile K {keys:g} V {values:g}": replace(
            NO_MASKS, k_filter=SVDFilter("quantile", keys), v_filter=SVDFilter("quantile", values)
        )
        for keys in RATIOS
        for values in RATIOS
    }
    rows["quantile K 0.05, V all"] = replace(NO_MASKS, k_filter=SVDFilter("quantile", 0.05))
    rows["K all, quantile V 0.05"] = replace(NO_MASKS, v_filter=SVDFilter("quantile", 0.05))
    for energy in (0.8, 0.9, 0.95, 0.98, 0.99):
        rows[f"energy {energy:g}"] = _filtered(NO_MASKS, SVDFilter("energy", energy))
    for count in (1, 4, 16):
        rows[f"count {count}"] = _filtered(NO_MASKS, SVDFilter("count", count))
    rows["log"] = _filtered(NO_MASKS, SVDFilter(reweight="log"))
    rows["log2"] = _filtered(NO_MASKS, SVDFilter(reweight="log2"))
    rows["exp 0.02"] = _filtered(NO_MASKS, SVDFilter(reweight="exp", alpha=0.02))
    rows["log2 quantile 0.05"] = _filtered(NO_MASKS, SVDFilter("quantile", 0.05, "log2"))
    rows["log2 energy 0.95"] = _filtered(NO_MASKS, SVDFilter("energy", 0.95, "log2"))
    return rows


def _filters_on_masks() -> dict[str, Settings]:
    filters = {
        "quantile 0.05": SVDFilter("quantile", 0.05),
        "quantile 0.5": SVDFilter("quantile", 0.5),
        "energy 0.95": SVDFilter("energy", 0.95),
        "log": SVDFilter(reweight="log"),
        "log2": SVDFilter(reweight="log2"),
    }
    return {f"masks + {name}": _filtered(MASKS, svd_filter) for name, svd_filter in filters.items()}


def _preset_candidates() -> dict[str, Settings]:
    """Rows measured to find a preset of this project's own."""
    injected = replace(_filtered(NO_MASKS, SVDFilter("energy", 0.65)), injection=True)
    rows = {
        "energy 0.65, injection": injected,
        "no masks, same noise": replace(NO_MASKS, same_latent=True),
    }
    for energy in (0.8, 0.95):
        filtered = _filtered(NO_MASKS, SVDFilter("energy", energy))
        rows[f"energy {energy:g}, same noise"] = replace(filtered, same_latent=True)
    rows["masks, same noise"] = replace(MASKS, same_latent=True)
    return rows


def _rows() -> dict[str, Settings]:
    rows = {**_baselines(), **_filters(), **_filters_on_masks()}
    for name in ("no masks", "quantile K 0.05 V 0.05", "energy 0.8", "masks + quantile 0.05", "log2"):
        rows[f"{name}, injection"] = replace(rows[name], injection=True)
    rows |= _preset_candidates()
    rows["log2, 1 anchor"] = replace(rows["log2"], anchors=1)
    rows["log2, 3 anchors"] = replace(rows["log2"], anchors=3)
    return rows


ROWS = _rows()
