/* kvmbind's shim: what must block, loop, survive a signal or be fast. No Python object in here.
 *
 * Every function returns 0 or a value on success and -errno on failure. None prints or exits. The only global state
 * is that of signals.c: the handlers, and what they must know of the threads they interrupt.
 */
#ifndef KVMBIND_SHIM_H
#define KVMBIND_SHIM_H

#if !defined(__linux__) || !defined(__x86_64__) || defined(__ILP32__)
#error "kvmbind needs KVM, on Linux and x86-64"
#endif

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Newer than Linux 4.18's <linux/kvm.h>; the numbers are the kernel's ABI. */
#ifndef KVM_GET_STATS_FD
#define KVM_GET_STATS_FD _IO(KVMIO, 0xce)
#endif

/* What KVM offers to the processors of guests; never changed once read. */
struct kb_cpuid {
    struct kvm_cpuid2 *table;
};

enum kb_space { KB_SPACE_IO, KB_SPACE_MEMORY, KB_SPACES };

/* Sorted, disjoint, inclusive ranges of one address space. Guarded by kb_vm.lock. */
struct kb_range {
    uint64_t first, last, key;
    struct kb_bell *bell;      /* what writes ring, else NULL */
    bool reserved;             /* no trap: an ioeventfd is here, and what it does not take is nobody's */
};
struct kb_ranges {
    struct kb_range *at;
    size_t count, room;
};

/* A VM fd and what its vCPUs share.
 * lock guards everything below it; paused and the vCPUs' gate_passed are also read and written without it, see gate.c. */
struct kb_vm {
    int fd;
    bool open;
    bool sync_regs;            /* KVM_RUN can leave the registers in the run page */
    bool local_apics;          /* in the kernel */
    unsigned slots_version;    /* counts the exchanges of its memory slots that were done */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    atomic_uint paused;        /* pausers: no vCPU may be in KVM_RUN while it is not 0 */
    atomic_bool entered;       /* a vCPU has passed the gate */
    struct kb_vcpu *vcpus;     /* open ones, linked by next */
    struct kb_ranges ranges[KB_SPACES];
};

/* A bell trap. Stores to its first address are counted by an ioeventfd, those to the others come as exits; one queue
 * keeps them in order. The eventfd is readable exactly while a ring waits.
 * lock guards everything below it and every read of the eventfd. */
enum { KB_BELL_EXITS_MAX = 256, KB_BELL_QUEUE = 2 * KB_BELL_EXITS_MAX + 1 };
struct kb_rings {
    uint64_t addr;
    uint64_t count;            /* the kernel's; 1 for a ring by exit */
    bool by_exit;
};
struct kb_bell {
    uint64_t addr;
    int eventfd;
    int room_fd;               /* an eventfd, readable when a full queue has got room */
    pthread_mutex_t lock;
    bool closed;
    bool marked;               /* 1 of the eventfd's count is no ring: it says that the queue has some */
    unsigned by_exit;          /* rings by exit in the queue */
    unsigned first, length;
    struct kb_rings queue[KB_BELL_QUEUE];
};

/* zx_port_packet_t, with those of its payloads that the shim makes. */
enum { KB_PACKET_GUEST_BELL = 3, KB_PACKET_GUEST_MEM = 4, KB_PACKET_GUEST_IO = 5 };
struct kb_packet {
    uint64_t key;
    uint32_t type;
    int32_t status;
    union {
        uint8_t bytes[32];
        struct { uint64_t addr; } bell;
        struct { uint64_t addr; uint8_t access_size, sign_extend, xt, read; uint64_t data; } mem; /* arm64's */
        struct { uint16_t port; uint8_t access_size, input; uint32_t data; } io;
    };
};

/* What a port sleeps on: an epoll fd, and another in it whose fds go first (-1 for none). Some of the fds are bells'.
 * lock guards everything below it and orders those who take from bells. */
struct kb_port_bell {
    struct kb_bell *bell;
    uint64_t key;
};
struct kb_port {
    int epoll_fd, first_fd;
    pthread_mutex_t lock;
    pthread_cond_t idle;
    bool closed;
    unsigned sleepers;         /* threads inside kb_port_wait */
    struct kb_port_bell *bells; /* by eventfd; NULL where the fd is none */
    size_t room;
};
enum { KB_PORT_PACKET = INT32_MAX }; /* of kb_port_wait; no fd has this number */

/* A memory slot as KVM_SET_USER_MEMORY_REGION takes it. dirty: where deleting it leaves its dirty log, or NULL. */
struct kb_slot {
    unsigned number;
    uint32_t flags;
    uint64_t guest_addr;
    uint64_t size;
    void *host;
    uint64_t *dirty;
};

/* Slots of one VM that go, and those that come for them. */
struct kb_exchange {
    struct kb_vm *vm;
    const struct kb_slot *deleted;
    unsigned deleted_count;
    const struct kb_slot *made;
    unsigned made_count;
};

/* The access that the run page holds: `count` elements of `size` bytes at `data`, `next` to be reported first. */
struct kb_access {
    uint64_t addr;
    uint8_t *data;
    uint32_t count, next;
    uint8_t size, is_write, is_memory;
    bool answer_due;           /* the element reported last is a read that has no answer yet */
    bool completion_due;       /* KVM_RUN has still to finish the instruction */
};

/* A vCPU fd, its run page and its thread's state in the run loop.
 * The owner thread alone uses fd, run and access, between kb_vcpu_begin and kb_vcpu_end. lock guards closed, busy and
 * tid: a kick signals only a thread that is inside, and kb_vcpu_close unmaps nothing that is in use. immediate_exit is
 * stored by whoever holds lock, and by the owner. */
struct kb_vcpu {
    int fd;
    int stats_fd;
    uint64_t returns;          /* KVM_RUN came back with an exit: written by the owner, read by anyone */
    uint64_t interrupted;      /* KVM_RUN came back with EINTR */
    struct kb_vm *vm;
    struct kvm_run *run;
    size_t run_size;
    uint64_t owner;            /* kb_thread.serial of the thread that opened it */
    pthread_mutex_t lock;
    pthread_cond_t idle;
    bool closed;
    bool busy;
    pid_t tid;                 /* of the thread inside kb_vcpu_enter, else 0 */
    atomic_bool kicked;
    atomic_bool gate_passed;   /* may be in KVM_RUN */
    bool failed;               /* the run page has an exit that is no access: it waits to be reported */
    bool synced;               /* the run page has the registers as they are now */
    bool keeps;                /* each exit that is an access leaves a copy of the registers here: */
    bool kept;
    struct kvm_regs kept_regs;
    struct kvm_sregs kept_sregs;
    struct kb_access access;
    struct kb_vcpu *next;
};

/* struct kvm_run's internal, the longest that is reported. */
enum { KB_EXIT_FACTS = 136 };

/* What kb_vcpu_enter reports: one element of an access, or another exit (size 0). An access that is trapped comes as a
 * packet as well. */
struct kb_exit {
    uint64_t addr;
    uint64_t key;              /* of the range that the address is in */
    uint32_t reason;           /* KVM_EXIT_* */
    uint32_t data;             /* of a write */
    uint8_t size;              /* bytes, 1 to 4 */
    uint8_t is_write, is_memory;
    struct kb_packet packet;
    uint8_t facts[KB_EXIT_FACTS]; /* of another exit: the beginning of the run page's union */
};

/* The fast path of an interrupt that is bound to vCPUs: which eventfds a trigger writes. */
enum { KB_TRIGGER_EXTRA = 255 };
struct kb_trigger {
    atomic_int state;
    atomic_uint users;         /* threads inside kb_trigger_fire */
    int eventfd;
    atomic_int extra_count;
    int *extra;                /* one more eventfd for each further APIC cluster */
};

/* Which interrupt controllers a VM has in the kernel: PIC, IOAPIC and local APICs; local APICs; none. */
enum { KB_IRQCHIP_PC, KB_IRQCHIP_SPLIT, KB_IRQCHIP_NONE };

/* A vCPU of a VM without interrupt controllers, and the vector that its thread is to inject. */
struct kb_injector {
    struct kb_vcpu *vcpu;
    int wake;                  /* eventfd on which its thread sleeps while the guest is in HLT */
    int vector;                /* of every kb_injector_raise */
    atomic_bool pending, halted, stop;
};

/* What a measurement knows of a guest: where its handlers store, when a round may fire, the round that is under way.
 * One thread uses it. The pointers are the caller's to keep valid. */
struct kb_probe {
    const uint32_t *counts;    /* of the handler, per vCPU */
    const uint64_t *stamps;    /* the guest's TSC at the handler's first instruction, per vCPU */
    const uint64_t *tsc_offsets;   /* the guest's TSC less the host's, per vCPU */
    const int *stats_fds;      /* per vCPU, with the place of `blocking` in each */
    int64_t blocking_offset;
    unsigned vcpus;
    int bell;                  /* eventfd that each vCPU rings as its answer, or -1: the counts are watched */
    int asleep;                /* whether a round waits until every vCPU's thread sleeps */
    double ticks_per_ns;
    uint64_t gap_ticks;        /* from an answer to the next round */
    int64_t answer_within_ns;  /* or the measurement fails */
    uint64_t interval_ticks;   /* from one round to the next, if not 0; then there is no gap */
    uint64_t due;              /* when the round was to fire; 0 with no interval */
    uint64_t start;
    uint64_t rung;
    int64_t give_up_ns;
    uint32_t expected;         /* the count that answers the round */
    int waiting;               /* it has fired and is not answered */
};

/* One answered round, in ticks of the host's TSC. */
struct kb_round {
    uint64_t due;              /* when it was to fire; 0 if at no set time */
    uint64_t start;            /* just before the trigger */
    uint64_t guest;            /* the first instruction of the last vCPU's handler */
    uint64_t host;             /* when this thread saw the answer */
};

/* A thread that wakes another; the fds and start are the caller's to keep. */
struct kb_waker {
    int eventfd;               /* what it writes */
    int awake;                 /* an eventfd: the other is awake, and will wait again */
    unsigned rounds;
    uint64_t gap_ns;           /* below 10^9 */
    uint64_t *start;           /* the TSC just before each write */
    atomic_bool stop;
    pthread_t thread;
};

/* descriptor.c */
int kb_eventfd_open(int *fd, int semaphore);
int kb_duplicate(int *fd, int of);
int kb_memfd_open(int *fd, const char *name, uint64_t size, int resizable);
void kb_close(int *fd);

/* system.c */
int kb_ioctl(int fd, unsigned long request, void *argument);
int kb_system_open(int *fd, const char *path);
int kb_check_extension(int fd, unsigned capability);
int kb_vcpu_run_size(int system_fd);
int kb_cpuid_read(struct kb_cpuid *cpuid, int system_fd);
void kb_cpuid_free(struct kb_cpuid *cpuid);
int kb_cpuid_address_bits(const struct kb_cpuid *cpuid);

/* vm.c */
int kb_vm_open(struct kb_vm *vm, int system_fd, int irqchip);
int kb_vm_create_irqchip(struct kb_vm *vm, int pit);
void kb_vm_close(struct kb_vm *vm);
int kb_vm_set_memory(struct kb_vm *vm, unsigned slot, uint32_t flags, uint64_t guest_addr, uint64_t size, void *host);
int kb_vm_set_gsi_routing(struct kb_vm *vm, void *table);
int kb_vm_irqfd(struct kb_vm *vm, int eventfd, unsigned gsi, uint32_t flags, int resample_fd);
int kb_vm_ioeventfd(struct kb_vm *vm, int eventfd, uint64_t addr, unsigned length, uint32_t flags);
int kb_vm_set_irq_line(struct kb_vm *vm, unsigned gsi, int level);
int kb_vm_signal_msi(struct kb_vm *vm, uint32_t address_lo, uint32_t address_hi, uint32_t data);

/* gate.c */
void kb_vm_pause(struct kb_vm *vm);
int kb_vm_entered(struct kb_vm *vm);
void kb_vm_resume(struct kb_vm *vm);
void kb_gate_pass(struct kb_vcpu *vcpu);
void kb_gate_leave(struct kb_vcpu *vcpu);
void kb_gate_add(struct kb_vcpu *vcpu);
void kb_gate_remove(struct kb_vcpu *vcpu);

/* ranges.c */
int kb_ranges_add(struct kb_vm *vm, int space, uint64_t start, uint64_t size, uint64_t key);
int kb_ranges_add_bell(struct kb_vm *vm, uint64_t start, uint64_t size, struct kb_bell *bell);
int kb_ranges_reserve(struct kb_vm *vm, uint64_t addr);
void kb_ranges_remove(struct kb_vm *vm, int space, uint64_t start);
int kb_ranges_overlap(struct kb_vm *vm, int space, uint64_t start, uint64_t size);
bool kb_ranges_find(struct kb_vm *vm, enum kb_space space, uint64_t addr, struct kb_range *found);

/* bell.c */
void kb_bell_init(struct kb_bell *bell, uint64_t addr, int eventfd, int room_fd);
int kb_bell_ring(struct kb_bell *bell, uint64_t addr);
int kb_bell_take(struct kb_bell *bell, uint64_t *addr);
void kb_bell_close(struct kb_bell *bell);

/* port.c */
void kb_port_init(struct kb_port *port, int epoll_fd, int first_fd);
int kb_port_add(struct kb_port *port, struct kb_bell *bell, uint64_t key);
void kb_port_remove(struct kb_port *port, const struct kb_bell *bell);
int kb_port_wait(struct kb_port *port, struct kb_packet *packet, int64_t deadline_ns);
void kb_port_close(struct kb_port *port);
void kb_port_free(struct kb_port *port);

/* vcpu.c */
int kb_vcpu_open(struct kb_vcpu *vcpu, struct kb_vm *vm, const struct kb_cpuid *cpuid, unsigned id, int x2apic,
                 size_t run_size);
int kb_vcpu_start_real(struct kb_vcpu *vcpu, uint64_t entry);
int kb_vcpu_start_long(struct kb_vcpu *vcpu, uint64_t entry);
void kb_vcpu_close(struct kb_vcpu *vcpu);
void kb_vcpu_after_fork(struct kb_vcpu *vcpu);

/* registers.c */
enum { KB_SYNCED = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS };
int kb_vcpu_get_state(struct kb_vcpu *vcpu, unsigned long request, void *state);
int kb_vcpu_keep_state(struct kb_vcpu *vcpu);
int kb_vcpu_kept_state(struct kb_vcpu *vcpu, unsigned long request, void *state);
int kb_vcpu_set_state(struct kb_vcpu *vcpu, unsigned long request, void *state);
int kb_vcpu_code_position(struct kb_vcpu *vcpu, uint16_t *cs, uint64_t *cs_base, uint64_t *ip);

int kb_vcpu_begin(struct kb_vcpu *vcpu, pid_t tid);
void kb_vcpu_end(struct kb_vcpu *vcpu);

/* run.c */
enum { KB_STOPPED, KB_PACKET }; /* what kb_vcpu_enter returns */
int kb_vcpu_enter(struct kb_vcpu *vcpu, struct kb_exit *exit, int64_t deadline_ns);
int kb_vcpu_answer(struct kb_vcpu *vcpu, unsigned size, uint32_t data);
int kb_vcpu_complete(struct kb_vcpu *vcpu);
void kb_vcpu_revive(struct kb_vcpu *vcpu);
int kb_vcpu_kick(struct kb_vcpu *vcpu);
int kb_vcpu_is_kicked(struct kb_vcpu *vcpu);

/* signals.c */
struct kb_thread {
    uint64_t serial;           /* tells threads apart for good: kernel ids are used again */
    pid_t tid;
    bool is_main;
    struct kb_vcpu *vcpu;      /* whose run page the handlers write, or NULL */
    struct timespec *sleep;    /* the timeout that they write, or NULL */
};
int kb_kick_signal(void);
int kb_kick_install(void);
int kb_kick_timer(timer_t *timer, pid_t tid);
int kb_signals_learn(int signo);
void kb_signals_after_fork(void);
struct kb_thread *kb_thread_self(void);
struct kb_thread *kb_thread_enter(struct kb_vcpu *vcpu);
struct kb_thread *kb_thread_sleep(struct timespec *timeout);
void kb_thread_leave(struct kb_thread *thread);
bool kb_thread_signalled(struct kb_thread *thread);
void kb_stop(struct kb_vcpu *vcpu);

/* trigger.c */
int kb_trigger_fire(struct kb_trigger *trigger);
int kb_trigger_arm(struct kb_trigger *trigger, int eventfd);
int kb_trigger_add(struct kb_trigger *trigger, int eventfd);
void kb_trigger_retire(struct kb_trigger *trigger);

/* wait.c */
int64_t kb_now_ns(void);
struct timespec kb_until(int64_t deadline_ns);
int kb_poll(struct pollfd *fds, unsigned count, struct timespec *timeout);
int kb_wait_readable(int fd, int cancel_fd, int64_t deadline_ns);
int kb_wait_epoll(int first_fd, int fd, int64_t deadline_ns);
int kb_eventfd_drain(int fd, uint64_t *count);
int kb_eventfd_add(int fd, uint64_t count);
int kb_wait_u32(const void *host, uint32_t at_least, int64_t deadline_ns);
uint32_t kb_read_u32(const void *host);

/* memory.c */
int kb_map(int fd, uint64_t offset, size_t size, void **host);
int kb_unmap(void *host, size_t size);
int kb_populate(int fd, uint64_t offset, size_t size, void *host);
int kb_vm_dirty_log(struct kb_vm *vm, unsigned slot, uint64_t *bitmap);
int kb_exchange(const struct kb_exchange *exchanges, unsigned count, int memfd, uint64_t *size, uint64_t new_size);

/* measure.c */
uint64_t kb_tsc(void);
int kb_measure_exits(struct kb_vcpu *vcpu, unsigned rounds, uint64_t *ns);
int kb_measure_create(const char *path, int irqchip, int pit, const void *image, size_t size, unsigned rounds,
                      uint64_t *ns);
int kb_measure_ping_pong(const char *path, const void *image, size_t size, uint32_t rounds, uint64_t *ns);

/* measure_bind.c */
int kb_measure_bind(const char *path, unsigned before, unsigned count, unsigned rounds, uint64_t *ns);

/* waker.c */
int kb_waker_start(struct kb_waker *waker);
void kb_waker_stop(struct kb_waker *waker);
int kb_measure_wakes(int epoll_fd, struct kb_waker *waker, uint64_t *woken);

/* injector.c */
int kb_injector_run(struct kb_injector *injector, struct kb_exit *exit);
int kb_injector_raise(struct kb_injector *injector);
int kb_injector_stop(struct kb_injector *injector);

/* latency.c */
void kb_probe_arm(struct kb_probe *probe);
int kb_probe_pace(struct kb_probe *probe);
int kb_probe_answer(struct kb_probe *probe, uint64_t start, struct kb_round *round);
int kb_rounds_eventfd(struct kb_probe *probe, int eventfd, struct kb_round *rounds, unsigned count);
int kb_rounds_trigger(struct kb_probe *probe, struct kb_trigger *trigger, struct kb_round *rounds, unsigned count);
int kb_rounds_msi(struct kb_probe *probe, struct kb_vm *vm, uint32_t address_lo, uint32_t address_hi, uint32_t data,
                  struct kb_round *rounds, unsigned count);
int kb_rounds_injector(struct kb_probe *probe, struct kb_injector *injector, struct kb_round *rounds, unsigned count);

#endif
