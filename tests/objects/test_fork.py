"""A forked child has no handles, and the end of the interpreter hangs on no VCPU."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.kvm

PRELUDE = """
import os, sys, threading, traceback
import kvmbind
from kvmbind import guests, zx

def booted():
    guest = kvmbind.Guest.create(memory=1 << 20)
    guest.write(guests.COUNTER, 0x1000)
    return guest, guest.start_vcpu(0x1000)

def in_child(work):
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
"""


def run(program: str) -> str:
    """Runs a program in a Python of its own and returns what it prints."""
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", PRELUDE + program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def test_in_a_forked_child_every_handle_is_bad_and_the_parents_guest_goes_on() -> None:
    assert (
        run("""
guest, vcpu = booted()
irq, port = kvmbind.Interrupt.create(0x40), kvmbind.Port.create(interrupts=True)
irq.bind_vcpu(vcpu)
handles = [guest.handle, vcpu.handle, irq.handle, port.handle]

def child():
    print([zx.zx_object_get_info(handle, zx.ZX_INFO_HANDLE_VALID)[0].name for handle in handles])
    print(irq.closed, irq)
    try:
        irq.trigger()
    except kvmbind.BadHandleError as error:
        print(error.hint)
    for opened in (vcpu, irq, port, guest):
        opened.close()

in_child(child)
irq.trigger()
guest.wait_u32(0x8000, 1, timeout_s=60)
print(guest.read_u32(0x8000), vcpu.returns)
for opened in (irq, port, guest):
    opened.close()
""")
        == "['BAD_HANDLE', 'BAD_HANDLE', 'BAD_HANDLE', 'BAD_HANDLE']\nTrue <kvmbind.Interrupt closed>\n"
        "the Interrupt stayed with the process that this one was forked from: make another here\n1 0\n"
    )


def test_a_forked_child_keeps_no_kvm_fd_and_can_make_a_guest_of_its_own() -> None:
    assert (
        run("""
guest, vcpu = booted()
irq = kvmbind.Interrupt.create(0x40)
irq.bind_vcpu(vcpu)

def links():
    paths = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(path) for path in paths if os.path.lexists(path))

def child():
    print([link for link in links() if "kvm" in link or "eventfd" in link])
    with open("/proc/self/maps") as maps:
        print("kvm-vcpu" in maps.read())
    with kvmbind.Guest.create(memory=1 << 20) as own, kvmbind.Interrupt.create(0x40) as irq:
        own.write(guests.COUNTER, 0x1000)
        with own.start_vcpu(0x1000) as vcpu:
            irq.bind_vcpu(vcpu)
            irq.trigger()
            own.wait_u32(0x8000, 1, timeout_s=60)
            print(own.read_u32(0x8000))

in_child(child)
irq.close()
guest.close()
""")
        == "[]\nFalse\n1\n"
    )


def test_a_child_that_forks_while_threads_use_handles_is_not_stuck_on_their_locks() -> None:
    assert (
        run("""
guest, vcpu = booted()
done = threading.Event()

def churn():
    while not done.is_set():
        with kvmbind.Interrupt.create(0x40) as irq:
            irq.bind_vcpu(vcpu)
            irq.trigger()

threads = [threading.Thread(target=churn) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(50):
    in_child(lambda: kvmbind.Vmo.create(4096).close())
done.set()
for thread in threads:
    thread.join()
guest.close()
print("done")
""")
        == "done\n"
    )


def test_the_interpreter_ends_while_a_thread_that_it_waits_for_is_inside_enter() -> None:
    assert (
        run("""
guest = kvmbind.Guest.create(memory=1 << 20)
guest.write(guests.COUNTER, 0x1000)
ready = threading.Event()

def enter():
    with kvmbind.Vcpu.create(guest, 0x1000) as vcpu:
        ready.set()
        try:
            vcpu.enter()
        except kvmbind.CanceledError:
            print("canceled")
    guest.close()

threading.Thread(target=enter).start()
ready.wait()
""")
        == "canceled\n"
    )


def test_the_interpreter_ends_although_a_started_vcpu_is_still_open() -> None:
    assert (
        run("guest, vcpu = booted(); print('end'); guest.release(); vcpu.kick(); vcpu.join(); vcpu.close()") == "end\n"
    )
    assert run("import atexit; guest, vcpu = booted(); print('end'); atexit.register(guest.close)") == "end\n"
