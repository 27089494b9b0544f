"""Worker processes of the loader, started by Grain, that a terminal's Ctrl-C does not disturb.

Ctrl-C goes to every process of a terminal, SIGTERM of a scheduler to every process of a job.
Workers that got one would each print a traceback, and the main process would wait for them. Here
one thread, in which the signals are blocked, starts the workers and waits for what they read: they
inherit the block, and the main thread, which waits for that thread, is interrupted at once. However
reading ends, the workers are ended, not waited for; they also end when their run was killed.

Workers do not import the program's main module: they need nothing of it, and a script without
`if __name__ == "__main__":` would run again in each.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

import cloudpickle
import grain
from absl import flags

_NAME = "grain-process-prefetch"  # what Grain calls its processes
_PATIENCE = 1.5  # seconds in which workers may still be on their way when all are ended
_QUIET = "ignore:resource_tracker"  # of the memory of those that were ended


def read(
    make: Callable[[int], Any], n: int, workers: int, ahead: int, wait: Callable[[Future, int], Any]
) -> Iterator[Any]:
    """Yields make(0), make(1), …, make(n − 1), each made in one of several processes.

    Args:
      make: a function that can be pickled.
      n: how many.
      workers: how many processes.
      ahead: elements that each makes before they are asked for.
      wait: of an element on its way and its number: waits for it as long as may be.

    Raises:
      ChildProcessError: a process ended by itself, such as one killed for its memory.
    """
    if not flags.FLAGS.is_parsed():
        # Grain reads its own flags when it starts processes; a program without absl parsed none.
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=ahead)
    few = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as closing:
        path = os.path.join(folder, "make.pickle")
        with open(path, "wb") as file:
            cloudpickle.dump(make, file)
        runs = grain.MapDataset.range(n).map(functools.partial(_make, path))
        dataset = runs.to_iter_dataset(few).mp_prefetch(options)
        others = set(multiprocessing.active_children())
        starting = closing.enter_context(contextlib.ExitStack())
        starting.enter_context(_without_main())
        thread = ThreadPoolExecutor(1, "jaxle-workers", _block_signals)
        closing.callback(thread.shutdown, wait=False)
        try:
            iterator = thread.submit(iter, dataset).result()
            closing.callback(thread.submit, iterator.close)
            closing.callback(_end, workers, others)
            for number in range(n):
                if number == workers:  # each has sent one
                    starting.close()
                yield wait(thread.submit(next, iterator), number)
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise ChildProcessError(
                f"a process that decodes images ended by itself ({str(error).partition('. ')[0]}): "
                "expected fewer data.workers, or 0 for threads"
            ) from None


def _make(path: str, k: int) -> Any:
    return _load(path)(k)


@functools.cache
def _load(path: str) -> Callable[[int], Any]:
    """What all workers do, from a file in a folder of this run alone.

    A message would do as well, but the start of a worker waits until it has read a long one.
    Python's processes exchange pickles either way; nothing from outside is read as one.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with open(path, "rb") as file:
        return pickle.load(file)


def _end_with_parent() -> None:
    """A worker whose run was killed would wait for ever for its results to be taken."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _block_signals() -> None:
    if hasattr(signal, "pthread_sigmask"):  # not on Windows
        resource_tracker.ensure_running()  # its start would end the block
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Processes that start meanwhile import no main module, and end without remarks."""
    main, hidden = sys.modules["__main__"], {}
    for name in ("__file__", "__spec__"):
        if hasattr(main, name):
            hidden[name] = getattr(main, name)
            setattr(main, name, None)
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, _QUIET]))
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


def _end(workers: int, others: set[BaseProcess]) -> None:
    """Ends all workers, also those that are on their way; `others` were there before."""
    ended: set[int | None] = set()
    until = time.monotonic() + _PATIENCE
    while len(ended) < workers and time.monotonic() < until:
        for child in multiprocessing.active_children():
            if child.name.startswith(_NAME) and child not in others:
                child.kill()
                ended.add(child.pid)
        time.sleep(0.02)
