"""Progress bars of the demo: the stages, and the epochs of the training."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator

from tqdm import tqdm


class Stages:
    """A bar over the stages, and the seconds of each: `with stages("plan"): ...`."""

    names = ("data", "plan", "train", "predict", "evaluate", "report")

    def __init__(self, progress: bool):
        self.seconds: dict[str, float] = {}
        layout = "{desc:8}|{bar:20}| {n_fmt}/{total_fmt} {elapsed}"
        self._bar = tqdm(total=len(self.names), disable=not progress, bar_format=layout)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Time a stage, and move the bar at its end."""
        start = time.perf_counter()
        self._bar.set_description_str(name)
        try:
            yield
        except BaseException:
            self._bar.close()
            raise
        self.seconds[name] = round(time.perf_counter() - start, 1)
        self._bar.n = self.names.index(name) + 1  # not every run has all stages
        self._bar.refresh()
        if name == self.names[-1]:
            self._bar.close()


class EpochBar(tqdm):
    """A bar over the epochs, fed with the lines of nnU-Net's training log."""

    def __init__(self, epochs: int, progress: bool):
        super().__init__(total=epochs, desc="  epochs", leave=False, disable=not progress)

    def update_from(self, line: str) -> None:
        """Move on when a line has the mean training loss, with which an epoch ends."""
        loss = epoch_loss(line)
        if loss is not None:
            self.update()
            self.set_postfix(loss=f"{loss:.3f}")


def epoch_loss(line: str) -> float | None:
    """Return the mean loss that nnU-Net logs at the end of an epoch, or None on any other line."""
    match = re.search(r": train_loss (\S+)", line)
    return float(match[1]) if match else None
