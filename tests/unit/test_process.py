"""The server's heap keeps its pages, and its collector leaves them alone. In processes of their own, since
these settings cannot be taken back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# Blocks as of one strip, held together and then freed, so that nothing lies above them in the heap.
_PROGRAM = """
import resource, sys
import numpy as np
from upscaled_server.process import keep_freed_pages

if sys.argv[1] == "kept":
    keep_freed_pages()

def strip():
    blocks = [np.ones(size << 10, np.uint8) for size in (1024, 1025, 700, 690)]
    blocks.clear()

strip()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    strip()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

# Threads as many as gRPC may have, which want memory at once; then glibc's own account of its heaps.
_THREADS = """
import ctypes, sys, tempfile, threading
from pathlib import Path
import numpy as np
from upscaled_server.process import keep_freed_pages

if sys.argv[1] == "kept":
    keep_freed_pages()

together = threading.Barrier(16)

def hold():
    block = np.ones(64 << 10, np.uint8)
    together.wait()

threads = [threading.Thread(target=hold) for _ in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as account:
    file = ctypes.c_void_p(libc.fopen(account.name.encode(), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    print(Path(account.name).read_text().count("<heap "))
"""


def _said(program: str, how: str, **environ: str) -> int:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | environ
    done = subprocess.run(
        [sys.executable, "-c", program, how], env=environ, check=True, capture_output=True, timeout=60
    )
    return int(done.stdout)


def _faults(how: str, **environ: str) -> int:
    return _said(_PROGRAM, how, **environ)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
def test_pages_that_were_freed_are_not_fetched_again() -> None:
    pages_of_a_strip = (1024 + 1025 + 700 + 690) // 4
    assert _faults("kept") < pages_of_a_strip
    # The operator's own settings stay: with these, every block is given back.
    assert _faults("kept", MALLOC_MMAP_THRESHOLD_="4096") > 40 * pages_of_a_strip


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are those of glibc")
def test_threads_do_not_have_a_heap_each_that_keeps_what_they_have_freed() -> None:
    assert _said(_THREADS, "kept") <= 2
    assert _said(_THREADS, "kept", MALLOC_ARENA_MAX="16") > 2


_COLLECTED = """
import gc
from upscaled_server import app
from upscaled_server.process import leave_out_of_collections

before = len(gc.get_objects())
leave_out_of_collections()
print(before, len(gc.get_objects()))
"""


def test_the_collector_does_not_look_at_what_was_there_before_it_runs() -> None:
    done = subprocess.run([sys.executable, "-c", _COLLECTED], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert before > 50_000
    assert after < 1_000
