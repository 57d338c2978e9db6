"""Zircon's hypervisor objects on Linux KVM.

Its heart is `zx.zx_interrupt_bind_vcpu`, or `Interrupt.bind_vcpu`: from then on whoever triggers the interrupt raises a
vector in the guest's local APIC while the VCPU's thread stays inside KVM_RUN.

Names are loaded when they are first used; `import kvmbind` itself costs next to nothing.
"""

TYPE_CHECKING = False  # typing's own is not worth its import

if TYPE_CHECKING:
    from kvmbind import guests as guests
    from kvmbind import zx as zx
    from kvmbind.abi.errors import Access as Access
    from kvmbind.abi.errors import AccessDeniedError as AccessDeniedError
    from kvmbind.abi.errors import AddressInUseError as AddressInUseError
    from kvmbind.abi.errors import AddressUnreachableError as AddressUnreachableError
    from kvmbind.abi.errors import AlreadyBoundError as AlreadyBoundError
    from kvmbind.abi.errors import AlreadyExistsError as AlreadyExistsError
    from kvmbind.abi.errors import AsyncError as AsyncError
    from kvmbind.abi.errors import BadHandleError as BadHandleError
    from kvmbind.abi.errors import BadPathError as BadPathError
    from kvmbind.abi.errors import BadStateError as BadStateError
    from kvmbind.abi.errors import BadSyscallError as BadSyscallError
    from kvmbind.abi.errors import BufferTooSmallError as BufferTooSmallError
    from kvmbind.abi.errors import CanceledError as CanceledError
    from kvmbind.abi.errors import ConnectionAbortedError as ConnectionAbortedError
    from kvmbind.abi.errors import ConnectionRefusedError as ConnectionRefusedError
    from kvmbind.abi.errors import ConnectionResetError as ConnectionResetError
    from kvmbind.abi.errors import FileBigError as FileBigError
    from kvmbind.abi.errors import InternalError as InternalError
    from kvmbind.abi.errors import InternalIntrRetryError as InternalIntrRetryError
    from kvmbind.abi.errors import InvalidArgsError as InvalidArgsError
    from kvmbind.abi.errors import IoDataIntegrityError as IoDataIntegrityError
    from kvmbind.abi.errors import IoDataLossError as IoDataLossError
    from kvmbind.abi.errors import IoError as IoError
    from kvmbind.abi.errors import IoInvalidError as IoInvalidError
    from kvmbind.abi.errors import IoMissedDeadlineError as IoMissedDeadlineError
    from kvmbind.abi.errors import IoNotPresentError as IoNotPresentError
    from kvmbind.abi.errors import IoOverrunError as IoOverrunError
    from kvmbind.abi.errors import IoRefusedError as IoRefusedError
    from kvmbind.abi.errors import NextError as NextError
    from kvmbind.abi.errors import NoMemoryError as NoMemoryError
    from kvmbind.abi.errors import NoResourcesError as NoResourcesError
    from kvmbind.abi.errors import NoSpaceError as NoSpaceError
    from kvmbind.abi.errors import NotConnectedError as NotConnectedError
    from kvmbind.abi.errors import NotDirError as NotDirError
    from kvmbind.abi.errors import NotEmptyError as NotEmptyError
    from kvmbind.abi.errors import NotFileError as NotFileError
    from kvmbind.abi.errors import NotFoundError as NotFoundError
    from kvmbind.abi.errors import NotSupportedError as NotSupportedError
    from kvmbind.abi.errors import OutOfRangeError as OutOfRangeError
    from kvmbind.abi.errors import PeerClosedError as PeerClosedError
    from kvmbind.abi.errors import ProtocolNotSupportedError as ProtocolNotSupportedError
    from kvmbind.abi.errors import ShouldWaitError as ShouldWaitError
    from kvmbind.abi.errors import StopError as StopError
    from kvmbind.abi.errors import TimedOutError as TimedOutError
    from kvmbind.abi.errors import UnavailableError as UnavailableError
    from kvmbind.abi.errors import WrongTypeError as WrongTypeError
    from kvmbind.abi.errors import ZxError as ZxError
    from kvmbind.abi.status import Status as Status
    from kvmbind.abi.structs import PortPacket as PortPacket
    from kvmbind.abi.structs import VcpuIo as VcpuIo
    from kvmbind.abi.structs import VcpuState as VcpuState
    from kvmbind.kvm.closer import settle as settle
    from kvmbind.kvm.exits import Exit as Exit
    from kvmbind.kvm.exits import ExitReason as ExitReason
    from kvmbind.kvm.registers import Breakpoint as Breakpoint
    from kvmbind.kvm.registers import DebugRegisters as DebugRegisters
    from kvmbind.kvm.registers import DescriptorTable as DescriptorTable
    from kvmbind.kvm.registers import MpState as MpState
    from kvmbind.kvm.registers import Registers as Registers
    from kvmbind.kvm.registers import Segment as Segment
    from kvmbind.kvm.registers import SpecialRegisters as SpecialRegisters
    from kvmbind.kvm.registers import VcpuEvents as VcpuEvents
    from kvmbind.kvm.stats import VcpuStats as VcpuStats
    from kvmbind.machine.ending import Ending as Ending
    from kvmbind.machine.images.image import ImageError as ImageError
    from kvmbind.machine.machine import Machine as Machine
    from kvmbind.objects.guest import Guest as Guest
    from kvmbind.objects.interrupt import Interrupt as Interrupt
    from kvmbind.objects.port import Port as Port
    from kvmbind.objects.resource import Resource as Resource
    from kvmbind.objects.vcpu import Vcpu as Vcpu
    from kvmbind.objects.vmar import Vmar as Vmar
    from kvmbind.objects.vmo import Vmo as Vmo

    __version__: str

_HOMES = {
    "Access": "kvmbind.abi.errors",
    "Breakpoint": "kvmbind.kvm.registers",
    "DebugRegisters": "kvmbind.kvm.registers",
    "DescriptorTable": "kvmbind.kvm.registers",
    "Exit": "kvmbind.kvm.exits",
    "ExitReason": "kvmbind.kvm.exits",
    "Ending": "kvmbind.machine.ending",
    "Guest": "kvmbind.objects.guest",
    "ImageError": "kvmbind.machine.images.image",
    "Interrupt": "kvmbind.objects.interrupt",
    "MpState": "kvmbind.kvm.registers",
    "Machine": "kvmbind.machine.machine",
    "Port": "kvmbind.objects.port",
    "PortPacket": "kvmbind.abi.structs",
    "Registers": "kvmbind.kvm.registers",
    "Resource": "kvmbind.objects.resource",
    "Segment": "kvmbind.kvm.registers",
    "SpecialRegisters": "kvmbind.kvm.registers",
    "Status": "kvmbind.abi.status",
    "Vcpu": "kvmbind.objects.vcpu",
    "VcpuEvents": "kvmbind.kvm.registers",
    "VcpuIo": "kvmbind.abi.structs",
    "VcpuState": "kvmbind.abi.structs",
    "VcpuStats": "kvmbind.kvm.stats",
    "Vmar": "kvmbind.objects.vmar",
    "Vmo": "kvmbind.objects.vmo",
    "settle": "kvmbind.kvm.closer",
}
_MODULES = ("guests", "zx")


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("kvmbind")
    if name in _MODULES:
        return import_module(f"kvmbind.{name}")
    home = _HOMES.get(name, "kvmbind.abi.errors" if name.endswith("Error") else "")
    value = getattr(import_module(home), name, None) if home else None
    if value is None:
        raise AttributeError(f"module 'kvmbind' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from kvmbind.abi import errors

    names = (name for name in dir(errors) if name.endswith("Error"))
    return sorted({*globals(), *_HOMES, *_MODULES, "__version__", *names})
