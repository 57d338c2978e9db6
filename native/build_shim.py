"""Builds kvmbind._shim with cffi in API mode, against the stable ABI where cffi and Python allow it."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from cffi import FFI

NATIVE = Path(__file__).resolve().parent

#: Free-threaded builds have no stable ABI to build against.
LIMITED_API = not sysconfig.get_config_var("Py_GIL_DISABLED")

ffi = FFI()
ffi.cdef((NATIVE / "shim.cdef").read_text(encoding="ascii"))
ffi.set_source(
    "kvmbind._shim",
    '#include "shim.h"',
    sources=[f"native/{source.name}" for source in sorted(NATIVE.glob("*.c"))],
    depends=["native/shim.h", "native/shim.cdef"],
    include_dirs=["native"],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden"],
    extra_link_args=["-pthread"],
    py_limited_api=LIMITED_API,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
