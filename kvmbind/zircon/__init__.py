"""Zircon's kernel objects on KVM: one module per dispatcher, and the process's handle table.

Locks are taken in this order, each optional: an interrupt's `change`, that of a guest's traps, a doorbell's `_change`,
a bell trap's `_end`, a port's `lock`, an interrupt's `state_lock`, an object's signals' `lock`, the lock of a port's
packets; a guest's creation lock; a VMO's `sized`; the locks of address spaces, several in the order of their id(); that
of a VMO's list of address spaces; a routing table's lock; the handle table's; a dispatcher's hold count.
"""
