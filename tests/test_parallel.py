"""The process pool: order, errors as text, a killed process, and what an early end cancels."""

import os
import signal

import pytest

from nnunet_xlstm.errors import ConfigError, DatasetError, UserError
from nnunet_xlstm.parallel import for_each


def half(number):
    if number == 3:
        raise DatasetError("3 is odd")
    if number == 5:
        raise MemoryError
    return number / 2


def ends_its_process(number):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_results_come_with_their_items_in_order_and_errors_as_text(processes):
    found = list(for_each(half, [4, 3, 2, 5], processes, desc="halves", caught=(UserError, MemoryError)))
    assert found == [(4, 2), (3, "3 is odd"), (2, 1), (5, "not enough memory (MemoryError); use a lower -np")]


def test_other_errors_end_the_work():
    results = for_each(half, [2, 3, 4], desc="halves", caught=(ConfigError,))
    assert next(results) == (2, 1)
    with pytest.raises(DatasetError, match="3 is odd"):
        next(results)


def test_less_than_one_process():
    with pytest.raises(ConfigError, match="-np 0: give the number of cases at a time, 1 or more"):
        for_each(half, [1], 0, desc="halves")


def test_nothing_to_do():
    assert list(for_each(half, [], 4, desc="halves")) == []


def test_one_process_takes_what_cannot_be_pickled():
    assert dict(for_each(lambda number: number + 1, [1, 2], desc="sums")) == {1: 2, 2: 3}


@pytest.mark.slow
def test_as_they_are_done():
    assert sorted(for_each(half, [2, 4, 6], 2, desc="halves", in_order=False)) == [(2, 1), (4, 2), (6, 3)]


@pytest.mark.slow
def test_a_killed_process_is_an_error_of_the_user():
    with pytest.raises(UserError, match=r"one of 2 processes was ended.*use a lower -np \(kept\)"):
        list(for_each(ends_its_process, [1, 2], 2, desc="ends", hint=" (kept)"))
