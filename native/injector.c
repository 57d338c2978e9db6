/* Interrupts without an interrupt controller in the kernel: what VMMs did before irqfds. Every HLT is an exit, and the
 * vCPU's own thread injects with KVM_INTERRUPT, for which a running guest must be kicked out. */
#include "shim.h"

#include <poll.h>
#include <unistd.h>

/* Returns when an interrupt is pending or the end has come; the raiser writes `wake` only while it sees `halted`. */
static int sleep_in_halt(struct kb_injector *injector)
{
    struct pollfd wake = {.fd = injector->wake, .events = POLLIN};
    uint64_t count;
    int result = 0;
    atomic_store(&injector->halted, true);
    while (result == 0 && !atomic_load(&injector->pending) && !atomic_load(&injector->stop)) {
        poll(&wake, 1, -1);
        result = kb_eventfd_drain(injector->wake, &count);
    }
    atomic_store(&injector->halted, false);
    return result;
}

static int inject(struct kb_injector *injector)
{
    struct kvm_run *run = injector->vcpu->run;
    run->request_interrupt_window = 0;
    if (!atomic_load(&injector->pending))
        return 0;
    if (!run->ready_for_interrupt_injection || !run->if_flag) {
        run->request_interrupt_window = 1;
        return 0;
    }
    struct kvm_interrupt interrupt = {.irq = (uint32_t)injector->vector};
    atomic_store(&injector->pending, false);
    return kb_ioctl(injector->vcpu->fd, KVM_INTERRUPT, &interrupt);
}

/* Runs the guest on the thread that owns its vCPU until kb_injector_stop. exit: what else than HLT it came out with,
 * for -EPROTO. */
int kb_injector_run(struct kb_injector *injector, struct kb_exit *exit)
{
    while (!atomic_load(&injector->stop)) {
        int result = inject(injector);
        if (result < 0)
            return result;
        uint64_t returns = injector->vcpu->returns;
        result = kb_vcpu_enter(injector->vcpu, exit, INT64_MAX);
        if (result == -ECANCELED)
            continue;
        if (result < 0)
            return result;
        if (exit->reason != KVM_EXIT_HLT && exit->reason != KVM_EXIT_IRQ_WINDOW_OPEN)
            return -EPROTO;
        /* A kick that comes together with a HLT is reported first. The HLT is then reported without a KVM_RUN, behind
         * an interrupt that was injected meanwhile and wakes the guest. */
        if (exit->reason == KVM_EXIT_HLT && injector->vcpu->returns != returns)
            result = sleep_in_halt(injector);
        if (result < 0)
            return result;
    }
    return 0;
}

static int wake(struct kb_injector *injector)
{
    return atomic_load(&injector->halted) ? kb_eventfd_add(injector->wake, 1) : kb_vcpu_kick(injector->vcpu);
}

int kb_injector_raise(struct kb_injector *injector)
{
    atomic_store(&injector->pending, true);
    return wake(injector);
}

int kb_injector_stop(struct kb_injector *injector)
{
    atomic_store(&injector->stop, true);
    return wake(injector);
}
