/* /dev/kvm itself: what the host's KVM offers. */
#include "shim.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

int kb_ioctl(int fd, unsigned long request, void *argument)
{
    int result = ioctl(fd, request, argument);
    return result < 0 ? -errno : result;
}

/* Opens the device at *fd and refuses what does not speak the KVM API, version 12 (-EPROTO). */
int kb_system_open(int *fd, const char *path)
{
    *fd = open(path, O_RDWR | O_CLOEXEC);
    if (*fd < 0)
        return -errno;
    int version = kb_ioctl(*fd, KVM_GET_API_VERSION, NULL);
    if (version == KVM_API_VERSION)
        return 0;
    kb_close(fd);
    return version < 0 ? version : -EPROTO;
}

int kb_check_extension(int fd, unsigned capability)
{
    return kb_ioctl(fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability);
}

int kb_vcpu_run_size(int system_fd)
{
    return kb_ioctl(system_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
}

/* Stores the table of what the processors of guests can be; kb_cpuid_free is due. */
int kb_cpuid_read(struct kb_cpuid *cpuid, int system_fd)
{
    int result = -E2BIG;
    for (uint32_t room = 128; room <= 4096 && result == -E2BIG; room *= 2) {
        struct kvm_cpuid2 *table = calloc(1, sizeof *table + room * sizeof table->entries[0]);
        if (table == NULL)
            return -ENOMEM;
        table->nent = room;
        result = kb_ioctl(system_fd, KVM_GET_SUPPORTED_CPUID, table);
        if (result >= 0)
            cpuid->table = table;
        else
            free(table);
    }
    return result;
}

void kb_cpuid_free(struct kb_cpuid *cpuid)
{
    free(cpuid->table);
    cpuid->table = NULL;
}

int kb_cpuid_address_bits(const struct kb_cpuid *cpuid)
{
    int bits = 36; /* a processor without leaf 80000008h */
    for (uint32_t i = 0; i < cpuid->table->nent; i++)
        if (cpuid->table->entries[i].function == 0x80000008)
            bits = cpuid->table->entries[i].eax & 0xff;
    return bits;
}
