"""Several processes that make one run: who they are, what they agree on, and who is missing.

    start → [agree, wait, gather, …] → finish        each process calls the same, in the same order

Everything rests on JAX's own coordination service (`jax.distributed`): it finds the processes,
holds what they tell one another, and notices one that no longer answers. A process that ends early
tells the others why; where one is gone without a word, a thread in each of the others names it and
ends its process, since the main thread may wait for ever in a collective. Where process 0 is gone,
and the service with it, JAX's client aborts the others: `_Aborts` says why. Without `start`,
or with one process, all of this does nothing.

Source: https://docs.jax.dev/en/latest/multi_process.html
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import importlib.util
import itertools
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxle import stopping

_POLL = 1.0  # seconds between two looks at the others
_GRACE = 3.0  # seconds in which a process that is no longer seen may have ended as it should
_SAVING = 60.0  # seconds in which one that was asked to stop may save what is in progress
_WHO, _STOPPED, _SAID, _MET = "jaxle/who/", "jaxle/stopped/", "jaxle/said/", "jaxle/met/"


class _Run:
    """The processes of this run, of which this one is `index`."""

    def __init__(self, count: int, index: int, silence: float, patience: float):
        self.count, self.index = count, index
        self.silence, self.patience = silence, patience
        self.number = itertools.count()  # of what is agreed or waited for
        self.ended = threading.Event()
        self.client = _client()
        self.names: list[str] = []
        self.said: tuple[str, int] | None = None  # why another ended, and its exit status


class _Aborts:
    """Makes an abort by JAX's client end this process with a sentence and an exit status.

    The client aborts from C++ where it loses process 0, or does not find it. Python's handlers of
    signals come too late for that, hence one of the C library, which the aborting thread runs.

    Attributes:
      reason: returns both; None where the client is not why, and the abort goes on.
    """

    def __init__(self, reason: Callable[[], tuple[str, int] | None]):
        self.reason = reason
        self.library = ctypes.CDLL(None)
        self.library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        self.library.signal.restype = ctypes.c_void_p
        self.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._handle)
        own = ctypes.cast(self.handler, ctypes.c_void_p)
        self.before = self.library.signal(signal.SIGABRT, own)

    def _handle(self, number: int) -> None:
        found = self.reason()
        if found is not None:
            _end(*found)
        self.library.signal(number, self.before)
        self.library["raise"](number)  # goes to the handler before, when this one has returned


_run: _Run | None = None
_aborts: _Aborts | None = None
_cleaning: list[Callable[[], object]] = []  # before an exit that leaves no block
_alone = False  # this process does not ask the others for now


def start(
    coordinator: str = "",
    processes: int = 0,
    process: int = -1,
    *,
    silence: float = 60.0,
    patience: float = 86_400.0,
) -> None:
    """Joins the processes of a run; before anything asks for a device.

    Args:
      coordinator: HOST:PORT of process 0; "" where the environment says it (`detected`).
      processes: how many there are; 0 where the environment says it; 1 for this one alone.
      process: which this one is, from 0; −1 where the environment says it.
      silence: seconds after which a process that does not answer counts as gone.
      patience: seconds that processes wait for one that is there: longer than anything that one
        of them computes while the others wait.

    Raises:
      ValueError: only some of the first three are given, or they do not fit together.
      ConnectionError: the others were not there in time; process 0 cannot listen at its port.
    """
    global _run, _aborts
    given = (bool(coordinator), processes > 0, process >= 0)
    if processes == 1 or not (any(given) or detected()):
        return
    if any(given) and not all(given):
        raise ValueError(
            f"got --coordinator={coordinator!r} --processes={processes} --process={process}: "
            "expected all three, or none where TPU pods, SLURM or Open MPI say them."
        )
    if any(given) and not process < processes:
        raise ValueError(
            f"--process={process} of --processes={processes}: expected 0 to {processes - 1}."
        )
    explicit: dict[str, Any] = {}
    if any(given):
        explicit = {"coordinator_address": coordinator, "num_processes": processes}
        explicit |= {"process_id": process, "cluster_detection_method": "deactivate"}
        if process == 0:
            _check_port(coordinator)
    jax.config.update("jax_enable_recoverability", True)  # it is for us to say who is missing
    jax.config.update("jax_enable_preemption_service", False)  # and to end where asked to
    # on CPUs, a program that waits for another device must not wait for a thread as well
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    where = coordinator or "the coordinator that the environment names"
    which = f"process {process}" if explicit else "this process"
    together = "all must be started, with the same --processes, and the address be process 0's"
    unmet = f"{which} did not meet the others at {where}: {together}"
    _aborts = _Aborts(lambda: (f"{unmet}; the same command tries again.", 1))
    try:
        jax.distributed.initialize(
            **explicit,
            heartbeat_timeout_seconds=max(1, round(silence)),
            initialization_timeout=max(1, round(min(patience, 600))),
        )
    except (jax.errors.JaxRuntimeError, RuntimeError) as error:
        raise ConnectionError(f"{unmet} ({_first_line(error)}).") from error
    _run = _Run(jax.process_count(), jax.process_index(), silence, patience)
    if _run.count == 1:
        _run = None
        return
    about = f"pid {os.getpid()} on {socket.gethostname()}"
    _run.client.key_value_set(f"{_WHO}{_run.index}", about)
    for number in range(_run.count):
        about = _run.client.blocking_key_value_get(f"{_WHO}{number}", _milliseconds(_run))
        _run.names.append(f"process {number} of {_run.count} ({about})")
    _aborts.reason = _why_aborted
    atexit.register(_run.ended.set)
    for loop in (_listen, _watch):
        threading.Thread(target=loop, args=(_run,), daemon=True, name="jaxle-watch").start()


def detected(environment: Mapping[str, str] = os.environ) -> bool:
    """Returns whether the environment names several processes, which JAX finds by itself.

    TPU VMs and pods, SLURM (`srun`), Open MPI (`mpirun`) and indexed Jobs of Kubernetes (with its
    Python package, through which JAX asks for the others). An allocation of SLURM in which one
    process was started without `srun` is none.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        return True
    if int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
        return True
    if {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= environment.keys():
        if importlib.util.find_spec("kubernetes") is not None:
            return True
    on_tpu = "TPU_WORKER_ID" in environment or os.path.exists("/dev/accel0")
    forced = environment.get("JAX_PLATFORMS", "tpu")
    return on_tpu and "tpu" in forced and importlib.util.find_spec("libtpu") is not None


def count() -> int:
    """Returns how many processes make this run."""
    return 1 if _run is None or _alone else _run.count


def index() -> int:
    """Returns which of them this is."""
    return 0 if _run is None or _alone else _run.index


def first() -> bool:
    """Returns whether this is the process that writes tables, report and log."""
    return index() == 0


def agree(value: Any) -> Any:
    """Returns process 0's value, to all; JSON values, small."""
    if _run is None or _alone:
        return value
    key = f"{_SAID}{next(_run.number)}"
    if _run.index == 0:
        _run.client.key_value_set(key, json.dumps(value))
        return value
    try:
        return json.loads(_run.client.blocking_key_value_get(key, _milliseconds(_run)))
    except jax.errors.JaxRuntimeError as error:
        _late(_run, [0], error)


def each(value: Any) -> list[Any]:
    """Returns the values of all processes, to all; JSON values, small."""
    if _run is None or _alone:
        return [value]
    key = f"{_SAID}{next(_run.number)}"
    _run.client.key_value_set(f"{key}/{_run.index}", json.dumps(value))
    try:
        found = [
            _run.client.blocking_key_value_get(f"{key}/{number}", _milliseconds(_run))
            for number in range(_run.count)
        ]
    except jax.errors.JaxRuntimeError as error:
        said = {int(k.rpartition("/")[2]) for k, _ in _run.client.key_value_dir_get(f"{key}/")}
        _late(_run, sorted(set(range(_run.count)) - said), error)
    return [json.loads(one) for one in found]


def same(value: Any, what: str) -> None:
    """Raises a ValueError where this process has another value than process 0."""
    if agree(value) != value:
        raise ValueError(
            f"process {index()} of {count()} has another {what} than process 0: expected the same "
            "on all."
        )


def wait(what: str) -> None:
    """Waits until all processes are here.

    Raises:
      ConnectionError: one did not come within the patience of `start`; it is named.
    """
    if _run is None or _alone:
        return
    name = f"{_MET}{next(_run.number)} {what}"
    client = _run.client
    client.key_value_set(f"{name}/{_run.index}", "")
    try:
        client.wait_at_barrier(name, _milliseconds(_run))
    except jax.errors.JaxRuntimeError as error:
        came = {int(key.rpartition("/")[2]) for key, _ in client.key_value_dir_get(f"{name}/")}
        _late(_run, sorted(set(range(_run.count)) - came), error)


def gather(x: Any) -> np.ndarray:
    """Returns the arrays of all processes, one after the other along the first axis.

    Args:
      x: of this process, of one shape and dtype in all; anything that NumPy reads.
    """
    x = np.ascontiguousarray(x)
    if _run is None or _alone:
        return x
    raw = x.reshape(len(x), -1).view(np.uint8)  # as bytes: JAX would halve float64
    whole = np.asarray(multihost_utils.process_allgather(raw, tiled=True))
    return whole.view(x.dtype).reshape(-1, *x.shape[1:])


def share(n: int) -> slice:
    """Returns this process's part of `n` things: contiguous, of sizes that differ by at most 1."""
    i, parts = index(), count()
    return slice(n * i // parts, n * (i + 1) // parts)


@contextlib.contextmanager
def first_before_others(what: str) -> Iterator[None]:
    """Lets the first process do something before the others do the same."""
    if not first():
        wait(what)
    yield
    if first():
        wait(what)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Meanwhile this process asks the others for nothing, and computes all by itself."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def first_goes_on() -> bool:
    """Returns whether this is the first process, which from here to `finish` works alone."""
    global _alone
    if not first():
        return False
    _alone = True
    return True


@contextlib.contextmanager
def before_exit(clean: Callable[[], object]) -> Iterator[None]:
    """Calls `clean` where this process ends meanwhile since another does: no block is left then."""
    _cleaning.append(clean)
    try:
        yield
    finally:
        _cleaning.remove(clean)


def stopped(sentence: str, status: int) -> None:
    """Tells the others why this process ends, and ends it; returns where there are no others.

    Args:
      sentence: why.
      status: the exit status, of the others as well.
    """
    if _run is None or _run.ended.is_set():
        return
    _run.ended.set()
    said = json.dumps({"sentence": sentence, "status": status})
    # an error: process 0 is gone, and with it whoever would read this
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        _run.client.key_value_set(f"{_STOPPED}{_run.index}", said)
        if _run.index == 0:  # the last to leave: what was said is gone with it
            time.sleep(2 * _POLL + _GRACE)
            until = time.monotonic() + _SAVING
            while stopping.asked() and time.monotonic() < until and _others_save(_run):
                time.sleep(_POLL)
    _exit(status)


def _others_save(run: _Run) -> bool:
    """Whether some of the others are there and have not said that they end."""
    return len(run.client.key_value_dir_get(_STOPPED)) < run.count


def lost() -> None:
    """Waits, after an error of a collective, until it is known which process is missing.

    Returns only where none is: then the error is one of its own.
    """
    if _run is not None:
        time.sleep(_run.silence + 2 * _POLL + _GRACE)


def finish() -> None:
    """Waits for all processes, and leaves them."""
    global _run, _alone
    if _run is None:
        return
    _alone = False
    wait("the end")
    _run.ended.set()
    if _run.index == 0:
        time.sleep(_POLL)  # the service ends with process 0
    jax.distributed.shutdown()
    _run = None


def _check_port(coordinator: str) -> None:
    """Raises where process 0 cannot listen; JAX's service would end with a segmentation fault."""
    port = coordinator.rpartition(":")[2]
    if not port.isdecimal():
        raise ValueError(f"--coordinator={coordinator!r}: expected HOST:PORT of process 0.")
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        socket.create_server(("", int(port)), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise ConnectionError(
            f"process 0 cannot listen at port {port} of --coordinator={coordinator} "
            f"({error.strerror}): expected a port that no other program uses, nor a run before."
        ) from error


def _why_aborted() -> tuple[str, int] | None:
    """What to say where JAX ended this process, most often since process 0 is gone."""
    from jax._src import distributed

    run = _run
    if run is None or run.ended.is_set():
        return None
    if run.said is not None:
        return run.said
    host, _, port = (distributed.global_state.coordinator_address or "").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return _missing(run, [0]), 1
    faulthandler.dump_traceback()
    who = f"process {run.index} or {run.names[0]}" if run.index else f"process 0 of {run.count}"
    return (
        f"JAX ended process {run.index} for the reason above, such as {who} that did not answer "
        f"for {run.silence:g} s; what was computed is kept, and the same command resumes."
    ), 1


def _client() -> Any:
    """JAX's own, which has no public name; Orbax uses the same one."""
    from jax._src import distributed

    return distributed.global_state.client


def _milliseconds(run: _Run) -> int:
    return max(1, round(1000 * run.patience))


def _listen(run: _Run) -> None:
    """Ends this process where another said why it ended."""
    while not run.ended.wait(_POLL):
        try:
            said = run.client.key_value_dir_get(_STOPPED)
        except jax.errors.JaxRuntimeError:
            continue  # process 0 is gone, and with it what was said
        if said:
            key, value = said[0]
            found = json.loads(value)
            who = run.names[int(key.rpartition("/")[2])]
            run.said = f"{who} stopped: {found['sentence']}", found["status"]
            # asked to stop as well, as all are before a preemption: it ends when it has saved
            if not run.ended.wait(_SAVING if stopping.asked() else _GRACE):
                _end(*run.said)


def _watch(run: _Run) -> None:
    """Ends this process where another is gone; asking who is there waits for all that are."""
    everyone = list(range(run.count))
    while not run.ended.wait(_POLL):
        try:
            gone = sorted(set(everyone) - set(run.client.get_live_nodes(everyone)))
        except jax.errors.JaxRuntimeError:
            gone = [0]  # the service runs in process 0
        if gone and not run.ended.wait(_GRACE):
            _end(*(run.said or (_missing(run, gone), 1)))


def _missing(run: _Run, gone: list[int]) -> str:
    names = " and ".join(run.names[number] for number in gone)
    more = "does not answer" if len(gone) == 1 else "do not answer"
    return f"{names} {more}; what was computed is kept, and the same command resumes."


def _late(run: _Run, gone: list[int], error: Exception) -> NoReturn:
    if "DEADLINE" not in str(error):
        lost()  # ends here, where a process is gone
    names = " and ".join(run.names[number] for number in gone)
    raise ConnectionError(
        f"process {run.index} waited {run.patience:g} s for {names or 'the others'}; what was "
        "computed is kept, and the same command resumes."
    ) from error


def _end(sentence: str, status: int) -> NoReturn:
    print(f"jaxle: {sentence}", file=sys.stderr, flush=True)
    if _run is not None:
        _run.ended.set()
    _exit(status)


def _exit(status: int) -> NoReturn:
    """Ends at once: the main thread may be in a collective, and JAX's client aborts at errors."""
    for clean in _cleaning:
        with contextlib.suppress(OSError):
            clean()
    stopping.end_now(status)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
