/* Rounds of one measurement: wait for the moment, fire, wait for the guest's answer, note the times. */
#include "shim.h"

#include <poll.h>
#include <time.h>
#include <unistd.h>

enum {
    TURN_NS = 50 * 1000 * 1000,         /* Python looks at its signals at least this often */
    WATCH_NS = 1000 * 1000,             /* a guest that runs answers within this time */
    NAP_NS = 50 * 1000,
    AWAKE_NS = 1000 * 1000,             /* before it fires a thread stays awake so long: one just woken is slower */
    ASLEEP_WITHIN_NS = 20 * 1000 * 1000,
    LOOKS_PER_CLOCK_READ = 32,
};

static int nap(int64_t ns)
{
    struct timespec rest = {.tv_nsec = ns};
    return nanosleep(&rest, NULL) < 0 ? -errno : 0;
}

static int wait_until_tsc(const struct kb_probe *probe, uint64_t end)
{
    uint64_t awake = (uint64_t)(AWAKE_NS * probe->ticks_per_ns);
    for (uint64_t now = kb_tsc(); now < end; now = kb_tsc()) {
        if (end - now > awake) {
            int result = nap(NAP_NS);
            if (result < 0)
                return result;
        } else {
            __builtin_ia32_pause();
        }
    }
    return 0;
}

static bool one_is_awake(const struct kb_probe *probe)
{
    for (unsigned i = 0; i < probe->vcpus; i++) {
        uint64_t blocking = 1;
        ssize_t size = pread(probe->stats_fds[i], &blocking, sizeof blocking, probe->blocking_offset);
        if (size == sizeof blocking && blocking == 0)
            return true;
    }
    return false;
}

/* Returns when every vCPU's thread sleeps in the kernel, or after a while all the same: the statistics tell. */
static int wait_until_asleep(const struct kb_probe *probe)
{
    int64_t give_up = kb_now_ns() + ASLEEP_WITHIN_NS;
    while (one_is_awake(probe) && kb_now_ns() < give_up) {
        int result = nap(NAP_NS);
        if (result < 0)
            return result;
    }
    return 0;
}

/* The next round starts from what the guest has counted by now. */
void kb_probe_arm(struct kb_probe *probe)
{
    probe->expected = kb_read_u32(probe->counts);
    probe->waiting = 0;
    probe->due = 0;
}

/* Sleeps or spins until the next round may fire. -EINTR: Python has a signal to handle; call again. */
int kb_probe_pace(struct kb_probe *probe)
{
    int result;
    if (probe->interval_ticks) {
        uint64_t due = probe->due ? probe->due : kb_tsc();
        result = wait_until_tsc(probe, due + probe->interval_ticks);
        if (result == 0)
            probe->due = due + probe->interval_ticks;
    } else {
        result = wait_until_tsc(probe, kb_tsc() + probe->gap_ticks);
        if (result == 0 && probe->asleep)
            result = wait_until_asleep(probe);
    }
    if (result == 0) {
        probe->expected++;
        probe->rung = 0;
        probe->waiting = 1;
        probe->give_up_ns = kb_now_ns() + probe->answer_within_ns;
    }
    return result;
}

static bool counted(const struct kb_probe *probe)
{
    for (unsigned i = 0; i < probe->vcpus; i++)
        if (kb_read_u32(probe->counts + i) != probe->expected)
            return false;
    return true;
}

/* 0: every vCPU has counted; -EINTR; -ETIMEDOUT. */
static int watch(const struct kb_probe *probe)
{
    int64_t start = kb_now_ns(), now = start;
    for (;;) {
        for (unsigned look = 0; look < LOOKS_PER_CLOCK_READ; look++) {
            if (counted(probe))
                return 0;
            __builtin_ia32_pause();
        }
        now = kb_now_ns();
        if (now > probe->give_up_ns)
            return -ETIMEDOUT;
        if (now - start > TURN_NS)
            return -EINTR;
        if (now - start > WATCH_NS && nap(NAP_NS) < 0)
            return -EINTR;
    }
}

/* 0: as many rings have come as there are vCPUs; -EINTR; -ETIMEDOUT. */
static int sleep_until_rung(struct kb_probe *probe)
{
    struct pollfd bell = {.fd = probe->bell, .events = POLLIN};
    int64_t start = kb_now_ns();
    while (probe->rung < probe->vcpus) {
        uint64_t count = 0;
        if (poll(&bell, 1, TURN_NS / 1000000) < 0)
            return -errno;
        int result = kb_eventfd_drain(probe->bell, &count);
        if (result < 0)
            return result;
        probe->rung += count;
        int64_t now = kb_now_ns();
        if (count == 0 && now > probe->give_up_ns)
            return -ETIMEDOUT;
        if (count == 0 && now - start > TURN_NS)
            return -EINTR;
    }
    return 0;
}

/* The host's TSC at which the last of the vCPUs entered its handler. */
static uint64_t last_stamp(const struct kb_probe *probe)
{
    uint64_t last = 0;
    for (unsigned i = 0; i < probe->vcpus; i++) {
        uint64_t stamp = __atomic_load_n(probe->stamps + i, __ATOMIC_SEQ_CST) - probe->tsc_offsets[i];
        last = stamp > last ? stamp : last;
    }
    return last;
}

/* Waits until the guest has answered the trigger before which the TSC was `start`. -EINTR: call again; -ETIMEDOUT. */
int kb_probe_answer(struct kb_probe *probe, uint64_t start, struct kb_round *round)
{
    int result = probe->bell < 0 ? watch(probe) : sleep_until_rung(probe);
    if (result < 0)
        return result;
    round->host = kb_tsc();
    round->guest = last_stamp(probe);
    round->start = start;
    round->due = probe->due;
    probe->waiting = 0;
    return 0;
}

typedef int (*kb_fire)(void *what);

/* Returns how many rounds are done, which may be fewer than asked for, even none: call again. -errno. */
static int run(struct kb_probe *probe, kb_fire fire, void *what, struct kb_round *rounds, unsigned count)
{
    int64_t turn_end = kb_now_ns() + TURN_NS;
    unsigned done = 0;
    while (done < count && (done == 0 || kb_now_ns() < turn_end)) {
        int result = 0;
        if (!probe->waiting) {
            result = kb_probe_pace(probe);
            if (result == 0) {
                probe->start = kb_tsc();
                result = fire(what);
            }
        }
        if (result >= 0)
            result = kb_probe_answer(probe, probe->start, &rounds[done]);
        if (result == -EINTR)
            break;
        if (result < 0)
            return result;
        done++;
    }
    return (int)done;
}

static int fire_eventfd(void *what)
{
    const uint64_t one = 1;
    return write(*(int *)what, &one, sizeof one) < 0 ? -errno : 0;
}

static int fire_trigger(void *what)
{
    return kb_trigger_fire(what);
}

struct message {
    struct kb_vm *vm;
    uint32_t address_lo, address_hi, data;
};

static int fire_msi(void *what)
{
    const struct message *message = what;
    return kb_vm_signal_msi(message->vm, message->address_lo, message->address_hi, message->data);
}

static int fire_injector(void *what)
{
    return kb_injector_raise(what);
}

int kb_rounds_eventfd(struct kb_probe *probe, int eventfd, struct kb_round *rounds, unsigned count)
{
    return run(probe, fire_eventfd, &eventfd, rounds, count);
}

int kb_rounds_trigger(struct kb_probe *probe, struct kb_trigger *trigger, struct kb_round *rounds, unsigned count)
{
    return run(probe, fire_trigger, trigger, rounds, count);
}

int kb_rounds_msi(struct kb_probe *probe, struct kb_vm *vm, uint32_t address_lo, uint32_t address_hi, uint32_t data, struct kb_round *rounds, unsigned count)
{
    struct message message = {vm, address_lo, address_hi, data};
    return run(probe, fire_msi, &message, rounds, count);
}

int kb_rounds_injector(struct kb_probe *probe, struct kb_injector *injector, struct kb_round *rounds, unsigned count)
{
    return run(probe, fire_injector, injector, rounds, count);
}
