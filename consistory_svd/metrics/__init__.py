"""What a told story is worth in numbers, each with its unit, its direction, its model and its protocol.

A score takes `Frames` (pictures, prompts, masks) and knows nothing of how they were made. `Suite` runs them
all and yields a `Result` for each number, or an `Absent` that says in plain words why there is none.
"""

from consistory_svd.metrics.result import Frames, MissingScore, Result, Score
from consistory_svd.metrics.suite import ScoreSettings, Suite

__all__ = ["Frames", "MissingScore", "Result", "Score", "ScoreSettings", "Suite"]
