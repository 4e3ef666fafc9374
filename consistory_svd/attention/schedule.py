"""Which step does what: query blending, feature capture, feature injection (docs/method.md, 4 and 5)."""

from collections.abc import Sequence
from dataclasses import dataclass

from consistory_svd.settings import Settings

FIRST_BLEND, LAST_BLEND = 0.9, 0.81836735
FEATURE_TIMESTEP = 261


@dataclass(frozen=True)
class Schedule:
    """The method's parts over the steps of a run, counted from 0.

    Queries are blended in the first tenth of the steps and features injected between a tenth and a third,
    rounded down as in the paper. With fewer than 10 steps the tenth would hold step 0 alone, which is not
    extended: then step 1, the first that is, is blended with the last weight.

    Attributes:
        blend_weights: weight of the recorded queries, one per step; empty: queries are not blended. The
            weight of step 0 is never used, because step 0 is not extended.
        injected: the steps at which features are injected.
        feature_step: the step whose features are matched, the one nearest to timestep 261.
        first_pass_end: the step before which the first of two passes ends.
    """

    steps: int
    blend_weights: tuple[float, ...] = ()
    injected: range = range(0)
    feature_step: int = 0
    first_pass_end: int = 0

    @classmethod
    def of(cls, timesteps: Sequence[float], settings: Settings) -> "Schedule":
        """The schedule of a run over these timesteps, noisiest first."""
        steps = len(timesteps)
        tenth = steps // 10
        weights: tuple[float, ...] = ()
        if settings.query_blending and settings.sdsa:
            last = max(1, tenth)
            slope = (LAST_BLEND - FIRST_BLEND) / last
            weights = tuple(FIRST_BLEND + slope * k for k in range(last + 1))
        if not settings.injection:
            return cls(steps, weights)
        feature_step = min(range(steps), key=lambda k: abs(float(timesteps[k]) - FEATURE_TIMESTEP))
        injected = range(tenth, min(steps // 3, steps - 1) + 1)
        end = max(feature_step + 1, injected.start) if settings.short_first_pass else steps
        return cls(steps, weights, injected, feature_step, end)

    @property
    def fork(self) -> int:
        """The first step at which the second pass differs from the first."""
        return self.injected.start

    @property
    def calls(self) -> int:
        """Number of steps of a frame in all its passes together."""
        if not self.injected:
            return self.steps
        return self.first_pass_end + self.steps - self.fork
