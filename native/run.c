/* The run loop: KVM_RUN until there is something for the caller, a kick, a signal or the deadline. Bells are rung here. */
#include "shim.h"

#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39
#endif

enum { ELEMENT_MAX = 4 }; /* bytes in one reported element: a longer memory access is several */

static void load_access(struct kb_vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    if (run->exit_reason == KVM_EXIT_IO)
        vcpu->access = (struct kb_access){
            .addr = run->io.port, .data = (uint8_t *)run + run->io.data_offset, .count = run->io.count,
            .size = run->io.size, .is_write = run->io.direction == KVM_EXIT_IO_OUT, .completion_due = true,
        };
    else if (run->exit_reason == KVM_EXIT_MMIO)
        vcpu->access = (struct kb_access){
            .addr = run->mmio.phys_addr, .data = run->mmio.data,
            .count = (run->mmio.len + ELEMENT_MAX - 1) / ELEMENT_MAX,
            .size = (uint8_t)run->mmio.len, .is_write = run->mmio.is_write, .is_memory = true, .completion_due = true,
        };
    else
        vcpu->failed = true;
}

static uint8_t *element(const struct kb_access *access, uint32_t index, uint8_t *size)
{
    if (!access->is_memory) {
        *size = access->size;
        return access->data + (size_t)index * access->size;
    }
    uint32_t offset = index * ELEMENT_MAX;
    uint32_t rest = access->size - offset;
    *size = rest < ELEMENT_MAX ? (uint8_t)rest : ELEMENT_MAX;
    return access->data + offset;
}

static void make_packet(struct kb_exit *exit)
{
    struct kb_packet *packet = &exit->packet;
    packet->key = exit->key;
    if (exit->is_memory) {
        packet->type = KB_PACKET_GUEST_MEM;
        packet->mem.addr = exit->addr;
        packet->mem.access_size = exit->size;
        packet->mem.read = !exit->is_write;
        packet->mem.data = exit->data;
    } else {
        packet->type = KB_PACKET_GUEST_IO;
        packet->io.port = (uint16_t)exit->addr;
        packet->io.access_size = exit->size;
        packet->io.input = !exit->is_write;
        packet->io.data = exit->data;
    }
}

/* Fills exit with the next element, which counts as reported from now on. */
static void report_element(struct kb_access *access, uint64_t addr, struct kb_exit *exit)
{
    uint8_t *bytes = element(access, access->next++, &exit->size);
    exit->reason = access->is_memory ? KVM_EXIT_MMIO : KVM_EXIT_IO;
    exit->addr = addr;
    exit->is_write = access->is_write;
    exit->is_memory = access->is_memory;
    if (access->is_write)
        memcpy(&exit->data, bytes, exit->size);
    access->answer_due = !access->is_write;
}

enum { RUNG = KB_PACKET + 1 };

/* One store is one ring, however many elements it has. -EAGAIN: not rung yet, the access stays as it is. */
static int ring(struct kb_access *access, struct kb_bell *bell, struct kb_exit *exit)
{
    int result = kb_bell_ring(bell, access->addr);
    if (result == -EAGAIN)
        return result;
    if (result < 0)
        report_element(access, access->addr, exit);
    access->next = access->count;
    return result < 0 ? result : RUNG;
}

/* Sees to the next element. *bell: the bell trap that it is in, else NULL. */
static int take_element(struct kb_vcpu *vcpu, struct kb_exit *exit, struct kb_bell **bell)
{
    struct kb_access *access = &vcpu->access;
    uint64_t addr = access->addr + (access->is_memory ? (uint64_t)access->next * ELEMENT_MAX : 0);
    struct kb_range range = {.bell = NULL};
    bool trapped = kb_ranges_find(vcpu->vm, access->is_memory ? KB_SPACE_MEMORY : KB_SPACE_IO, addr, &range);
    *bell = range.bell;
    if (range.bell != NULL && access->is_write)
        return ring(access, range.bell, exit);
    report_element(access, addr, exit);
    if (range.bell != NULL)
        return -EOPNOTSUPP;
    if (!trapped)
        return KB_STOPPED;
    exit->key = range.key;
    make_packet(exit);
    return KB_PACKET;
}

static void report_other(struct kb_vcpu *vcpu, struct kb_exit *exit)
{
    exit->reason = vcpu->run->exit_reason;
    memcpy(exit->facts, &vcpu->run->hw, sizeof exit->facts);
    vcpu->failed = exit->reason == KVM_EXIT_SHUTDOWN;
}

/* shutdown_interception of Linux's svm.c clears the VMCB, the root of the nested page tables in it too, and resets the
 * MMU only if the guest had paging on: no instruction gets further until CR0 changes. */
static void reload_page_tables(struct kb_vcpu *vcpu)
{
    enum { CR0_WP = 1 << 16 };
    struct kvm_sregs sregs;
    if (kb_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) < 0)
        return;
    for (int turn = 0; turn < 2; turn++) {
        sregs.cr0 ^= CR0_WP;
        kb_ioctl(vcpu->fd, KVM_SET_SREGS, &sregs);
    }
}

/* After a shutdown SVM has reset the vCPU and VMX has not. Here it stays shut down until its registers are written. */
void kb_vcpu_revive(struct kb_vcpu *vcpu)
{
    if (!vcpu->failed || vcpu->run->exit_reason != KVM_EXIT_SHUTDOWN)
        return;
    vcpu->failed = false;
    reload_page_tables(vcpu);
}

static void answer_element(struct kb_access *access, unsigned size, uint32_t data, uint8_t rest)
{
    uint8_t element_size;
    uint8_t *bytes = element(access, access->next - 1, &element_size);
    memset(bytes, rest, element_size);
    memcpy(bytes, &data, size < element_size ? size : element_size);
    access->answer_due = false;
}

static void keep_state(struct kb_vcpu *vcpu)
{
    vcpu->kept_regs = vcpu->run->s.regs.regs;
    vcpu->kept_sregs = vcpu->run->s.regs.sregs;
    vcpu->kept = true;
}

/* One KVM_RUN. 0: an exit is loaded; -errno. */
static int run_once(struct kb_vcpu *vcpu)
{
    int result = ioctl(vcpu->fd, KVM_RUN, 0) < 0 ? -errno : 0;
    vcpu->access.completion_due = false;
    vcpu->synced = false;
    if (result == -EINTR) {
        __atomic_store_n(&vcpu->interrupted, vcpu->interrupted + 1, __ATOMIC_RELAXED);
    } else if (result != -EAGAIN) {
        __atomic_store_n(&vcpu->returns, vcpu->returns + 1, __ATOMIC_RELAXED);
        if (result == 0)
            load_access(vcpu);
        if (result == 0 && vcpu->keeps && !vcpu->failed)
            keep_state(vcpu);
    }
    return result;
}

/* The tests come after immediate_exit is cleared, and nothing clears it after them: whoever asks from now on finds
 * KVM_RUN returning at once. */
static int stop_wanted(struct kb_vcpu *vcpu, struct kb_thread *thread, int64_t deadline_ns)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (atomic_exchange(&vcpu->kicked, false))
        return -ECANCELED;
    if (kb_thread_signalled(thread))
        return -EINTR;
    if (deadline_ns != INT64_MAX && kb_now_ns() >= deadline_ns)
        return -ETIMEDOUT;
    return 0;
}

/* What the run page or the guest has for the caller, or 0 to look again, or -errno. */
static int run_guest(struct kb_vcpu *vcpu, struct kb_thread *thread, struct kb_exit *exit, int64_t deadline_ns)
{
    kb_gate_pass(vcpu);
    int result = stop_wanted(vcpu, thread, deadline_ns);
    bool paused = atomic_load(&vcpu->vm->paused);
    if (result == 0 && !paused)
        result = run_once(vcpu);
    kb_gate_leave(vcpu);
    switch (result) {
    case -EFAULT:
        if (vcpu->run->exit_reason == KVM_EXIT_MEMORY_FAULT) /* since Linux 6.8; before, the page has an older exit */
            report_other(vcpu, exit);
        return result;
    case -EAGAIN: /* a vCPU that waited for SIPI has got it */
        return 0;
    case -EINTR:
        /* On the main thread it may be a signal whose handler Python has just installed, behind no front(). Python
         * calls again when there was none. Elsewhere only our own signals matter, and they are tested for. */
        return thread->is_main ? result : 0;
    default:
        return result;
    }
}

/* Sleeps until a bell's full queue has got room, or a kick, a signal or the timer of the deadline comes. No gate is
 * passed: a pause waits for nobody here. */
static int wait_for_room(struct kb_vcpu *vcpu, struct kb_thread *thread, const struct kb_bell *bell, int64_t deadline_ns)
{
    struct pollfd room = {.fd = bell->room_fd, .events = POLLIN};
    struct timespec timeout = kb_until(deadline_ns);
    thread->sleep = &timeout;
    int result = stop_wanted(vcpu, thread, deadline_ns);
    if (result == 0) {
        result = kb_poll(&room, 1, &timeout);
        if (result > 0 || (result == -EINTR && !thread->is_main)) /* on the main thread it may be for Python, as in run_guest */
            result = 0;
    }
    thread->sleep = NULL;
    return result;
}

static int run_until_exit(struct kb_vcpu *vcpu, struct kb_thread *thread, struct kb_exit *exit, int64_t deadline_ns)
{
    struct kb_access *access = &vcpu->access;
    for (;;) {
        int result = stop_wanted(vcpu, thread, deadline_ns);
        if (result < 0)
            return result;
        if (access->answer_due)
            answer_element(access, 0, 0, 0xff); /* nobody answered: an open bus */
        if (access->next < access->count) {
            struct kb_bell *bell;
            result = take_element(vcpu, exit, &bell);
            if (result == -EAGAIN)
                result = wait_for_room(vcpu, thread, bell, deadline_ns);
            else if (result != RUNG)
                return result;
            if (result < 0)
                return result;
            continue;
        }
        if (vcpu->failed) {
            report_other(vcpu, exit);
            return KB_STOPPED;
        }
        result = run_guest(vcpu, thread, exit, deadline_ns);
        if (result < 0)
            return result;
    }
}

/* Sends the kick signal to this thread at the deadline. */
static int arm_timer(timer_t *timer, pid_t tid, int64_t deadline_ns)
{
    struct itimerspec when = {.it_value = {deadline_ns / 1000000000, deadline_ns % 1000000000}};
    int result = kb_kick_timer(timer, tid);
    if (result == 0)
        timer_settime(*timer, TIMER_ABSTIME, &when, NULL);
    return result;
}

/* KB_PACKET: a trapped access; KB_STOPPED: another exit, or an access to nothing. deadline_ns: CLOCK_MONOTONIC,
 * INT64_MAX for none. -ECANCELED: kicked; -EINTR: Python has a signal to handle; -ETIMEDOUT; -EFAULT: memory that is not
 * there; -EOPNOTSUPP: a read of a bell; -EPIPE: a ring of a bell that is closed; -EPERM, -EBADF: kb_vcpu_begin's. */
int kb_vcpu_enter(struct kb_vcpu *vcpu, struct kb_exit *exit, int64_t deadline_ns)
{
    timer_t timer;
    bool timed = deadline_ns != INT64_MAX && deadline_ns > 0;
    struct kb_thread *thread = kb_thread_self();
    int result = kb_vcpu_begin(vcpu, thread->tid);
    if (result < 0)
        return result;
    memset(exit, 0, sizeof *exit);
    kb_thread_enter(vcpu);
    if (timed)
        result = arm_timer(&timer, thread->tid, deadline_ns);
    if (result == 0) {
        result = run_until_exit(vcpu, thread, exit, deadline_ns);
        if (timed)
            timer_delete(timer);
    }
    kb_thread_leave(thread);
    kb_vcpu_end(vcpu);
    return result;
}

/* Lets the kernel finish the instruction of the exit that was answered; after kb_vcpu_begin. -EBUSY while elements or an answer are to come.
 * The next exit of the same instruction is kept for the next kb_vcpu_enter. */
int kb_vcpu_complete(struct kb_vcpu *vcpu)
{
    struct kb_access *access = &vcpu->access;
    if (access->answer_due || access->next < access->count)
        return -EBUSY;
    if (!access->completion_due)
        return 0;
    kb_gate_pass(vcpu);
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    int result = run_once(vcpu);
    kb_gate_leave(vcpu);
    return result == -EINTR ? 0 : result;
}

static int answer(struct kb_vcpu *vcpu, unsigned size, uint32_t data)
{
    struct kvm_regs regs;
    if (vcpu->access.answer_due) {
        answer_element(&vcpu->access, size, data, 0);
        return 0;
    }
    int result = kb_vcpu_complete(vcpu);
    if (result == 0 && vcpu->access.next < vcpu->access.count)
        result = -EBUSY;
    if (result == 0)
        result = kb_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
    if (result < 0)
        return result;
    vcpu->synced = false;
    memcpy(&regs.rax, &data, size);
    return kb_ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

/* Answers the read that was reported last; with none open, writes the low bytes of RAX. -EINVAL: a size other than 1, 2
 * and 4, of the vCPU's own thread; -EBUSY: its instruction has more elements. */
int kb_vcpu_answer(struct kb_vcpu *vcpu, unsigned size, uint32_t data)
{
    int result = kb_vcpu_begin(vcpu, 0);
    if (result == 0) {
        result = size == 1 || size == 2 || size == 4 ? answer(vcpu, size, data) : -EINVAL;
        kb_vcpu_end(vcpu);
    }
    return result;
}

/* From any thread. The enter that runs now, or the next one, returns -ECANCELED, once. -EBADF: closed. */
int kb_vcpu_kick(struct kb_vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    int result = vcpu->closed ? -EBADF : 0;
    if (result == 0) {
        atomic_store(&vcpu->kicked, true);
        kb_stop(vcpu);
    }
    pthread_mutex_unlock(&vcpu->lock);
    return result;
}

int kb_vcpu_is_kicked(struct kb_vcpu *vcpu)
{
    return atomic_load(&vcpu->kicked);
}
