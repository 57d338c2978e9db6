/* What benchmarks compare with: the same work in raw C. */
#include "shim.h"

#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

uint64_t kb_tsc(void)
{
    unsigned aux;
    return __builtin_ia32_rdtscp(&aux);
}

/* The timer that keeps the main thread looking at its signals may come at any time. */
static int run(int vcpu_fd)
{
    int result;
    do
        result = kb_ioctl(vcpu_fd, KVM_RUN, NULL);
    while (result == -EINTR);
    return result;
}

/* ns: of each of `rounds` returns of KVM_RUN. The vCPU belongs to the calling thread and does nothing but OUT, or stores
 * to what is no memory. */
int kb_measure_exits(struct kb_vcpu *vcpu, unsigned rounds, uint64_t *ns)
{
    int result = 0;
    vcpu->run->immediate_exit = 0;
    for (unsigned round = 0; round < rounds && result >= 0; round++) {
        int64_t start = kb_now_ns();
        result = run(vcpu->fd);
        ns[round] = (uint64_t)(kb_now_ns() - start);
        uint32_t reason = vcpu->run->exit_reason;
        if (result >= 0 && reason != KVM_EXIT_IO && reason != KVM_EXIT_MMIO)
            result = -EPROTO;
    }
    return result < 0 ? result : 0;
}

/* A guest with one vCPU and no more of kvmbind than its calls to the kernel. */
struct raw_guest {
    int memory_fd;
    struct kb_vm vm;
    struct kb_vcpu vcpu;
    struct kb_cpuid cpuid;
    void *memory;
    size_t size;
    pthread_t thread;
    atomic_bool stop;
};

enum { RAW_ENTRY = 0x1000 };

static void raw_close(struct raw_guest *raw)
{
    if (raw->vcpu.fd >= 0)
        kb_vcpu_close(&raw->vcpu);
    if (raw->vm.fd >= 0)
        kb_vm_close(&raw->vm);
    kb_cpuid_free(&raw->cpuid);
    if (raw->memory != NULL)
        munmap(raw->memory, raw->size);
    if (raw->memory_fd >= 0)
        close(raw->memory_fd);
}

static int raw_map(struct raw_guest *raw, const void *image, size_t image_size)
{
    int result = kb_memfd_open(&raw->memory_fd, "measure", raw->size, false);
    if (result >= 0)
        result = kb_map(raw->memory_fd, 0, raw->size, &raw->memory);
    if (result < 0)
        return result;
    memcpy((char *)raw->memory + RAW_ENTRY, image, image_size);
    return kb_vm_set_memory(&raw->vm, 0, 0, 0, raw->size, raw->memory);
}

/* raw_close is due also after a failure. */
static int raw_open(struct raw_guest *raw, int system_fd, int irqchip, int pit, size_t size, const void *image,
                    size_t image_size)
{
    *raw = (struct raw_guest){.memory_fd = -1, .vm.fd = -1, .vcpu.fd = -1, .size = size};
    int run_size = kb_vcpu_run_size(system_fd);
    if (run_size < 0)
        return run_size;
    int result = kb_vm_open(&raw->vm, system_fd, irqchip);
    if (result >= 0)
        result = raw_map(raw, image, image_size);
    if (result >= 0 && irqchip == KB_IRQCHIP_PC)
        result = kb_vm_create_irqchip(&raw->vm, pit);
    if (result >= 0)
        result = kb_cpuid_read(&raw->cpuid, system_fd);
    if (result >= 0)
        result = kb_vcpu_open(&raw->vcpu, &raw->vm, &raw->cpuid, 0, true, (size_t)run_size);
    return result < 0 ? result : kb_vcpu_start_real(&raw->vcpu, RAW_ENTRY);
}

static int one_guest(int system_fd, int irqchip, int pit, const void *image, size_t size)
{
    struct raw_guest raw;
    int result = raw_open(&raw, system_fd, irqchip, pit, 1 << 20, image, size);
    if (result >= 0)
        result = run(raw.vcpu.fd);
    raw_close(&raw);
    return result;
}

/* ns: the time of each guest with 1 MiB and one vCPU, from KVM_CREATE_VM to its first exit and to the last close. */
int kb_measure_create(const char *path, int irqchip, int pit, const void *image, size_t size, unsigned rounds,
                      uint64_t *ns)
{
    int system_fd, result = kb_system_open(&system_fd, path);
    if (result < 0)
        return result;
    for (unsigned round = 0; round < rounds && result >= 0; round++) {
        int64_t start = kb_now_ns();
        result = one_guest(system_fd, irqchip, pit, image, size);
        ns[round] = (uint64_t)(kb_now_ns() - start);
    }
    close(system_fd);
    return result < 0 ? result : 0;
}

static void *run_raw(void *of)
{
    struct raw_guest *raw = of;
    while (!atomic_load(&raw->stop) && (ioctl(raw->vcpu.fd, KVM_RUN, 0) == 0 || errno == EINTR))
        continue;
    return NULL;
}

static void stop_raw(struct raw_guest *raw)
{
    atomic_store(&raw->stop, true);
    __atomic_store_n(&raw->vcpu.run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    pthread_kill(raw->thread, kb_kick_signal());
    pthread_join(raw->thread, NULL);
}

enum { PLAYERS = 2, LEFT_AT = 0x7100, COUNT_AT = 0x8000, BELL_AT = 0xd0000, VECTOR = 0x40 };

/* A store of one to BELL_AT is the vector of the other: eventfds[i] fires guest i. */
static int wire(struct raw_guest *raw, const int *eventfds)
{
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry entry;
    } table = {
        .head.nr = 1,
        .entry = {.type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = 0xfee00000, .data = VECTOR}},
    };
    int result = 0;
    for (int i = 0; i < PLAYERS && result >= 0; i++) {
        result = kb_vm_set_gsi_routing(&raw[i].vm, &table);
        if (result >= 0)
            result = kb_vm_irqfd(&raw[i].vm, eventfds[i], 0, 0, -1);
        if (result >= 0)
            result = kb_vm_ioeventfd(&raw[1 - i].vm, eventfds[i], BELL_AT, 0, 0);
    }
    return result;
}

static int play(struct raw_guest *raw, int service, uint32_t rounds, uint64_t *ns)
{
    const void *count = (char *)raw[0].memory + COUNT_AT;
    int64_t start = kb_now_ns(), give_up = start + INT64_C(60000000000);
    int result = kb_eventfd_add(service, 1);
    while (result == 0 || result == -EINTR) {
        result = kb_wait_u32(count, rounds + 1, give_up);
        if (result == 0)
            return -ETIMEDOUT;
    }
    *ns = (uint64_t)(kb_now_ns() - start);
    return result < 0 ? result : 0;
}

static int ping_pong(struct raw_guest *raw, const int *eventfds, uint32_t rounds, uint64_t *ns)
{
    int started = 0, result = wire(raw, eventfds);
    for (; started < PLAYERS && result >= 0; started += result >= 0) {
        memcpy((char *)raw[started].memory + LEFT_AT, &rounds, sizeof rounds);
        result = -pthread_create(&raw[started].thread, NULL, run_raw, &raw[started]);
    }
    if (result >= 0)
        result = play(raw, eventfds[0], rounds, ns);
    while (started > 0)
        stop_raw(&raw[--started]);
    return result;
}

/* ns: the whole time of so many rounds between two guests that run guests.PING_PONG; their set-up is not in it. The kick
 * signal must be installed. */
int kb_measure_ping_pong(const char *path, const void *image, size_t size, uint32_t rounds, uint64_t *ns)
{
    const struct raw_guest none = {.memory_fd = -1, .vm.fd = -1, .vcpu.fd = -1};
    struct raw_guest raw[PLAYERS] = {none, none};
    int eventfds[PLAYERS] = {-1, -1};
    int system_fd, result = kb_system_open(&system_fd, path);
    if (result < 0)
        return result;
    for (int i = 0; i < PLAYERS && result >= 0; i++) {
        result = kb_eventfd_open(&eventfds[i], false);
        if (result >= 0)
            result = raw_open(&raw[i], system_fd, KB_IRQCHIP_SPLIT, false, BELL_AT, image, size);
    }
    if (result >= 0)
        result = ping_pong(raw, eventfds, rounds, ns);
    for (int i = 0; i < PLAYERS; i++) {
        raw_close(&raw[i]);
        kb_close(&eventfds[i]);
    }
    kb_close(&system_fd);
    return result < 0 ? result : 0;
}
