"""A process that is stopped and goes on: zx_vcpu_enter and waits notice nothing, as of a suspended thread in Zircon."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.kvm

DEADLINE_S = 60

#: A VCPU in HLT on a thread, and a thread in each wait; a line is printed when all are inside, and the results at last.
PROGRAM = """
import sys, threading
import kvmbind
from kvmbind import guests, zx

_, guest, vmar = zx.zx_guest_create(zx.get_root_resource(), 0)
_, memory = zx.zx_vmo_create(1 << 20, 0)
zx.zx_vmo_write(memory, guests.COUNTER, 0x1000)
zx.zx_vmar_map(vmar, zx.ZX_VM_PERM_READ | zx.ZX_VM_PERM_WRITE | zx.ZX_VM_SPECIFIC, 0, memory, 0, 1 << 20)
_, interrupt = zx.zx_interrupt_create(0, 0x40, zx.ZX_INTERRUPT_VIRTUAL)
_, port = zx.zx_port_create(0)
results, made, vcpus = {}, threading.Event(), []

def enter():
    vcpus.append(zx.zx_vcpu_create(guest, 0, 0x1000)[1])
    made.set()
    results["enter"] = zx.zx_vcpu_enter(vcpus[0])[0].name

def interrupt_wait():
    results["interrupt_wait"] = zx.zx_interrupt_wait(interrupt)[0].name

def port_wait():
    results["port_wait"] = zx.zx_port_wait(port, zx.ZX_TIME_INFINITE)[0].name

def wait_one():
    results["wait_one"] = zx.zx_object_wait_one(memory, zx.ZX_USER_SIGNAL_0, zx.ZX_TIME_INFINITE)[0].name

threads = [threading.Thread(target=call) for call in (enter, interrupt_wait, port_wait, wait_one)]
for thread in threads:
    thread.start()
made.wait()
kvmbind.Guest.borrow(guest).wait_u32(0x7000, 1)  # it is ready
print("running", flush=True)
sys.stdin.readline()
print(sorted(results), flush=True)
zx.zx_vcpu_kick(vcpus[0])
zx.zx_interrupt_trigger(interrupt, 0, 1)
zx.zx_port_queue(port, zx.PortPacket())
zx.zx_object_signal(memory, 0, zx.ZX_USER_SIGNAL_0)
for thread in threads:
    thread.join()
print(sorted(results.items()))
"""


def test_what_is_under_way_goes_on_when_its_process_was_stopped() -> None:
    pipe, command = subprocess.PIPE, [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            for _ in range(3):
                process.send_signal(signal.SIGSTOP)
                _, status = os.waitpid(process.pid, os.WUNTRACED)
                assert os.WIFSTOPPED(status)
                process.send_signal(signal.SIGCONT)
            out, err = process.communicate("\n", timeout=DEADLINE_S)
        finally:
            process.kill()
    results = [("enter", "CANCELED"), ("interrupt_wait", "OK"), ("port_wait", "OK"), ("wait_one", "OK")]
    assert out.splitlines() == ["[]", str(results)], err
