"""Peak memory of a run: the driver and every worker below it, sampled from outside."""

import threading
from contextlib import suppress
from types import TracebackType

import psutil

MEBI = 1024 * 1024
# Lines of /proc/<pid>/smaps_rollup, in KiB.
_COUNTED = ("Pss_Anon", "Pss_Shmem")


class PeakMemory:
    """Samples, in a thread, the memory of this process and of the Ray workers below it while the block runs.

    Anonymous and shared memory counts; a page shared by several processes counts once. Mapped files, such as libraries, do not
    count, since a process's part in them depends on what else on the machine maps them. Where the system does not separate
    them, the proportional set counts, or else the resident set. `peak` is the largest sum of one sample, `driver` and `workers`
    are its parts, in MiB. Ray's own services are left out.
    """

    def __init__(self, interval: float = 0.25) -> None:
        self.peak = self.driver = self.workers = 0.0
        self.samples = 0
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._error: BaseException | None = None

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _watch(self) -> None:
        try:
            root = psutil.Process()
            while True:
                self._sample(root)
                if self._done.wait(self._interval):
                    return
        except BaseException as error:
            self._error = error

    def _sample(self, root: psutil.Process) -> None:
        driver = size_of(root)
        workers = sum(size_of(process) for process in root.children(recursive=True) if is_worker(process))
        self.samples += 1
        if driver + workers > self.peak:
            self.peak, self.driver, self.workers = driver + workers, driver, workers


def size_of(process: psutil.Process) -> float:
    """MiB of one process; 0 if it has just ended."""
    # On another system, or for a process that has ended, this fails and the code below decides.
    with suppress(OSError, ValueError), open(f"/proc/{process.pid}/smaps_rollup") as file:
        sizes = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in file) if name in _COUNTED}
        if len(sizes) == len(_COUNTED):
            return sum(sizes.values()) / 1024
    try:
        info = process.memory_full_info()
        return getattr(info, "pss", info.rss) / MEBI
    except psutil.AccessDenied:
        return process.memory_info().rss / MEBI
    except psutil.NoSuchProcess:
        return 0.0


def is_worker(process: psutil.Process) -> bool:
    """Whether this is a Ray worker (task or actor), by the title that Ray gives it, or a child process of one."""
    try:
        return any("ray::" in p.name() or (p.cmdline() or [""])[0].startswith("ray::") for p in (process, *process.parents()))
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
