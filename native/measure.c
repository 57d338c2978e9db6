/* What benchmarks compare with: the same work in raw C. */
#include "shim.h"

#include <stdlib.h>
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

/* ns: of each of `rounds` returns of KVM_RUN. The vCPU belongs to the calling thread and does nothing but OUT, or stores
 * to what is no memory. */
int kb_measure_exits(struct kb_vcpu *vcpu, unsigned rounds, uint64_t *ns)
{
    int result = 0;
    vcpu->run->immediate_exit = 0;
    for (unsigned round = 0; round < rounds && result >= 0; round++) {
        int64_t start = kb_now_ns();
        do
            result = kb_ioctl(vcpu->fd, KVM_RUN, NULL);
        while (result == -EINTR);
        ns[round] = (uint64_t)(kb_now_ns() - start);
        uint32_t reason = vcpu->run->exit_reason;
        if (result >= 0 && reason != KVM_EXIT_IO && reason != KVM_EXIT_MMIO)
            result = -EPROTO;
    }
    return result < 0 ? result : 0;
}

static int one_guest(int system_fd, size_t run_size, const void *image, size_t size)
{
    enum { MEMORY = 1 << 20, ENTRY = 0x1000 };
    struct kb_vm vm = {.fd = -1};
    struct kb_vcpu vcpu = {.fd = -1};
    int memory_fd = memfd_create("measure", MFD_CLOEXEC);
    void *memory = MAP_FAILED;
    int result = memory_fd < 0 || ftruncate(memory_fd, MEMORY) < 0 ? -errno : kb_vm_open(&vm, system_fd, KB_IRQCHIP_SPLIT, false);
    if (result < 0)
        goto close_memory;
    memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory_fd, 0);
    if (memory == MAP_FAILED) {
        result = -errno;
        goto close_vm;
    }
    memcpy((char *)memory + ENTRY, image, size);
    result = kb_vm_set_memory(&vm, 0, 0, 0, MEMORY, memory);
    if (result >= 0)
        result = kb_vcpu_open(&vcpu, &vm, system_fd, 0, run_size);
    if (result >= 0) {
        result = kb_vcpu_start_real(&vcpu, ENTRY);
        if (result >= 0)
            result = kb_ioctl(vcpu.fd, KVM_RUN, NULL);
        kb_vcpu_close(&vcpu);
    }
close_vm:
    kb_vm_close(&vm);
    if (memory != MAP_FAILED)
        munmap(memory, MEMORY);
close_memory:
    if (memory_fd >= 0)
        close(memory_fd);
    return result;
}

/* ns: the time of each guest with 1 MiB and one vCPU, from KVM_CREATE_VM to its first exit and to the last close. */
int kb_measure_create(const char *path, const void *image, size_t size, unsigned rounds, uint64_t *ns)
{
    int system_fd, result = kb_system_open(&system_fd, path);
    if (result < 0)
        return result;
    int run_size = kb_vcpu_run_size(system_fd);
    result = run_size < 0 ? run_size : 0;
    for (unsigned round = 0; round < rounds && result >= 0; round++) {
        int64_t start = kb_now_ns();
        result = one_guest(system_fd, (size_t)run_size, image, size);
        ns[round] = (uint64_t)(kb_now_ns() - start);
    }
    close(system_fd);
    return result < 0 ? result : 0;
}
