"""What becomes of time: a case per frame, the third axis of a volume, or the channels of a case."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_xlstm.choices import TIME_MODES
from nnunet_xlstm.errors import ConfigError, DatasetError

N_FRAMES = 3  # channels, unless the user says how many
MM_PER_MS = 0.1  # 10 ms of time are an edge of 1 mm: a heart's wall moves up to about 100 mm/s
USUAL_INTERVAL_MS = 30.0  # of a cine of 25 to 35 phases; taken where no file says it


@dataclass(frozen=True)
class TimeMode:
    """How the frames of a sequence become cases.

    Attributes:
        mode: one of TIME_MODES.
        n_frames: how many become channels; 0 in the other modes.
        interval_ms: between frames, in place of what the files say (axis); None keeps theirs.
    """

    mode: str = "frames"
    n_frames: int = 0
    interval_ms: float | None = None

    @classmethod
    def of(cls, mode: str, n_frames: int | None = None, interval_ms: float | None = None) -> TimeMode:
        """Check what the user gives; None: not given.

        Raises:
            ConfigError: an unknown mode, an option of another mode, or a number that makes no sense.
        """
        if mode not in TIME_MODES:
            raise ConfigError(f"--time {mode}: use one of {', '.join(TIME_MODES)}")
        if n_frames is not None and (mode != "channels" or n_frames < 2):
            raise ConfigError(
                f"--n-frames {n_frames}: how many frames become channels, 2 or more, with --time channels"
            )
        if interval_ms is not None and (mode != "axis" or not 0 < interval_ms < float("inf")):
            raise ConfigError(f"--frame-interval {interval_ms:g}: give ms between frames, above 0, with --time axis")
        return cls(mode, (n_frames or N_FRAMES) if mode == "channels" else 0, interval_ms)

    def channels(self, modality: str) -> list[str]:
        """Names of the channels of a case of this modality."""
        return [f"{modality}_t{k}" for k in range(self.n_frames)] or [modality]


FRAMES = TimeMode()


def choose_frames(frames: int, n: int) -> list[int]:
    """Return `n` frames, even over a cycle: floor(k * frames / n).

    The last frame of a cycle is next to the first, so it is no end point.

    Raises:
        DatasetError: there are fewer; a frame twice would be two equal channels.
    """
    if frames < n:
        raise DatasetError(f"{frames} frame{'s'[: frames > 1]}; --n-frames asks for {n}")
    return [k * frames // n for k in range(n)]


def time_spacing(interval_ms: float, pixel: float) -> float:
    """Return the spacing in mm that stands for an interval (0: not known), at least the size of a pixel.

    nnU-Net takes the axis with the largest spacing for the one between slices.
    """
    return max((interval_ms or USUAL_INTERVAL_MS) * MM_PER_MS, pixel)
