"""The SVD filter: matrices of keys or values with some singular values kept and reweighted.

Pure tensor functions. With the SVD U S V^T of a matrix A (tokens x inner_dim), the filtered matrix is

    A W,   W = V diag(s' / s) V^T,   or   W A,   W = U diag(s' / s) U^T   where tokens < inner_dim,

so that only the eigenvectors of the smaller Gram matrix, A^T A or A A^T, are needed.

Squaring halves the number of correct digits, and log reweighting lifts the small singular values that lose
them (in float32, an error of 0.8 % for s from 1000 down geometrically by 10 %, and of 11 % for one large
value above a floor of small ones). So the eigenproblem is solved in float32 only where an estimate says that
the result stays within TOLERANCE, else in float64; on CUDA, where reading the estimate would synchronise with
the device, always in float64. The last product is in the matrices' own precision.

Source: docs/method.md, section 7.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from consistory_svd.settings import SVDFilter

# Resolution of a float64 Gram matrix, relative to its largest eigenvalue: singular values below 3e-7 of the
# largest are zero.
RESOLUTION = 1e-13
# The largest estimated relative error at which the float32 result is used.
TOLERANCE = 3e-4
# Rounding error per element of a float32 Gram matrix and its eigenvectors, relative to the largest
# eigenvalue, in units of float32's epsilon. Calibrated in the tests: estimates lie above the true errors.
ROUNDING = 1.0
# Below this number of singular values trying float32 first, or products of blocks, would cost time.
LARGE = 256
# Squares within these bounds neither overflow nor underflow in float32.
SAFE_32 = (1e-20, 1e30)
# Number of block columns of the Gram matrix, computed from the diagonal down: 5/8 of the full work.
BLOCKS = 4
NOT_FINITE = "matrices: NaN or infinity cannot be filtered; give finite numbers"


@dataclass(frozen=True)
class FilterReport:
    """Effect of the filter on each matrix; r = min(tokens, inner_dim), `...` are the leading dimensions.

    Nothing here is read back from the device. `kept` and `energy` describe the selection, even if the matrix
    was then passed on unchanged.
    """

    kept: Tensor  # int64 [...], number of selected singular values
    energy: Tensor  # float64 [...], their share of the sum of squares; 0 for a zero matrix
    singular_values: Tensor  # float64 [..., r], largest first; zero below 3e-7 of the largest
    filtered_values: Tensor  # float64 [..., r], after the filter, in the same order; zero where dropped
    unchanged: Tensor  # bool [...], nothing was left to rescale, so the matrix was passed on
    finite: Tensor  # bool [...], False where NaN or infinity came in: zeros came out


def filter_matrix(matrices: Tensor, svd_filter: SVDFilter) -> Tensor:
    """The matrices with their singular values selected and reweighted: [..., tokens, inner_dim], same dtype.

    Each matrix is filtered separately. If the selection leaves nothing to rescale (zero matrices, or all
    s <= 1 under log) it is passed on unchanged; `filter_with_report` says where. Values too large for the
    dtype are clamped to its largest.

    Nothing is read back from the device here; on CUDA `torch.linalg.eigh` itself synchronises once.

    Raises:
        ValueError: a matrix has NaN or infinity. On CUDA this is an assertion on the device, which does not
            synchronise: RuntimeError from a later call, after which the process cannot use the device.
    """
    finite = _finite(matrices)
    if matrices.is_cuda:
        torch._assert_async(finite.all(), NOT_FINITE)
    elif not finite.all():
        raise ValueError(NOT_FINITE)
    if svd_filter.identity:
        return matrices
    if not _may_be_float32(matrices):
        return _filter_in_float64(matrices, svd_filter)[0]
    return _filter_where_float32_will_do(matrices, svd_filter)


def filter_with_report(matrices: Tensor, svd_filter: SVDFilter) -> tuple[Tensor, FilterReport]:
    """Result of `filter_matrix`, and a report. Raises nothing; where `finite` is False, zeros are returned.

    matrices: [..., tokens, inner_dim], any floating dtype; the result has the same shape and dtype.
    """
    finite = _finite(matrices)
    matrices = matrices.where(finite[..., None, None], 0)
    filtered, described = _filter_in_float64(matrices, svd_filter)
    if svd_filter.identity:
        filtered = matrices
    elif _may_be_float32(matrices):
        # So that logging changes no image; large matrices are filtered twice for it.
        filtered = _filter_where_float32_will_do(matrices, svd_filter)
    return filtered, FilterReport(**described, finite=finite)


def _may_be_float32(matrices: Tensor) -> bool:
    return not matrices.is_cuda and matrices.dtype != torch.float64 and min(matrices.shape[-2:]) >= LARGE


def _filter_where_float32_will_do(matrices: Tensor, svd_filter: SVDFilter) -> Tensor:
    """Filter in float32 where the estimate allows it, else in float64."""
    filtered, error = _filter_in_float32(matrices, svd_filter)
    again = ~(error <= TOLERANCE)  # also where there is no error because something overflowed
    if again.any():
        filtered[again] = _filter_in_float64(matrices[again], svd_filter)[0]
    return filtered


def _filter_in_float64(matrices: Tensor, svd_filter: SVDFilter) -> tuple[Tensor, dict[str, Tensor]]:
    """The filtered matrices, which must be finite, and the other fields of a `FilterReport`."""
    # MPS has no float64.
    work = matrices.cpu() if matrices.is_mps else matrices
    squares, basis = _eigen(work.double())
    squares = squares.where(squares > RESOLUTION * squares[..., :1], 0)
    values = squares.sqrt()
    kept = _select(squares, svd_filter, RESOLUTION)
    factors, unchanged = _reweight(values, kept, svd_filter)
    described = {
        "kept": kept.sum(-1),
        "energy": (squares * kept).sum(-1) / _not_zero(squares.sum(-1)),
        "singular_values": values,
        "filtered_values": values * factors,
        "unchanged": unchanged,
    }
    filtered = _rescaled(work, basis, factors).to(matrices.device)
    return matrices.where(unchanged[..., None, None].to(matrices.device), filtered), described


def _filter_in_float32(matrices: Tensor, svd_filter: SVDFilter) -> tuple[Tensor, Tensor]:
    """The filtered matrices, and an estimate of each one's relative error, [...]; NaN where unknown."""
    squares, basis = _eigen(matrices.float())
    squares = squares.clamp(min=0)
    values = squares.sqrt()
    # Equal values may differ by rounding here: a selection that separates them makes the error large.
    kept = _select(squares, svd_filter, 0.0)
    factors, unchanged = _reweight(values, kept, svd_filter)
    error = _error(squares, kept, factors, svd_filter)
    filtered = _rescaled(matrices, basis, factors)
    return matrices.where(unchanged[..., None, None], filtered), error


def _error(squares: Tensor, kept: Tensor, factors: Tensor, svd_filter: SVDFilter) -> Tensor:
    """First-order estimate of the result's relative error from rounding of the Gram matrix: [...].

    With W = f(A^T A), a change E of the Gram matrix changes W by f[i, j] E_ij in the basis of its
    eigenvectors, f[i, j] being divided differences (Daleckii and Krein). Selection makes f jump: a small gap
    at the threshold is a large difference. Squares, kept and factors: [..., r].
    """
    largest = squares[..., :1]
    rounding = ROUNDING * torch.finfo(squares.dtype).eps * largest
    gaps = (squares[..., :, None] - squares[..., None, :]).abs_().add_(rounding[..., None])
    changes = (factors[..., :, None] - factors[..., None, :]).div_(gaps).mul_(rounding[..., None])
    values = squares.sqrt()
    mixing = (squares * changes.square_().sum(-1)).sum(-1)
    moved = [
        _reweight((squares + sign * rounding).clamp(min=0).sqrt(), kept, svd_filter)[0] for sign in (1, -1)
    ]
    scaling = (values * (moved[0] - moved[1]).abs()).square().sum(-1)
    estimate = (mixing + scaling).sqrt() / _not_zero(torch.linalg.vector_norm(values * factors, dim=-1))
    safe = (largest >= SAFE_32[0]) & (largest <= SAFE_32[1])
    return estimate.where(safe.squeeze(-1), math.nan)


def _eigen(work: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues of the smaller Gram matrix [..., r], largest first, and its eigenvectors as columns
    [..., r, r]."""
    with _exact_products(work):
        gram = _gram(work if work.shape[-2] >= work.shape[-1] else work.mT)
    if gram.dtype == torch.float32:
        # Overflows become zero, so that eigh succeeds; `_error` rejects them as outside of SAFE_32.
        gram = gram.nan_to_num_(0, 0, 0)
    squares, basis = torch.linalg.eigh(gram, UPLO="L")  # ascending
    return squares.flip(-1), basis.flip(-1)


def _rescaled(matrices: Tensor, basis: Tensor, factors: Tensor) -> Tensor:
    """Matrices whose singular values are multiplied by factors, same dtype: [..., tokens, inner_dim]."""
    work = matrices if matrices.dtype == torch.float64 else matrices.float()
    basis, factors = basis.to(work.dtype), factors.to(work.dtype)
    tall = work.shape[-2] >= work.shape[-1]
    with _exact_products(work):
        few = _rank(factors)
        if 2 * few < factors.shape[-1]:
            basis, factors = basis[..., :few], factors[..., :few]
            scaled = basis * factors[..., None, :]
            filtered = (work @ scaled) @ basis.mT if tall else scaled @ (basis.mT @ work)
        else:
            weights = (basis * factors[..., None, :]) @ basis.mT
            filtered = work @ weights if tall else weights @ work
    limits = torch.finfo(matrices.dtype)
    return filtered.clamp_(limits.min, limits.max).to(matrices.dtype)


def _rank(factors: Tensor) -> int:
    """Largest number of singular values that a matrix keeps; off the CPU all of them, to not synchronise."""
    if not factors.is_cpu or not factors.numel():
        return factors.shape[-1]
    return int((factors != 0).sum(-1).max())


@contextmanager
def _exact_products(work: Tensor) -> Iterator[None]:
    """Matrix products without autocast and TF32, neither of which affects float64."""
    kind = work.device.type
    if work.dtype == torch.float64 or not torch.amp.is_autocast_available(kind):
        yield
        return
    matmul = torch.backends.cuda.matmul
    allowed = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        matmul.allow_tf32 = allowed


def _finite(matrices: Tensor) -> Tensor:
    return matrices.isfinite().flatten(-2).all(-1)


def _gram(tall: Tensor) -> Tensor:
    """The lower triangle of A^T A, which is what eigh reads: [..., rows, r] -> [..., r, r]."""
    size = tall.shape[-1]
    width = math.ceil(size / BLOCKS) if size >= LARGE else size
    if width == size:
        return tall.mT @ tall
    gram = tall.new_zeros(*tall.shape[:-2], size, size)
    for start in range(0, size, width):
        block = slice(start, start + width)
        gram[..., start:, block] = tall[..., start:].mT @ tall[..., block]
    return gram


def _select(squares: Tensor, svd_filter: SVDFilter, resolution: float) -> Tensor:
    """Which singular values are kept: bool [..., r], from their squares, largest first.

    Squares that differ by less than `resolution` times the largest count as equal.
    Source: docs/method.md, section 7.1.
    """
    position = torch.arange(squares.shape[-1], device=squares.device).expand_as(squares)
    if svd_filter.keep == "count":
        return position < min(svd_filter.amount, squares.shape[-1])
    if svd_filter.keep == "quantile":
        # The (1-q)-quantile lies between two values or on one; those at or above it begin with this one.
        # The small term is for ratios such as 0.29 of 100 values, whose product rounds to just below 29.
        last = math.floor(svd_filter.amount * (squares.shape[-1] - 1) + 1e-9)
        return squares >= squares[..., last : last + 1] - resolution * squares[..., :1]
    if svd_filter.keep == "energy":
        share = squares.cumsum(-1) / _not_zero(squares.sum(-1, keepdim=True))
        # All up to the threshold, and the one that crosses it.
        return position <= (share <= svd_filter.amount + resolution).sum(-1, keepdim=True)
    return torch.ones_like(squares, dtype=torch.bool)


def _reweight(values: Tensor, kept: Tensor, svd_filter: SVDFilter) -> tuple[Tensor, Tensor]:
    """The factors s' / s, [..., r], zero where dropped, and whether the matrix is unchanged, bool [...].

    They are (g(s) / s) * ||s_kept|| / ||g(s_kept)|| with g(s) / s written out, to avoid a division by a zero
    singular value. Source: docs/method.md, section 7.2.
    """
    above = values.clamp(min=1)  # log s is zero up to here
    if svd_filter.reweight == "log":
        factors = above.log() / above
    elif svd_filter.reweight == "log2":
        factors = above.log() ** 2 / above
    elif svd_filter.reweight == "exp":
        # Shifted by the largest, so that it cannot overflow: the rescale cancels the shift.
        factors = (svd_filter.alpha * (values - values[..., :1])).exp()
    else:
        factors = torch.ones_like(values)
    factors = factors * kept
    norm = torch.linalg.vector_norm(values * kept, dim=-1, keepdim=True)
    reweighted = torch.linalg.vector_norm(values * factors, dim=-1, keepdim=True)
    unchanged = reweighted == 0
    factors = torch.where(unchanged, 1, factors * (norm / _not_zero(reweighted)))
    return factors, unchanged.squeeze(-1)


def _not_zero(divisor: Tensor) -> Tensor:
    return divisor.where(divisor > 0, 1)
