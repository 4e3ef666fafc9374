"""The spectral filter: matrices of keys or values with some of their singular values kept and reweighted.

Pure tensor functions. With the SVD U S V^T of a matrix A (tokens x inner_dim), the filtered matrix is

    A W,   W = V diag(s' / s) V^T,   or   W A,   W = U diag(s' / s) U^T   where tokens < inner_dim,

so the eigenvectors of the smaller Gram matrix, A^T A or A A^T, are all that it needs.

Departing from the spec, which computes in float32, this is done in float64: squaring halves the digits, and
log reweighting lifts the small singular values that lose them (in float32, 0.8 % off for s from 1000 down
geometrically by 10 %, and 11 % off for one large value above a floor of small ones). Float64 matrices are
also out of reach of autocast and TF32.

Source: coursework report (HSE, 2025), sections 4.1-4.3; spec of the spectral filter.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from consistory_svd.settings import Spectrum

# What a float64 Gram matrix cannot tell from zero, or from each other, relative to its largest eigenvalue:
# singular values below 3e-7 of the largest.
RESOLUTION = 1e-13
# The Gram matrix is made in this many block columns, from the diagonal down: 5/8 of the work of all of it.
BLOCKS = 4
NOT_FINITE = "matrices: NaN or infinity cannot be filtered; give finite numbers"


@dataclass(frozen=True)
class Report:
    """What the filter did to each matrix; r = min(tokens, inner_dim), `...` are the leading dimensions.

    Nothing here is read back from the device. `kept` and `energy` speak of the selection, also where the
    matrix was then passed on unchanged.
    """

    kept: Tensor  # int64 [...], how many singular values were selected
    energy: Tensor  # float64 [...], their share of the sum of squares; 0 for a zero matrix
    singular_values: Tensor  # float64 [..., r], largest first; zero below 3e-7 of the largest
    filtered_values: Tensor  # float64 [..., r], what each became, in the same order; zero where dropped
    unchanged: Tensor  # bool [...], nothing was left to rescale, so the matrix was passed on as it is
    finite: Tensor  # bool [...], False where NaN or infinity came in: zeros came out


def filter_matrix(matrices: Tensor, spectrum: Spectrum) -> Tensor:
    """The matrices with their singular values selected and reweighted: [..., tokens, inner_dim], same dtype.

    Each matrix is filtered for itself. Where the selection leaves nothing to rescale (zero matrices, or all
    s <= 1 under log) it is passed on unchanged; `filter_with_report` says where. Values too large for the
    dtype become its largest.

    Nothing is read back from the device here; on CUDA `torch.linalg.eigh` itself waits for the device once.

    Raises:
        ValueError: a matrix has NaN or infinity. On CUDA this is an assertion on the device instead, which
            costs no waiting: RuntimeError from a later call, after which the process cannot use the device.
    """
    if spectrum.identity:
        filtered, finite = matrices, _finite(matrices)
    else:
        filtered, report = filter_with_report(matrices, spectrum)
        finite = report.finite
    if matrices.is_cuda:
        torch._assert_async(finite.all(), NOT_FINITE)
    elif not finite.all():
        raise ValueError(NOT_FINITE)
    return filtered


def filter_with_report(matrices: Tensor, spectrum: Spectrum) -> tuple[Tensor, Report]:
    """As `filter_matrix`, and what was done; raises nothing. Where `finite` is False, zeros come out.

    matrices: [..., tokens, inner_dim], any floating dtype; the result has the same shape and dtype.
    """
    finite = _finite(matrices)
    matrices = matrices.where(finite[..., None, None], 0)
    # MPS has no float64.
    work = (matrices.cpu() if matrices.is_mps else matrices).double()
    tall = work.shape[-2] >= work.shape[-1]
    squares, basis = torch.linalg.eigh(_gram(work if tall else work.mT), UPLO="L")  # ascending
    squares = squares.flip(-1)
    squares = squares.where(squares > RESOLUTION * squares[..., :1], 0)
    values = squares.sqrt()
    kept = _select(squares, spectrum)
    factors, unchanged = _reweight(values, kept, spectrum)
    report = Report(
        kept=kept.sum(-1),
        energy=(squares * kept).sum(-1) / _not_zero(squares.sum(-1)),
        singular_values=values,
        filtered_values=values * factors,
        unchanged=unchanged,
        finite=finite,
    )
    if spectrum.identity:
        return matrices, report
    weights = (basis * factors.flip(-1)[..., None, :]) @ basis.mT
    filtered = work @ weights if tall else weights @ work
    limits = torch.finfo(matrices.dtype)
    filtered = filtered.to(matrices.dtype).clamp_(limits.min, limits.max).to(matrices.device)
    return matrices.where(unchanged[..., None, None].to(matrices.device), filtered), report


def _finite(matrices: Tensor) -> Tensor:
    return matrices.isfinite().flatten(-2).all(-1)


def _gram(tall: Tensor) -> Tensor:
    """A^T A of [..., rows, r]: [..., r, r], its lower triangle only, which is all that eigh reads."""
    size = tall.shape[-1]
    width = math.ceil(size / BLOCKS)
    gram = tall.new_zeros(*tall.shape[:-2], size, size)
    for start in range(0, size, width):
        block = slice(start, start + width)
        gram[..., start:, block] = tall[..., start:].mT @ tall[..., block]
    return gram


def _select(squares: Tensor, spectrum: Spectrum) -> Tensor:
    """Which singular values are kept: bool [..., r], from their squares, largest first."""
    position = torch.arange(squares.shape[-1], device=squares.device).expand_as(squares)
    if spectrum.select == "count":
        return position < min(spectrum.value, squares.shape[-1])
    if spectrum.select == "quantile":
        # The (1-q)-quantile lies between two values or on one; those at or above it begin with this one.
        # The small term is for ratios such as 0.29 of 100 values, whose product rounds to just below 29.
        last = math.floor(spectrum.value * (squares.shape[-1] - 1) + 1e-9)
        return squares >= squares[..., last : last + 1] - RESOLUTION * squares[..., :1]
    if spectrum.select == "energy":
        share = squares.cumsum(-1) / _not_zero(squares.sum(-1, keepdim=True))
        # As many as do not exceed the threshold, and the one that crosses it.
        return position <= (share <= spectrum.value + RESOLUTION).sum(-1, keepdim=True)
    return torch.ones_like(squares, dtype=torch.bool)


def _reweight(values: Tensor, kept: Tensor, spectrum: Spectrum) -> tuple[Tensor, Tensor]:
    """The factors s' / s, [..., r], zero where dropped, and whether the matrix stays as it is, bool [...].

    They are computed as (g(s) / s) * ||s_kept|| / ||g(s_kept)|| with g(s) / s written out, so that a zero
    singular value divides nothing.
    """
    above = values.clamp(min=1)  # log s is zero up to here
    if spectrum.reweight == "log":
        factors = above.log() / above
    elif spectrum.reweight == "log2":
        factors = above.log() ** 2 / above
    elif spectrum.reweight == "exp":
        # Shifted by the largest, so that it cannot overflow: the rescale cancels the shift.
        factors = (spectrum.alpha * (values - values[..., :1])).exp()
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
