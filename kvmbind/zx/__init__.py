"""The zx_* calls, their constants and their structures, as Zircon's C headers have them.

A call returns what its prototype returns: a `Status`, or a tuple of the status and the out parameters in the
prototype's order. On failure handles and numbers are 0, bytes are empty and structures all zero. No call raises for a
bad value; an object of the wrong Python type is a TypeError. Any thread may make any call; zx_vcpu_enter,
zx_vcpu_read_state and zx_vcpu_write_state are BAD_STATE on a thread that did not create the VCPU.
"""

from kvmbind.abi.constants import *  # noqa: F403  # every constant, under its C name
from kvmbind.abi.status import Status as Status
from kvmbind.abi.structs import InfoHandleBasic as InfoHandleBasic
from kvmbind.abi.structs import InfoResource as InfoResource
from kvmbind.abi.structs import InfoVcpu as InfoVcpu
from kvmbind.abi.structs import InfoVmar as InfoVmar
from kvmbind.abi.structs import InfoVmo as InfoVmo
from kvmbind.abi.structs import PortPacket as PortPacket
from kvmbind.abi.structs import VcpuIo as VcpuIo
from kvmbind.abi.structs import VcpuState as VcpuState
from kvmbind.zx.clock import zx_clock_get_monotonic as zx_clock_get_monotonic
from kvmbind.zx.clock import zx_deadline_after as zx_deadline_after
from kvmbind.zx.guest import zx_guest_create as zx_guest_create
from kvmbind.zx.guest import zx_guest_set_trap as zx_guest_set_trap
from kvmbind.zx.handle import zx_handle_close as zx_handle_close
from kvmbind.zx.handle import zx_handle_close_many as zx_handle_close_many
from kvmbind.zx.handle import zx_handle_duplicate as zx_handle_duplicate
from kvmbind.zx.handle import zx_handle_replace as zx_handle_replace
from kvmbind.zx.interrupt import zx_interrupt_ack as zx_interrupt_ack
from kvmbind.zx.interrupt import zx_interrupt_bind as zx_interrupt_bind
from kvmbind.zx.interrupt import zx_interrupt_bind_vcpu as zx_interrupt_bind_vcpu
from kvmbind.zx.interrupt import zx_interrupt_create as zx_interrupt_create
from kvmbind.zx.interrupt import zx_interrupt_destroy as zx_interrupt_destroy
from kvmbind.zx.interrupt import zx_interrupt_trigger as zx_interrupt_trigger
from kvmbind.zx.interrupt import zx_interrupt_wait as zx_interrupt_wait
from kvmbind.zx.memory import zx_vmar_map as zx_vmar_map
from kvmbind.zx.memory import zx_vmar_protect as zx_vmar_protect
from kvmbind.zx.memory import zx_vmar_unmap as zx_vmar_unmap
from kvmbind.zx.memory import zx_vmo_create as zx_vmo_create
from kvmbind.zx.memory import zx_vmo_get_size as zx_vmo_get_size
from kvmbind.zx.memory import zx_vmo_read as zx_vmo_read
from kvmbind.zx.memory import zx_vmo_set_size as zx_vmo_set_size
from kvmbind.zx.memory import zx_vmo_write as zx_vmo_write
from kvmbind.zx.object import zx_object_get_info as zx_object_get_info
from kvmbind.zx.object import zx_object_get_property as zx_object_get_property
from kvmbind.zx.object import zx_object_set_property as zx_object_set_property
from kvmbind.zx.port import zx_port_cancel as zx_port_cancel
from kvmbind.zx.port import zx_port_create as zx_port_create
from kvmbind.zx.port import zx_port_queue as zx_port_queue
from kvmbind.zx.port import zx_port_wait as zx_port_wait
from kvmbind.zx.resource import get_root_resource as get_root_resource
from kvmbind.zx.resource import zx_resource_create as zx_resource_create
from kvmbind.zx.signals import zx_object_signal as zx_object_signal
from kvmbind.zx.signals import zx_object_wait_async as zx_object_wait_async
from kvmbind.zx.signals import zx_object_wait_one as zx_object_wait_one
from kvmbind.zx.vcpu import zx_vcpu_create as zx_vcpu_create
from kvmbind.zx.vcpu import zx_vcpu_enter as zx_vcpu_enter
from kvmbind.zx.vcpu import zx_vcpu_interrupt as zx_vcpu_interrupt
from kvmbind.zx.vcpu import zx_vcpu_kick as zx_vcpu_kick
from kvmbind.zx.vcpu import zx_vcpu_read_state as zx_vcpu_read_state
from kvmbind.zx.vcpu import zx_vcpu_resume as zx_vcpu_resume
from kvmbind.zx.vcpu import zx_vcpu_write_state as zx_vcpu_write_state
