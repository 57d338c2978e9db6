"""The devices of a PC that are not in the kernel, one class each, behind I/O ports."""
