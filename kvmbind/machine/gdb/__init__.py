"""A machine under gdb: `target remote`."""
