"""Zircon's binary interface: statuses, constants, structures, and the errors that carry a status.

This layer does no I/O and imports nothing else of kvmbind. Its modules are imported one by one, so that
who needs a constant does not pay for ctypes:

* `status`: the `Status` of a call,
* `constants`: every other number, under its C name,
* `structs`: what calls read and write, byte for byte (`packets` and `layout` are its parts),
* `errors`: one exception per status, and the table that makes a status of an errno.
"""
