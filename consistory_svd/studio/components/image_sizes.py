"""Picture sizes to choose from: the model's own, and its multiples and shapes of about the same area."""

SHAPES = {"Square": (1, 1), "Landscape, 4 to 3": (4, 3), "Wide, 16 to 9": (16, 9)}
UPRIGHT = {"Portrait, 3 to 4": (3, 4), "Tall, 9 to 16": (9, 16)}
OWN = "The model's own"
LARGER, SMALLER = 1.5, 0.75


def offered_sizes(native: tuple[int, int], multiple: int) -> dict[str, tuple[int, int] | None]:
    """Sizes (width, height) by what they are called; None is the model's own.

    `native` is (height, width) in pixels; all sizes are multiples of `multiple`.
    """
    height, width = native
    area = height * width
    found: dict[str, tuple[int, int] | None] = {f"{OWN}: {width} × {height}": None}
    for name, (across, up) in (SHAPES | UPRIGHT).items():
        size = _fitting(area, across / up, multiple)
        if size != (width, height):
            found[_label(name, size)] = size
    for name, factor in (("Smaller", SMALLER), ("Larger", LARGER)):
        size = _fitting(area * factor**2, width / height, multiple)
        if size != (width, height):
            found[_label(name, size)] = size
    return found


def _fitting(area: float, ratio: float, multiple: int) -> tuple[int, int]:
    width = (area * ratio) ** 0.5
    return tuple(max(1, round(side / multiple)) * multiple for side in (width, width / ratio))


def _label(name: str, size: tuple[int, int]) -> str:
    return "{}: {} × {}".format(name, *size)
