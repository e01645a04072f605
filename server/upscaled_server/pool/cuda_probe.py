"""Prints the CUDA devices as JSON. Run as a program of its own, `python -I -S cuda_probe.py`.

The driver is asked through ctypes: importing torch for it would cost seconds and gigabytes of address space.
And it is asked in a child process, since initialising the driver opens device files for good, and a broken
driver can hang.
"""

from __future__ import annotations

import ctypes
import json
from typing import Any

_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


def cuda_devices() -> list[dict[str, Any]]:
    """`index`, `title`, `memory_bytes` and `capability` of each device; none where the driver is missing or
    refuses.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = []
    for index in range(count.value):
        device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(128), ctypes.c_size_t()
        major, minor = ctypes.c_int(), ctypes.c_int()
        if driver.cuDeviceGet(ctypes.byref(device), index) != 0:
            continue
        driver.cuDeviceGetName(name, len(name), device)
        driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
        driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device)
        found.append(
            {
                "index": index,
                "title": name.value.decode(errors="replace"),
                "memory_bytes": memory.value,
                "capability": f"{major.value}.{minor.value}",
            }
        )
    return found


if __name__ == "__main__":
    print(json.dumps(cuda_devices()))
