"""What cffi, the stable ABI and a machine that cannot build it need beside pyproject.toml."""

import platform
import sys
import sysconfig

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, LinkError, PlatformError

# Free-threaded Pythons have no stable ABI: there the wheel is for one version.
stable_abi = not sysconfig.get_config_var("Py_GIL_DISABLED")

NEEDS = """kvmbind's shim could not be compiled: the reason is above. That takes a C compiler, and the headers of the C
library, of Linux and of this Python:
    Debian:  apt-get install gcc libc6-dev linux-libc-dev python3-dev
    Fedora:  dnf install gcc glibc-devel kernel-headers python3-devel
    Alpine:  apk add gcc musl-dev linux-headers python3-dev"""


class BuildShim(build_ext):
    """Builds the shim, or says in a sentence why this machine cannot."""

    def run(self) -> None:
        """Refuses other systems and processors before anything is compiled."""
        machine = platform.machine()
        if sys.platform != "linux" or machine not in ("x86_64", "AMD64") or sys.maxsize < 2**32:
            bits = 64 if sys.maxsize > 2**32 else 32
            raise PlatformError(
                f"kvmbind needs KVM, on Linux and x86-64; this is a {bits}-bit Python on {sys.platform}, {machine}"
            )
        try:
            super().run()
        except (CompileError, LinkError) as error:
            raise PlatformError(NEEDS) from error


setup(
    cffi_modules=["native/build_shim.py:ffi"],
    cmdclass={"build_ext": BuildShim},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if stable_abi else {},
)
