"""The spectral filter against a float64 SVD and its definitions, identities, and recorded data."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from consistory_svd.attention import svd_filter as filters
from consistory_svd.attention.svd_filter import filter_matrix, filter_with_report
from consistory_svd.errors import FieldError
from consistory_svd.fields import field_of
from consistory_svd.settings import SVDFilter

DATA = Path(__file__).parent / "data"
SHAPES = {"tall": (60, 24), "wide": (24, 40), "square": (32, 32)}
DECAYS = {
    "fast": lambda i: 200 * 0.7**i,
    "slow": lambda i: 100 / (1 + i),
    "flat": lambda i: 20 - 0.3 * i,
    "one large": lambda i: torch.where(i == 0, 5000, 4 - 0.1 * i),
}
# Bounds of the relative error: the last product, in float32, loses the digits that the largest takes.
PRODUCT = {"fast": 1e-6, "slow": 1e-6, "flat": 1e-6, "one large": 5e-5}
SELECTIONS = [
    ("all", None),
    ("count", 3),
    ("count", 100),
    ("quantile", 0.05),
    ("quantile", 0.4),
    ("quantile", 1),
    ("energy", 0.5),
    ("energy", 0.95),
]
REWEIGHTS = ["none", "log", "log2", "exp"]
FILTERS = [SVDFilter(*selection, how, alpha=0.03) for selection in SELECTIONS for how in REWEIGHTS]
KINDS = dict.fromkeys(SELECTIONS[i] for i in (1, 4, 7))  # one of each selection that drops something


def make_matrix(values: Tensor, tokens: int, inner_dim: int, seed: int = 0) -> Tensor:
    """A float32 matrix [tokens, inner_dim] with the given singular values and random singular vectors."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(side, len(values), generator=generator, dtype=torch.float64))[0]
        for side in (tokens, inner_dim)
    )
    return ((left * values) @ right.T).float()


def decaying(decay: str, shape: str = "tall", seed: int = 0) -> Tensor:
    tokens, inner_dim = SHAPES[shape]
    return make_matrix(DECAYS[decay](torch.arange(min(tokens, inner_dim)).double()), tokens, inner_dim, seed)


def mixed(values: list[float]) -> Tensor:
    """A 16 x 16 matrix whose singular values are exactly these: a diagonal matrix times a Hadamard one."""
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    hadamard = torch.ones(1, 1)
    for _ in range(4):
        hadamard = torch.kron(hadamard, two)
    return torch.tensor(values)[:, None] * hadamard / 4


def define(matrix: Tensor, svd_filter: SVDFilter) -> tuple[Tensor, Tensor, Tensor]:
    """By the definitions, in float64: the filtered matrix, the singular values and those that became of
    them, zero where dropped.
    """
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    kept = values.new_zeros(len(values))
    if svd_filter.keep == "all":
        kept[:] = 1
    elif svd_filter.keep == "count":
        kept[: svd_filter.amount] = 1
    elif svd_filter.keep == "quantile":
        kept[values >= torch.quantile(values, 1 - svd_filter.amount)] = 1
    else:
        total, running = sum(s**2 for s in values.tolist()), 0.0
        for position, value in enumerate(values.tolist()):
            kept[position] = 1
            running += value**2
            if running / total > svd_filter.amount:
                break
    logs = values.log().clamp(min=0)
    reweighted = {
        "none": values,
        "log": logs,
        "log2": logs**2,
        "exp": values * (svd_filter.alpha * values - (svd_filter.alpha * values).max()).exp(),
    }[svd_filter.reweight] * kept
    if not reweighted.any():
        return matrix.double(), values, values
    after = reweighted * (values * kept).norm() / reweighted.norm()
    return (left * after) @ right, values, after


def difference(found: Tensor, expected: Tensor) -> float:
    """Frobenius norm of the difference, relative to the expected matrix."""
    return ((found.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("svd_filter", FILTERS, ids=lambda s: f"{s.keep} {s.amount} {s.reweight}")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decay", DECAYS)
def test_it_is_what_the_definitions_say(decay: str, shape: str, svd_filter: SVDFilter) -> None:
    matrix = decaying(decay, shape)
    expected, values, after = define(matrix, svd_filter)
    found, report = filter_with_report(matrix, svd_filter)
    assert difference(found, expected) < PRODUCT[decay]
    torch.testing.assert_close(report.singular_values, values, rtol=1e-6, atol=0)
    torch.testing.assert_close(report.filtered_values, after, rtol=1e-6, atol=1e-9)
    selected = define(matrix, dataclasses.replace(svd_filter, reweight="none"))[2]
    assert report.kept.item() == (selected > 0).sum().item()
    assert report.energy.item() == pytest.approx((selected.norm() / values.norm()).item() ** 2)
    assert torch.equal(filter_matrix(matrix, svd_filter), found)


@pytest.mark.parametrize("svd_filter", FILTERS, ids=lambda s: f"{s.keep} {s.amount} {s.reweight}")
@pytest.mark.parametrize("decay", DECAYS)
def test_large_matrices_may_be_filtered_in_float32_within_its_tolerance(
    monkeypatch: pytest.MonkeyPatch, decay: str, svd_filter: SVDFilter
) -> None:
    monkeypatch.setattr(filters, "LARGE", 8)
    matrices = torch.stack([decaying(decay, "tall", seed) for seed in range(3)])
    exact = filter_matrix(matrices.double(), svd_filter)
    found, errors = filters._filter_in_float32(matrices, svd_filter)
    for one, expected, error in zip(found, exact, errors.tolist(), strict=True):
        # The estimate is no promise, but lies above what happens; a few roundings of the last product more.
        assert difference(one, expected.double()) < max(1.5 * error, 5e-6) or math.isnan(error)
    for one, expected in zip(filter_matrix(matrices, svd_filter), exact, strict=True):
        assert difference(one, expected.double()) < filters.TOLERANCE


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_is_left_where_squares_leave_it(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    monkeypatch.setattr(filters, "LARGE", 8)
    matrix, svd_filter = decaying("slow") * scale, SVDFilter("count", 3)
    assert difference(filter_matrix(matrix, svd_filter), define(matrix, svd_filter)[0]) < 1e-6


def test_some_of_a_batch_may_need_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "LARGE", 8)
    svd_filter = SVDFilter(reweight="log")
    matrices = torch.stack([decaying("flat"), decaying("one large")])
    errors = filters._filter_in_float32(matrices, svd_filter)[1]
    assert errors[0] < filters.TOLERANCE < errors[1]
    for found, matrix in zip(filter_matrix(matrices, svd_filter), matrices, strict=True):
        assert difference(found, define(matrix, svd_filter)[0]) < filters.TOLERANCE


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
@pytest.mark.parametrize("svd_filter", FILTERS, ids=lambda s: f"{s.keep} {s.amount} {s.reweight}")
def test_scaled_matrices(scale: float, svd_filter: SVDFilter) -> None:
    matrix = decaying("slow") * scale
    svd_filter = dataclasses.replace(svd_filter, alpha=0.03 / scale)
    found, report = filter_with_report(matrix, svd_filter)
    assert difference(found, define(matrix, svd_filter)[0]) < 1e-6
    assert report.unchanged.item() == (scale < 1 and svd_filter.reweight in ("log", "log2"))
    if report.unchanged:
        assert torch.equal(found, matrix)


@pytest.mark.parametrize("svd_filter", FILTERS, ids=lambda s: f"{s.keep} {s.amount} {s.reweight}")
@pytest.mark.parametrize("shape", SHAPES)
def test_rank_deficient_matrices(shape: str, svd_filter: SVDFilter) -> None:
    generator = torch.Generator().manual_seed(1)
    tokens, inner_dim = SHAPES[shape]
    matrix = torch.randint(-9, 10, (tokens, 5), generator=generator).float()
    matrix = matrix @ torch.randint(-9, 10, (5, inner_dim), generator=generator).float()
    found, report = filter_with_report(matrix, svd_filter)
    assert difference(found, define(matrix, svd_filter)[0]) < 1e-6
    assert not report.singular_values[5:].any()
    assert report.singular_values[4] > 0


# 16 values: three of 8, five of 4, eight of 2; squares are 3 x 64, 5 x 16 and 8 x 4, together 304.
TIED = [8.0] * 3 + [4.0] * 5 + [2.0] * 8


@pytest.mark.parametrize(
    ("select", "value", "kept"),
    [
        ("quantile", 0.01, 3),
        ("quantile", 0.1, 3),
        ("quantile", 0.2, 8),
        ("quantile", 0.5, 8),
        ("quantile", 8 / 15, 16),
        ("count", 2, 2),
        ("count", 3, 3),
        ("energy", 192 / 304, 4),
        ("energy", 0.6, 3),
        ("energy", 0.9, 9),
    ],
)
@pytest.mark.parametrize("reweight", REWEIGHTS)
def test_tied_values_stay_together_unless_counted(
    select: str, value: float, kept: int, reweight: str
) -> None:
    matrix = mixed(TIED)
    svd_filter = SVDFilter(select, value, reweight)
    found, report = filter_with_report(matrix, svd_filter)
    assert report.kept.item() == kept
    assert torch.linalg.norm(found).item() == pytest.approx(math.hypot(*TIED[:kept]), rel=1e-6)
    if kept in (3, 8, 16):
        # Whole groups: the subspace is determined, so the matrix is.
        assert difference(found, define(matrix, SVDFilter("count", kept, reweight))[0]) < 1e-6


@pytest.mark.parametrize(
    ("ratio", "kept"), [(0.29, 30), (0.07, 8), (0.57, 58), (0.001, 1), (0.3, 31), (1, 101)]
)
def test_a_value_on_the_quantile_is_kept(ratio: float, kept: int) -> None:
    matrix = torch.diag(torch.arange(1.0, 102.0))[torch.randperm(101, generator=torch.Generator())]
    assert filter_with_report(matrix, SVDFilter("quantile", ratio))[1].kept.item() == kept


@pytest.mark.parametrize(("ratio", "kept"), [(0.25, 5), (0.5, 9), (0.49, 8)])
def test_energy_must_be_exceeded_and_the_value_that_crosses_is_kept(ratio: float, kept: int) -> None:
    assert filter_with_report(mixed([3.0] * 16), SVDFilter("energy", ratio))[1].kept.item() == kept


@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
@pytest.mark.parametrize("reweight", REWEIGHTS)
@pytest.mark.parametrize(
    ("select", "value", "kept"), [("all", None, 8), ("count", 3, 3), ("quantile", 0.5, 8), ("energy", 0.9, 8)]
)
def test_zero_matrices_stay_zero(
    select: str, value: float | None, kept: int, reweight: str, shape: tuple[int, int]
) -> None:
    found, report = filter_with_report(torch.zeros(shape), SVDFilter(select, value, reweight))
    assert torch.equal(found, torch.zeros(shape))
    assert report.unchanged
    assert report.finite
    assert report.kept.item() == kept
    assert report.energy.item() == 0


@pytest.mark.parametrize("reweight", ["log", "log2"])
def test_values_of_one_or_less_leave_the_matrix_as_it_is_and_say_so(reweight: str) -> None:
    matrices = torch.stack([mixed([1.0] * 16), mixed([0.5] * 16), mixed([2.0] + [0.5] * 15)])
    found, report = filter_with_report(matrices, SVDFilter("count", 2, reweight))
    assert report.unchanged.tolist() == [True, True, False]
    assert torch.equal(found[:2], matrices[:2])
    # The selection is told, though the matrix was not filtered; what its values became is what they were.
    assert report.kept.tolist() == [2, 2, 2]
    assert torch.equal(report.filtered_values[:2], report.singular_values[:2])
    assert report.filtered_values[2].tolist() == pytest.approx([math.hypot(2, 0.5)] + [0] * 15)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_an_unchanged_matrix_is_so_to_the_last_bit(dtype: torch.dtype) -> None:
    matrix = (decaying("slow").double() / 200).to(dtype)
    found, report = filter_with_report(matrix, SVDFilter(reweight="log"))
    assert report.unchanged
    assert torch.equal(found, matrix)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize(("select", "value"), KINDS)
@pytest.mark.parametrize("reweight", REWEIGHTS)
def test_the_norm_of_the_kept_spectrum_is_kept(decay: str, select: str, value: float, reweight: str) -> None:
    found = filter_matrix(decaying(decay), SVDFilter(select, value, reweight))
    selected = filter_matrix(decaying(decay), SVDFilter(select, value))
    assert found.norm().item() == pytest.approx(selected.norm().item(), rel=1e-6)


def test_identities() -> None:
    matrix = decaying("slow")
    assert filter_matrix(matrix, SVDFilter()) is matrix
    assert torch.equal(filter_with_report(matrix, SVDFilter())[0], matrix)
    full = [
        SVDFilter("count", 24),
        SVDFilter("count", 10**30),
        SVDFilter("quantile", 1),
        SVDFilter("energy", 1 - 1e-9),
    ]
    for svd_filter in [*full, SVDFilter(reweight="exp", alpha=0)]:
        torch.testing.assert_close(filter_matrix(matrix, svd_filter), matrix, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("svd_filter", FILTERS, ids=lambda s: f"{s.keep} {s.amount} {s.reweight}")
def test_the_transpose_is_filtered_into_the_transpose(svd_filter: SVDFilter) -> None:
    matrix = decaying("slow")
    assert (
        difference(filter_matrix(matrix.mT, svd_filter).mT, filter_matrix(matrix, svd_filter).double()) < 1e-6
    )


def test_filtering_twice_by_count_is_filtering_once() -> None:
    once = filter_matrix(decaying("slow"), SVDFilter("count", 4))
    torch.testing.assert_close(filter_matrix(once, SVDFilter("count", 4)), once, rtol=1e-5, atol=1e-5)
    assert torch.linalg.matrix_rank(once.double(), rtol=1e-6) == 4


@pytest.mark.parametrize("alpha", [0.5, 1e3, 1e308])
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_exp_cannot_overflow(alpha: float, scale: float) -> None:
    matrix = decaying("slow") * scale
    found, report = filter_with_report(matrix, SVDFilter(reweight="exp", alpha=alpha))
    assert found.isfinite().all()
    # The largest is twice the second: nothing else is left.
    assert report.filtered_values[0].item() == pytest.approx(matrix.double().norm().item())
    assert report.filtered_values[1:].max() < 1e-6 * report.filtered_values[0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("select", "value"), KINDS)
def test_the_dtype_is_kept_and_the_work_done_in_a_wider_one(
    dtype: torch.dtype, select: str, value: float
) -> None:
    matrix = decaying("slow").to(dtype)
    svd_filter = SVDFilter(select, value, "log")
    found = filter_matrix(matrix, svd_filter)
    assert found.dtype == dtype
    exact = filter_matrix(matrix.double(), svd_filter)
    assert difference(found, exact) < torch.finfo(dtype).eps
    assert filter_matrix(matrix, SVDFilter()).dtype == dtype


def test_autocast_changes_nothing() -> None:
    matrix, svd_filter = decaying("slow"), SVDFilter("quantile", 0.4, "log")
    with torch.autocast("cpu", torch.bfloat16):
        found = filter_matrix(matrix, svd_filter)
    assert found.dtype == torch.float32
    assert torch.equal(found, filter_matrix(matrix, svd_filter))


def test_too_large_for_the_dtype_becomes_its_largest() -> None:
    matrix = torch.tensor([[60000.0, 0.0], [0.0, 59000.0]], dtype=torch.float16)
    found = filter_matrix(matrix, SVDFilter(reweight="exp"))
    assert found.tolist() == [[65504.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("svd_filter", FILTERS, ids=lambda s: f"{s.keep} {s.amount} {s.reweight}")
@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_a_batch_is_filtered_one_by_one(shape: str, svd_filter: SVDFilter) -> None:
    matrices = torch.stack(
        [torch.stack([decaying(decay, shape, seed) for decay in DECAYS]) for seed in range(2)]
    )
    found, report = filter_with_report(matrices, svd_filter)
    assert found.shape == matrices.shape
    for half in range(2):
        for number in range(len(DECAYS)):
            alone, its_report = filter_with_report(matrices[half, number], svd_filter)
            assert difference(found[half, number], alone.double()) < 1e-6
            assert report.kept[half, number] == its_report.kept
            torch.testing.assert_close(report.filtered_values[half, number], its_report.filtered_values)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("svd_filter", FILTERS[::5], ids=lambda s: f"{s.keep} {s.amount} {s.reweight}")
def test_what_is_not_finite_is_an_error_and_spoils_no_neighbour(bad: float, svd_filter: SVDFilter) -> None:
    matrices = torch.stack([decaying("slow"), decaying("fast")])
    alone = filter_matrix(matrices[1], svd_filter)
    matrices[0, 3, 4] = bad
    with pytest.raises(ValueError, match=r"^matrices: .* give finite numbers"):
        filter_matrix(matrices, svd_filter)
    found, report = filter_with_report(matrices, svd_filter)
    assert report.finite.tolist() == [False, True]
    assert not found[0].any()
    assert difference(found[1], alone.double()) < 1e-6


@pytest.mark.parametrize("svd_filter", FILTERS, ids=lambda s: f"{s.keep} {s.amount} {s.reweight}")
def test_nothing_is_read_back_from_the_device(svd_filter: SVDFilter) -> None:
    # Tensors on "meta" have no values: whatever asks for one raises.
    found, report = filter_with_report(torch.empty(2, 8, 6, device="meta"), svd_filter)
    assert found.shape == (2, 8, 6)
    assert report.filtered_values.shape == (2, 6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives() -> None:
    for shape in SHAPES:
        matrices = torch.stack(
            [decaying("slow", shape), decaying("one large", shape), torch.zeros(SHAPES[shape])]
        )
        for svd_filter in FILTERS:
            found = filter_matrix(matrices.cuda(), svd_filter)
            assert found.is_cuda
            assert difference(found.cpu(), filter_matrix(matrices, svd_filter).double()) < 1e-6


@pytest.mark.parametrize(
    ("name", "svd_filter"),
    [
        ("count 1", SVDFilter("count", 1)),
        ("count 4", SVDFilter("count", 4)),
        ("quantile 0.05", SVDFilter("quantile", 0.05)),
        ("quantile 0.5", SVDFilter("quantile", 0.5)),
        ("log", SVDFilter(reweight="log")),
        ("log2", SVDFilter(reweight="log2")),
    ],
)
def test_it_is_what_was_recorded(name: str, svd_filter: SVDFilter) -> None:
    recorded = load_file(DATA / "unit_svd.safetensors")
    found, report = filter_with_report(recorded["matrix"], svd_filter)
    assert difference(found, recorded[name].double()) < 1e-5
    torch.testing.assert_close(
        report.singular_values.float(), recorded["singular_values"], rtol=1e-5, atol=1e-5
    )


def test_energy_keeps_one_value_more_than_was_recorded() -> None:
    # The recording drops the value that crosses the threshold, which is a defect that ours does not share.
    recorded = load_file(DATA / "unit_svd.safetensors")
    assert (
        difference(filter_matrix(recorded["matrix"], SVDFilter("count", 7)), recorded["energy 0.95"].double())
        < 1e-5
    )
    report = filter_with_report(recorded["matrix"], SVDFilter("energy", 0.95))[1]
    assert report.kept.item() == 8
    assert report.energy.item() > 0.95


@pytest.mark.parametrize(
    ("field", "wrong", "others"),
    [
        ("keep", "some", {}),
        ("keep", None, {}),
        ("keep", ["all"], {}),
        ("reweight", "log3", {}),
        ("reweight", True, {}),
        ("amount", 3, {"keep": "all"}),
        *(("amount", wrong, {"keep": "count"}) for wrong in (None, 0, -1, 2.0, True, "3", math.nan)),
        *(("amount", wrong, {"keep": "quantile"}) for wrong in (None, 0, 1.01, -0.1, True, "1", math.nan)),
        *(("amount", wrong, {"keep": "energy"}) for wrong in (None, 0, 1, 1.0, -0.1, False, math.inf)),
        *(("alpha", wrong, {"reweight": "exp"}) for wrong in (None, -0.1, math.inf, math.nan, "1", True)),
    ],
)
def test_a_wrong_spectrum_names_field_value_and_what_is_allowed(
    field: str, wrong: object, others: dict[str, object]
) -> None:
    with pytest.raises(FieldError, match=rf"^{field} must be .*, got ") as error:
        SVDFilter(**{**others, field: wrong})
    assert (error.value.field, repr(error.value.value)) == (field, repr(wrong))


def test_limits_of_a_spectrum() -> None:
    assert SVDFilter().identity
    for allowed in [("count", 1), ("quantile", 1), ("quantile", 1.0), ("quantile", 1e-9), ("energy", 0.999)]:
        assert SVDFilter(*allowed).amount == allowed[1]
        assert not SVDFilter(*allowed).identity
    assert not SVDFilter(reweight="log").identity
    assert SVDFilter(reweight="exp", alpha=0).alpha == 0


def test_every_field_of_a_spectrum_is_described() -> None:
    for field in dataclasses.fields(SVDFilter):
        assert field_of(SVDFilter, field.name).label
        assert field_of(SVDFilter, field.name).help.endswith(".")
