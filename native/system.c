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

/* The caller frees the table. NULL with errno set on failure. */
struct kvm_cpuid2 *kb_supported_cpuid(int system_fd)
{
    for (uint32_t room = 128; room <= 4096; room *= 2) {
        struct kvm_cpuid2 *table = calloc(1, sizeof *table + room * sizeof table->entries[0]);
        if (table == NULL) {
            errno = ENOMEM;
            return NULL;
        }
        table->nent = room;
        int result = kb_ioctl(system_fd, KVM_GET_SUPPORTED_CPUID, table);
        if (result >= 0)
            return table;
        free(table);
        errno = -result;
        if (result != -E2BIG)
            return NULL;
    }
    return NULL;
}

int kb_physical_address_bits(int system_fd)
{
    int bits = 36; /* a processor without leaf 80000008h */
    struct kvm_cpuid2 *table = kb_supported_cpuid(system_fd);
    if (table == NULL)
        return -errno;
    for (uint32_t i = 0; i < table->nent; i++)
        if (table->entries[i].function == 0x80000008)
            bits = table->entries[i].eax & 0xff;
    free(table);
    return bits;
}
