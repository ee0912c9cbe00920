"""Call a function on many items, several at a time, with a bar: the one process pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar

from tqdm import tqdm

from nnunet_xlstm.errors import ConfigError, UserError

Item = TypeVar("Item")


def for_each(
    function: Callable[[Item], Any],
    items: Sequence[Item],
    processes: int = 1,
    *,
    desc: str,
    unit: str = "case",
    done: int = 0,
    progress: bool = True,
    in_order: bool = True,
    caught: tuple[type[Exception], ...] = (),
    hint: str = "",
) -> Iterator[tuple[Item, Any]]:
    """Return an iterator over the items, each with what the function returns for it.

    Args:
        function: called with one item. With several processes it and the items are pickled.
        items: what to work on.
        processes: items at a time; with 1, all is done in this process.
        desc: text of the bar, which is shown on terminals alone.
        unit: of the bar: what an item is.
        done: items that an earlier run has dealt with; the bar starts there.
        progress: whether to show the bar.
        in_order: yield in the order of the items, else as they are done.
        caught: errors that do not end the work: their text (str) is yielded for the item.
        hint: what else to say where a process was ended, such as " (what is scored is kept)".

    Raises:
        ConfigError: less than one process.
        UserError: a process was ended from outside.
    """
    if processes < 1:
        raise ConfigError(f"-np {processes}: give the number of {unit}s at a time, 1 or more")
    call = partial(_caught, function, caught) if caught else function
    results = _results(call, items, min(processes, len(items)), in_order, hint)
    return iter(tqdm(results, desc, done + len(items), initial=done, unit=unit, disable=None if progress else True))


def _results(
    function: Callable[[Item], Any], items: Sequence[Item], processes: int, in_order: bool, hint: str
) -> Iterator[tuple[Item, Any]]:
    if processes <= 1:
        yield from ((item, function(item)) for item in items)
        return
    # spawned: a fork of a threaded parent may hang
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        futures = {pool.submit(function, item): item for item in items}
        try:
            for future in futures if in_order else as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise UserError(
                f"one of {processes} processes was ended, perhaps for its memory; use a lower -np{hint}"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _caught(function: Callable[[Item], Any], caught: tuple[type[Exception], ...], item: Item) -> Any:
    try:
        return function(item)
    except caught as error:
        if isinstance(error, MemoryError):
            return f"not enough memory ({str(error) or 'MemoryError'}); use a lower -np"
        return str(error)
