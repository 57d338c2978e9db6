"""What the fuzzer runs: a case is made from its seed, kind and number alone, so that it can be had again."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple, get_args

from kvmbind.machine.images.image import FORMATS
from tests.machine.fuzz.good import good_images

Kind = Literal["random", "mutated"]
KINDS: tuple[Kind, ...] = get_args(Kind)

MEMORY = 4 << 20
_SERVICES = (0x08, 0x09, *range(0x10, 0x1D), 0x20, 0x21, 0x29, 0x40, 0x70)
_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xCC, 0xCD, 0xCF, 0xE6, 0xEE, 0xF3, 0xF4, 0xFA, 0xFB, 0xFF)


class Case(NamedTuple):
    """An image, and what is done to the machine that runs it.

    Attributes:
        seed: Of the fuzzer's run.
        kind: Where the image comes from.
        number: Of this case.
        about: For a person.
        image: Its bytes.
        options: Of Machine.
        fired: Vectors of the interrupts that are fired at it.
        received: What its serial port receives.
    """

    seed: int
    kind: Kind
    number: int
    about: str
    image: bytes
    options: dict[str, object]
    fired: tuple[int, ...] = ()
    received: bytes = b""

    @property
    def name(self) -> str:
        """As the command line takes it."""
        return f"--seed {self.seed} --kind {self.kind} --case {self.number}"


def make_case(seed: int, kind: Kind, number: int) -> Case:
    """Returns a case, the same one each time."""
    chance = random.Random(f"{seed} {kind} {number}")
    about, image, options = (_random if kind == "random" else _mutated)(chance)
    options["memory"] = MEMORY
    _vary(chance, options)
    fired = tuple(chance.randrange(256) for _ in range(chance.choice((0, 0, 0, 1, 3))))
    received = chance.randbytes(chance.choice((0, 0, 0, 5, 5000)))
    return Case(seed, kind, number, about, image, options, fired, received)


def _random(chance: random.Random) -> tuple[str, bytes, dict[str, object]]:
    size = chance.choice((chance.randint(1, 600), 512, 512, 1024, chance.randint(1, 0x4000), 0x10000, 1440 * 1024))
    head = chance.randbytes(min(size, 0x10000))
    image = head + bytes(size - len(head))
    if size >= 512 and chance.random() < 0.5:
        image = image[:510] + b"\x55\xaa" + image[512:]
    format = chance.choice((None, None, None, *FORMATS))
    return f"{size} random bytes as {format}", image, {"format": format}


def _mutated(chance: random.Random) -> tuple[str, bytes, dict[str, object]]:
    good = chance.choice(good_images())
    image = bytearray(good.image)
    done = [chance.choice(_MUTATIONS)(chance, image) for _ in range(chance.choice((1, 1, 2, 4, 16)))]
    options: dict[str, object] = {"smp": good.smp, "keys": good.keys}
    options["format"] = good.format if chance.random() < 0.8 else chance.choice((None, *FORMATS))
    return f"{good.name} with {', '.join(done)}", bytes(image), options


def _vary(chance: random.Random, options: dict[str, object]) -> None:
    if chance.random() < 0.05:
        options["load_at"] = chance.choice((0, 0x400, 0x600, 0x7C01, 0x9FC00, 0xA0000, chance.randrange(1 << 20)))
    if chance.random() < 0.05:
        options["entry"] = chance.choice((0, 0xFFFFF, chance.randrange(1 << 20), (0xFFFF, chance.randrange(1 << 16))))
    if chance.random() < 0.05:
        options["args"] = "".join(chr(chance.randrange(32, 127)) for _ in range(chance.randrange(200)))
    if chance.random() < 0.05:
        options["smp"] = 2


# Mutations: each changes an image in place and says what it has done.


def _place(chance: random.Random, image: bytearray) -> int:
    """Where: for the most part in the first sector, which is what runs."""
    return chance.randrange(min(len(image), 512) if chance.random() < 0.9 else len(image)) if image else 0


def _flip(chance: random.Random, image: bytearray) -> str:
    for _ in range(chance.choice((1, 1, 4))):
        if image:
            image[_place(chance, image)] ^= 1 << chance.randrange(8)
    return "bits turned"


def _replace(chance: random.Random, image: bytearray) -> str:
    at = _place(chance, image)
    size = chance.choice((1, 2, 4, 8))
    data = bytes(chance.choice(_BYTES) for _ in range(size)) if chance.random() < 0.5 else chance.randbytes(size)
    image[at : at + size] = data[: len(image) - at]
    return "bytes replaced"


def _cut(chance: random.Random, image: bytearray) -> str:
    at = _place(chance, image)
    del image[at : at + chance.randint(1, 64)]
    return "bytes cut out"


def _truncate(chance: random.Random, image: bytearray) -> str:
    del image[_place(chance, image) :]
    return "its end cut off"


def _repeat(chance: random.Random, image: bytearray) -> str:
    at = _place(chance, image)
    image[at:at] = image[at : at + chance.randint(1, 64)]
    return "bytes repeated"


def _insert_call(chance: random.Random, image: bytearray) -> str:
    """The call of a service with any registers: they are what a service must take."""
    at = _place(chance, image)
    vector = chance.choice(_SERVICES)
    code = b"".join(bytes((0xB8 + register,)) + _word(chance) for register in range(8) if register != 4)
    code += bytes((0xB4, chance.choice((chance.randrange(0x18), chance.randrange(256))), 0xCD, vector))
    image[at:at] = code
    return f"a call of {vector:02x}h"


def _insert_access(chance: random.Random, image: bytearray) -> str:
    """An access to a port, or many: IN, OUT, INS and OUTS of 1, 2 and 4 bytes."""
    at = _place(chance, image)
    port = chance.choice((*range(0x20, 0x22), *range(0x40, 0x44), 0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0xCF8, 0x510,
                          *range(0x3B4, 0x3DB), *range(0x3F8, 0x400), 0xBC5, chance.randrange(0x10000)))  # fmt: skip
    access = chance.choice((b"\xec", b"\xed", b"\xee", b"\xef", b"\xf3\x6c", b"\xf3\x6e", b"\xf3\x6f", b"\x66\xef"))
    image[at:at] = b"\xba" + port.to_bytes(2, "little") + b"\xb8" + _word(chance) + access
    return f"an access to port {port:x}"


def _splice(chance: random.Random, image: bytearray) -> str:
    other = chance.choice(good_images())
    at = _place(chance, image)
    image[at:] = other.image[at:]
    return f"the end of {other.name}"


def _word(chance: random.Random) -> bytes:
    return chance.choice((chance.randrange(0x10000), 0, 0xFFFF, 0x8000, 0x0100)).to_bytes(2, "little")


_MUTATIONS = (
    *(_flip, _flip, _replace, _replace, _cut, _truncate, _repeat, _insert_call, _insert_call, _insert_call),
    *(_insert_access, _insert_access, _splice),
)
