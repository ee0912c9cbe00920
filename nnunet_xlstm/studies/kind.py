"""A kind of study: which settings it takes, what it varies beside the variants, and how its numbers are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

COMMON = ("dataset", "configuration", "seeds", "variants", "config")  # settings of every kind


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A number that runs vary.

    Attributes:
        key: the setting that lists its values.
        letter: before the value in a run's id.
        unit: what is counted.
    """

    key: str
    letter: str
    unit: str

    def text(self, value: int) -> str:
        """Return a value with its unit, such as "5 labelled subjects"."""
        return f"{value} {self.unit}{'s' * (value != 1)}"


def _all_training_cases(study: Any, data: Any, run: Any) -> list[str]:
    """Return every labelled case that is not for testing."""
    return data.training_cases


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of study.

    Attributes:
        title: of its page.
        takes: settings beside COMMON.
        needs: those of all without which none is begun.
        find_sets: (Kind, Request, Study of the folder or None) -> the data sets (LabelledSet) of a study; the first of
            several is their pool.
        axis: None where variants alone differ.
        seeds: unless they are said.
        scored_on: "test" subjects, the validation part of "folds", or "either": folds where they are asked for.
        length: "iterations": all runs take as many; "epochs": the axis; "recipe": iterations where they are asked for,
            else each trainer's own.
        reading: how far the intervals reach, for the page.
        compared: `compare` adds its page.
        training_cases: (Study, LabelledSet, Run) -> the cases that the run sees.
        completed: Study -> the study with what this kind draws, after its own checks.

    The functions are not typed further: requests and studies hold a kind, so this file cannot import theirs.
    """

    name: str
    title: str
    takes: tuple[str, ...]
    find_sets: Callable[..., list]
    needs: tuple[str, ...] = ("dataset", "variants")
    axis: Axis | None = None
    seeds: int = 1
    scored_on: str = "test"
    length: str = "iterations"
    reading: str = ""
    compared: bool = False
    training_cases: Callable[..., list[str]] = _all_training_cases
    completed: Callable[[Any], Any] = lambda study: study

    def id_words(self, value: int | None) -> list[str]:
        """Return what says a value in names of runs and files, such as ["n5"]; empty without an axis."""
        return [] if self.axis is None or value is None else [f"{self.axis.letter}{value}"]
