"""Freed memory that is kept."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from stylegan.memory import keep_freed_memory
keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def use():
    block = libc.malloc(1 << 20)
    ctypes.memset(block, 1, 1 << 20)
    together.wait()
    libc.free(block)

together = threading.Barrier(8)
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_all_threads_share_it() -> None:
    """Each thread's own would be kept for each, however short it lives."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    if "malloc_info" in done.stderr:
        pytest.skip("another C library")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("<heap nr=") == 1
