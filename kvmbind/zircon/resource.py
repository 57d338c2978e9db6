"""Resources: the right to make guests is an open /dev/kvm; others are rights to ranges."""

from __future__ import annotations

import threading
from typing import ClassVar, NamedTuple

from kvmbind.abi.constants import (
    ZX_DEFAULT_RESOURCE_RIGHTS,
    ZX_OBJ_TYPE_RESOURCE,
    ZX_RSRC_FLAG_EXCLUSIVE,
    ZX_RSRC_KIND_COUNT,
    ZX_RSRC_KIND_HYPERVISOR,
    ZX_RSRC_KIND_IOPORT,
    ZX_RSRC_KIND_IRQ,
    ZX_RSRC_KIND_MMIO,
    ZX_RSRC_KIND_ROOT,
    ZX_RSRC_KIND_SMC,
)
from kvmbind.abi.errors import AccessDeniedError, InvalidArgsError, NotFoundError, OutOfRangeError, WrongTypeError
from kvmbind.abi.structs import InfoResource
from kvmbind.kvm import msi
from kvmbind.kvm.system import System
from kvmbind.zircon.dispatcher import Dispatcher

_KIND_MASK = 0xFFFF
_RANGED = (ZX_RSRC_KIND_MMIO, ZX_RSRC_KIND_IRQ, ZX_RSRC_KIND_IOPORT, ZX_RSRC_KIND_SMC)
_U64_END = 1 << 64


class Grant(NamedTuple):
    """What a resource is the right to: a kind, and of a ranged kind [base, base + size)."""

    kind: int
    flags: int
    base: int
    size: int

    def conflicts(self, other: Grant) -> bool:
        """Tells whether the two overlap and one of them is to be the only one."""
        if self.kind != other.kind or not (self.flags | other.flags) & ZX_RSRC_FLAG_EXCLUSIVE:
            return False
        return self.base < other.base + other.size and other.base < self.base + self.size


class Host:
    """The open device behind all resources that come from one root, and the ranges that they have.

    Threads: any thread may use it; its lock is taken alone.
    """

    __slots__ = ("_ends", "_grants", "_lock", "system")

    def __init__(self, system: System) -> None:
        """Starts with no range given."""
        self.system = system
        #: Where the numbers of each ranged kind end; x86 has no SMC.
        self._ends = {
            ZX_RSRC_KIND_MMIO: 1 << system.address_bits,
            ZX_RSRC_KIND_IRQ: msi.VECTOR_MAX + 1,
            ZX_RSRC_KIND_IOPORT: 1 << 16,
            ZX_RSRC_KIND_SMC: 0,
        }
        self._lock = threading.Lock()
        self._grants: list[Grant] = []

    def give(self, call: str, grant: Grant) -> None:
        """Notes who has a range. NotFoundError if there is no such range, or it would be had twice but must not."""
        end = self._ends[grant.kind]
        if grant.base + grant.size > end:
            raise NotFoundError(call, f"kind {grant.kind} has {end:#x} numbers, from 0 on")
        with self._lock:
            if any(map(grant.conflicts, self._grants)):
                raise NotFoundError(call, f"{grant.base:#x}..{grant.base + grant.size:#x} is another's, exclusively")
            self._grants.append(grant)

    def take_back(self, grant: Grant) -> None:
        """Forgets who has a range."""
        with self._lock:
            self._grants.remove(grant)


class ResourceDispatcher(Dispatcher):
    """A resource. The root resource has /dev/kvm open; each that is made from it holds it, and so does each guest.

    Threads: any thread may use it; it never changes.
    """

    __slots__ = ("_grant", "_host", "_parent")

    TYPE: ClassVar[int] = ZX_OBJ_TYPE_RESOURCE
    DEFAULT_RIGHTS: ClassVar[int] = ZX_DEFAULT_RESOURCE_RIGHTS
    WAITABLE: ClassVar[bool] = False

    def __init__(self, host: Host, grant: Grant, name: bytes, parent: ResourceDispatcher | None) -> None:
        """Keeps the facts; see `root` and `create`."""
        self._host = host
        self._grant = grant
        self._parent = parent
        super().__init__(name=name)

    @classmethod
    def root(cls, device: str) -> ResourceDispatcher:
        """Opens the device, as the root resource.

        Raises:
            OSError: It cannot be opened or lacks something; the message says what to do.
        """
        return cls(Host(System(device)), Grant(ZX_RSRC_KIND_ROOT, 0, 0, 0), b"root", None)

    def create(self, options: int, base: int, size: int, name: bytes) -> ResourceDispatcher:
        """Makes a resource from a root; see zx_resource_create for arguments and errors."""
        call = "zx_resource_create"
        grant = Grant(options & _KIND_MASK, options & ~_KIND_MASK, base, size)
        if self._grant.kind != ZX_RSRC_KIND_ROOT:
            raise AccessDeniedError(call, "only a resource of kind ZX_RSRC_KIND_ROOT makes others")
        if grant.kind >= ZX_RSRC_KIND_COUNT or grant.flags & ~ZX_RSRC_FLAG_EXCLUSIVE:
            raise InvalidArgsError(call, f"options {options:#x} are no kind with ZX_RSRC_FLAG_EXCLUSIVE or without")
        is_ranged = grant.kind in _RANGED
        if not is_ranged and (base or size):
            raise InvalidArgsError(call, f"kind {grant.kind} has no range: base and size must be 0")
        if is_ranged and (not size or base + size > _U64_END):
            raise InvalidArgsError(call, f"{base:#x} + {size:#x} is no range")
        with self:
            if is_ranged:
                self._host.give(call, grant)
            self.hold()
            return ResourceDispatcher(self._host, grant, name, self)

    @property
    def system(self) -> System:
        """The device, open as long as this is held."""
        return self._host.system

    def info(self) -> InfoResource:
        """Returns what it is the right to."""
        kind, flags, base, size = self._grant
        return InfoResource(kind=kind, flags=flags, base=base, size=size, name=self.name)

    def require_hypervisor(self, call: str) -> None:
        """Raises WrongTypeError unless guests may be made with it."""
        if self._grant.kind not in (ZX_RSRC_KIND_HYPERVISOR, ZX_RSRC_KIND_ROOT):
            raise WrongTypeError(call, "the resource is not of kind ZX_RSRC_KIND_HYPERVISOR or ROOT")

    def require_irq(self, call: str, vector: int) -> None:
        """Raises what forbids a physical interrupt with this vector.

        Raises:
            WrongTypeError: It is not of kind IRQ or ROOT.
            OutOfRangeError: The vector is outside its range.
        """
        kind, _, base, size = self._grant
        if kind not in (ZX_RSRC_KIND_IRQ, ZX_RSRC_KIND_ROOT):
            raise WrongTypeError(call, "the resource is not of kind ZX_RSRC_KIND_IRQ or ROOT")
        if kind == ZX_RSRC_KIND_IRQ and not base <= vector < base + size:
            raise OutOfRangeError(call, f"the resource is for vectors {base} to {base + size - 1}, not for {vector}")

    def _destroy(self) -> None:
        if self._parent is None:
            self._host.system.close()
            return
        if self._grant.kind in _RANGED:
            self._host.take_back(self._grant)
        self._parent.drop()
