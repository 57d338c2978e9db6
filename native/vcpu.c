/* A vCPU fd: made ready to take interrupts, and closed. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    APIC_BASE_X2APIC = 0xc00, /* IA32_APIC_BASE: enabled, x2APIC */
    APIC_SVR = 0xf0,
    APIC_SVR_ENABLED = 0x100,
    CPUID_1_ECX_X2APIC = 1 << 21,
};
static const uint32_t CPUID_1_ECX_HYPERVISOR = UINT32_C(1) << 31; /* KVM leaves it to who makes the vCPU */

static int set_cpuid(int fd, const struct kb_cpuid *cpuid, unsigned id)
{
    size_t size = sizeof *cpuid->table + cpuid->table->nent * sizeof cpuid->table->entries[0];
    struct kvm_cpuid2 *table = malloc(size);
    if (table == NULL)
        return -ENOMEM;
    memcpy(table, cpuid->table, size);
    for (uint32_t i = 0; i < table->nent; i++) {
        struct kvm_cpuid_entry2 *entry = &table->entries[i];
        if (entry->function == 1) {
            entry->ecx |= CPUID_1_ECX_X2APIC | CPUID_1_ECX_HYPERVISOR;
            entry->ebx = (entry->ebx & 0x00ffffff) | id << 24;
        } else if (entry->function == 0xb || entry->function == 0x1f) {
            entry->edx = id;
        }
    }
    int result = kb_ioctl(fd, KVM_SET_CPUID2, table);
    free(table);
    return result;
}

static int set_x2apic_mode(int fd)
{
    struct kvm_sregs sregs;
    int result = kb_ioctl(fd, KVM_GET_SREGS, &sregs);
    if (result < 0)
        return result;
    sregs.apic_base |= APIC_BASE_X2APIC;
    return kb_ioctl(fd, KVM_SET_SREGS, &sregs);
}

static int enable_apic(int fd)
{
    struct kvm_lapic_state lapic;
    uint32_t svr;
    int result = kb_ioctl(fd, KVM_GET_LAPIC, &lapic);
    if (result < 0)
        return result;
    memcpy(&svr, lapic.regs + APIC_SVR, sizeof svr);
    svr |= APIC_SVR_ENABLED;
    memcpy(lapic.regs + APIC_SVR, &svr, sizeof svr);
    return kb_ioctl(fd, KVM_SET_LAPIC, &lapic);
}

/* All but id 0 would wait for INIT and SIPI. */
static int make_runnable(int fd)
{
    struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};
    return kb_ioctl(fd, KVM_SET_MP_STATE, &state);
}

/* The order matters: any other is EINVAL for ids above 0. */
static int set_up(int fd, const struct kb_vm *vm, const struct kb_cpuid *cpuid, unsigned id, bool x2apic)
{
    int result = set_cpuid(fd, cpuid, id);
    if (result >= 0 && vm->local_apics && x2apic)
        result = set_x2apic_mode(fd);
    if (result >= 0 && vm->local_apics)
        result = enable_apic(fd);
    if (result >= 0)
        result = make_runnable(fd);
    return result;
}

/* The stats fd is opened now because every ioctl on a vCPU waits while KVM_RUN holds it. Without KVM_CAP_BINARY_STATS_FD
 * (before Linux 5.14) there is none: stats_fd is -1. */
int kb_vcpu_open(struct kb_vcpu *vcpu, struct kb_vm *vm, const struct kb_cpuid *cpuid, unsigned id, int x2apic,
                 size_t run_size)
{
    int fd = kb_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)id);
    if (fd < 0)
        return fd;
    int result = set_up(fd, vm, cpuid, id, x2apic);
    if (result < 0)
        goto close_vcpu;
    void *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (run == MAP_FAILED) {
        result = -errno;
        goto close_vcpu;
    }
    madvise(run, run_size, MADV_DONTFORK); /* a mapping in a forked child would keep the VM alive */
    int stats_fd = kb_ioctl(fd, KVM_GET_STATS_FD, NULL);
    if (stats_fd < 0 && stats_fd != -ENOTTY && stats_fd != -EINVAL) {
        result = stats_fd;
        goto unmap;
    }
    vcpu->fd = fd;
    vcpu->stats_fd = stats_fd < 0 ? -1 : stats_fd;
    vcpu->vm = vm;
    vcpu->run = run;
    vcpu->run_size = run_size;
    vcpu->owner = kb_thread_self()->serial;
    pthread_mutex_init(&vcpu->lock, NULL);
    pthread_cond_init(&vcpu->idle, NULL);
    kb_gate_add(vcpu);
    return 0;

unmap:
    munmap(run, run_size);
close_vcpu:
    close(fd);
    return result;
}

/* Every use of the vCPU's fd and run page by its owner lies between begin and end. tid: for a kick to signal, or 0.
 * -EPERM: another thread's; -EBADF: closed. */
int kb_vcpu_begin(struct kb_vcpu *vcpu, pid_t tid)
{
    if (vcpu->owner != kb_thread_self()->serial)
        return -EPERM;
    pthread_mutex_lock(&vcpu->lock);
    int result = vcpu->closed ? -EBADF : 0;
    if (result == 0) {
        vcpu->busy = true;
        vcpu->tid = tid;
    }
    pthread_mutex_unlock(&vcpu->lock);
    return result;
}

void kb_vcpu_end(struct kb_vcpu *vcpu)
{
    pthread_mutex_lock(&vcpu->lock);
    vcpu->busy = false;
    vcpu->tid = 0;
    if (vcpu->closed)
        pthread_cond_signal(&vcpu->idle);
    pthread_mutex_unlock(&vcpu->lock);
}

/* Stops the owner if it is inside, and waits until it has left. Of one that is not open: nothing. */
void kb_vcpu_close(struct kb_vcpu *vcpu)
{
    if (vcpu->run == NULL)
        return;
    pthread_mutex_lock(&vcpu->lock);
    vcpu->closed = true;
    atomic_store(&vcpu->kicked, true);
    kb_stop(vcpu);
    while (vcpu->busy)
        pthread_cond_wait(&vcpu->idle, &vcpu->lock);
    pthread_mutex_unlock(&vcpu->lock);
    kb_gate_remove(vcpu); /* a pause finds it until it is still */
    munmap(vcpu->run, vcpu->run_size);
    vcpu->run = NULL;
    kb_close(&vcpu->stats_fd);
    kb_close(&vcpu->fd);
}

/* In a forked child, which has neither the run page nor the owner's thread: from now on it is closed. Another thread may
 * have held the lock when the process forked. */
void kb_vcpu_after_fork(struct kb_vcpu *vcpu)
{
    pthread_mutex_init(&vcpu->lock, NULL);
    vcpu->closed = true;
    vcpu->run = NULL;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code_long)
{
    return (struct kvm_segment){
        .selector = selector, .base = (uint64_t)selector << 4, .limit = 0xffff, .type = type,
        .present = 1, .s = 1, .l = code_long,
    };
}

static void set_segments(struct kvm_sregs *sregs, struct kvm_segment code)
{
    sregs->cs = code;
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = segment(0, 3, false);
}

static int start(struct kb_vcpu *vcpu, const struct kvm_sregs *sregs, uint64_t ip)
{
    struct kvm_regs regs = {.rip = ip, .rflags = 2};
    int result = kb_ioctl(vcpu->fd, KVM_SET_SREGS, (void *)sregs);
    return result < 0 ? result : kb_ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

/* Real mode, CS = entry >> 4, IP = entry & 15; entry < 1 MiB. */
int kb_vcpu_start_real(struct kb_vcpu *vcpu, uint64_t entry)
{
    struct kvm_sregs sregs;
    int result = kb_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
    if (result < 0)
        return result;
    set_segments(&sregs, segment((uint16_t)(entry >> 4), 11, false));
    return start(vcpu, &sregs, entry & 15);
}

/* 64-bit mode with paging on and CR3 = 0: the page tables are expected at guest-physical 0. CR0.NE is off until the
 * guest sets it, as Zircon shows it. */
int kb_vcpu_start_long(struct kb_vcpu *vcpu, uint64_t entry)
{
    enum { CR0_PE = 1, CR0_ET = 1 << 4, CR0_WP = 1 << 16, CR4_PAE = 1 << 5, EFER_LME_LMA = 0x500 };
    struct kvm_sregs sregs;
    int result = kb_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
    if (result < 0)
        return result;
    set_segments(&sregs, segment(0, 11, true));
    sregs.cr0 = CR0_PE | CR0_ET | CR0_WP | UINT64_C(1) << 31;
    sregs.cr3 = 0;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME_LMA;
    return start(vcpu, &sregs, entry);
}
