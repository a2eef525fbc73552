"""How much a process grows while a function runs: its peak resident memory over the start."""

import ctypes
import gc
import os
import re
import threading
import time
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def growth(function, *, kernel=None):
    """The bytes by which resident memory rises above its start while `function()` runs.

    Before the start garbage is collected and free memory is given back, so that nothing of what
    ran before can be used again unseen. The peak is the kernel's own high-water mark, set back
    at the start; where that cannot be done (`kernel=False`) a thread looks every half millisecond.
    """
    trim()
    if kernel_peaks() if kernel is None else kernel:
        RESET.write_text("5")
        start = _status("VmHWM")
        function()
        return _status("VmHWM") - start
    with _Watch() as watch:
        function()
    return watch.peak - watch.start


def trim():
    """Collects garbage and gives memory that the allocator holds free back to the system."""
    gc.collect()
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if malloc_trim:
        malloc_trim(0)


def kernel_peaks():
    """Whether the kernel keeps a high-water mark that a process may set back (Linux)."""
    return os.access(RESET, os.W_OK)


def _status(field):
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text())[1])


def _resident():
    if STATUS.exists():
        return _status("VmRSS")
    import psutil
    return psutil.Process().memory_info().rss


class _Watch:
    """Looks at resident memory in a thread of its own for as long as it is entered."""

    def __enter__(self):
        self.start = self.peak = _resident()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def _look(self):
        while not self.over.is_set():
            self.peak = max(self.peak, _resident())
            time.sleep(5e-4)

    def __exit__(self, *_):
        self.peak = max(self.peak, _resident())
        self.over.set()
        self.thread.join()
