"""How far a story is: what its run lets the page know."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from consistory_svd.studio.generated_story import Picture

# loading: the model is not there yet; waiting: another story has it.
Stage = Literal["loading", "waiting", "telling", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Progress:
    """How far a story is.

    Frames are told in waves: `last_frame`, counted from 1, is the last of the wave that is being told,
    and its first is `first_frame`, or where that is 0 the one after the finished pictures. `share` of all
    the work is done; `seconds_left` is None until steps were timed. While it waits, `before` are the
    stories whose turn comes first, and `seconds_to_wait` is about what they take, where that is known.
    `first_pass` says that the step only looks for what matches, `unseen` that anchors are told again that
    have their pictures already; `notes` say what is switched on without effect or had to be done
    otherwise, `plan` whether memory is enough, `expected` how long it will take, and `plans` both at length.
    `previews` are the latest of frames
    that are being told, and `told` counts those that this run has finished; `anew` marks a run that goes
    on with a story. `prompts` are all frames', those that are still to be told included; each begins with
    `subject`, its style and whom it is about, and ends with its scene.
    """

    stage: Stage
    frames: int
    last_frame: int = 1
    step: int = 0
    steps: int = 0
    share: float = 0.0
    seconds: float = 0.0
    seconds_left: float | None = None
    pictures: tuple[Picture, ...] = ()
    error: str = ""
    first_pass: bool = False
    notes: tuple[str, ...] = ()
    plan: str = ""
    expected: str = ""
    plans: tuple[str, ...] = ()
    first_frame: int = 0
    unseen: bool = False
    previews: tuple[tuple[int, Path], ...] = ()
    generated: int = 0
    full_run: bool = False
    prompts: tuple[str, ...] = ()
    before: int = 0
    seconds_to_wait: float | None = None
    subject: str = ""

    def scene(self, prompt: str) -> str:
        """The scene of one of the story's prompts."""
        return prompt.removeprefix(self.subject).strip()

    @property
    def over(self) -> bool:
        """True when nothing more will happen."""
        return self.stage in ("done", "stopped", "failed")
