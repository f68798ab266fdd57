"""Keeping the allocator from giving memory back to the system after every step."""

import ctypes
import sys

_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD of glibc's <malloc.h>
_TOP_PAD = -2
_MMAP_THRESHOLD = -3


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks of up to 256 MiB for the next step; return whether it took it.

    A training step frees and asks again for a few megabytes per feature map. By default glibc may
    hand such blocks back to the system, so that each step faults its pages in anew; how much that
    costs depends on what else the process has freed. This setting is of the whole process and
    changes no result; the command line and the worker processes call it, the library never does.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, e.g. musl
        return False
    settings = ((_MMAP_THRESHOLD, 1 << 28), (_TRIM_THRESHOLD, 1 << 29), (_TOP_PAD, 1 << 26))
    return all(bool(mallopt(name, value)) for name, value in settings)
