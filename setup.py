"""What cffi and the stable ABI need beside pyproject.toml."""

import sysconfig

from setuptools import setup

# Free-threaded Pythons have no stable ABI: there the wheel is for one version.
stable_abi = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["native/build_shim.py:ffi"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if stable_abi else {},
)
