"""Tiny real-mode guests for examples, tests and benchmarks: each name is the bytes of one image.

Write an image at 1000h of a guest with 1 MiB of memory at 0 and start a VCPU with `entry=0x1000` (CS =
100h, IP = 0, every other register and segment zero, local APIC in x2APIC mode). Addresses below are
guest-physical. An image is read from its file on first use; its source is `native/guests/<name>.S`.

What the images that take interrupts have in common:

- They install their vectors in the table at 0, and VCPU i has the 64 bytes from C000h + 64 * i as its
  stack.
- The byte at 7000h + APIC id becomes 1 when the VCPU is set up. An interrupt that comes earlier waits in
  the local APIC; an NMI does not wait, so send it only once the byte is 1.
- A count is a dword that starts at 0 and is stored before the end of the interrupt.
- They never exit: HLT, RDMSR and WRMSR of the local APIC stay in the kernel. The exceptions are named.

| image | vector | what it does |
|---|---|---|
| `COUNTER` | 40h | counts at 8000h + 4 * APIC id, in HLT; any number of VCPUs, ids 0..255 |
| `VECTORS` | 20h-FFh | counts each at 8000h + 4 * vector (8080h-83FFh), in HLT; VCPUs add up, same ids |
| `STAMP` | 40h | guest TSC at 9000h (low dword) and 9004h, then counts at 8000h, in HLT; one VCPU |
| `PROBE` | 40h | like `STAMP`, per VCPU, in the way that the byte at 7100h says (below); VCPU ids 0..255 |
| `RINGER` | 40h | stores to D0000h, then its time as `STAMP`, then counts at 8000h, in HLT; one VCPU |
| `PING_PONG` | 40h | counts at 8000h and stores to D0000h, as often as the dword at 7100h says, in HLT; one VCPU |
| `SPINNER` | 40h | counts at 8000h + 4 * APIC id, in a loop with no HLT; any number of VCPUs, ids 0..255 |
| `MASKED` | 40h | interrupts off until the dword at 7100h is not 0; then counts at 8000h, in HLT; one VCPU |
| `FORGETFUL` | 40h | counts at 8000h, in HLT, and never ends it: a faithful APIC gives it one; one VCPU |
| `SMP` | 40h | counts at 8000h + 4 * APIC id, in HLT; 41h makes VCPU 0 start those that wait for SIPI |
| `NMI` | 2 | counts non-maskable interrupts at 8000h, in HLT; one VCPU |
| `BURST` | 40h | when ready, OUT of 0..199 to port 80h (200 exits); then counts at 8000h, in HLT; one VCPU |

`PROBE` stores the guest's TSC at 9000h + 8 * APIC id and counts at 8000h + 4 * APIC id. Bits of the byte at 7100h,
set before it starts: 1, a loop with no HLT; 2, it stores to D0000h, which is to be left unmapped for a bell, when it
has counted; 4, there is no local APIC, hence one VCPU and no end of interrupt. `RINGER`'s time is that of the
instruction before its store to D0000h.

The others take no interrupt, use no stack and have no ready byte:

| image | what it does |
|---|---|
| `PORT_LOOP` | OUT of a byte to port 80h for ever, 0, 1 .. 255, 0 ..: one exit each |
| `MMIO_LOOP` | the same as stores to D0000h, to be left unmapped: one exit each |
| `BELLS` | 200 stores to D0000h, the TSC ticks that they took at 9000h, OUT of a byte to port 80h; for ever |
| `ECHO` | IN of a byte from port 60h, OUT of it to port 61h, for ever |
| `STRINGS` | REP INS of 3 elements, then REP OUTS of the same 3, once for each width; then the end |
| `MMIO` | accesses to the page at D0000h, to be left unmapped (below); then the end |

The end is an OUT of a byte of no meaning to port 80h, then CLI; HLT.

`STRINGS`: bytes from port 60h to 61h through memory at 6000h, words from 62h to 63h through 6100h, dwords
from 66h to 67h through 6200h.

`MMIO`, in this order: writes 11h (1 byte) at D0000h, 2233h (2) at D0002h, 44556677h (4) at D0004h; reads 1
byte at D0008h, 2 at D000Ah, 4 at D000Ch, and stores what each gave at 6000h, 6002h, 6004h; increments the
dword at D0010h: a read, then a write.
"""

TYPE_CHECKING = False  # typing's own is not worth its import

BELLS: bytes
BURST: bytes
COUNTER: bytes
ECHO: bytes
FORGETFUL: bytes
MASKED: bytes
MMIO: bytes
MMIO_LOOP: bytes
NMI: bytes
PING_PONG: bytes
PORT_LOOP: bytes
PROBE: bytes
RINGER: bytes
SMP: bytes
SPINNER: bytes
STAMP: bytes
STRINGS: bytes
VECTORS: bytes

__all__ = [
    "BELLS",
    "BURST",
    "COUNTER",
    "ECHO",
    "FORGETFUL",
    "MASKED",
    "MMIO",
    "MMIO_LOOP",
    "NMI",
    "PING_PONG",
    "PORT_LOOP",
    "PROBE",
    "RINGER",
    "SMP",
    "SPINNER",
    "STAMP",
    "STRINGS",
    "VECTORS",
]


def _load(name: str) -> bytes:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with open(f"{__path__[0]}/{name.lower()}.bin", "rb") as file:
        image = file.read()
    globals()[name] = image
    return image


# Hidden from type checkers, which would take any name at all for an image.
if not TYPE_CHECKING:
    __getattr__ = _load


def __dir__() -> list[str]:
    return sorted(globals().keys() | set(__all__))
