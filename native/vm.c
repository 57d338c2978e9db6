/* A VM fd: its interrupt controllers, memory slots, routes, irqfds and ioeventfds. */
#include "shim.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    TSS_ADDR = 0xfffbd000,          /* three pages; KVM on Intel needs them to run real mode */
    IDENTITY_MAP_ADDR = 0xfffbc000, /* one page */
};

static int enable(int vm_fd, uint32_t capability, uint64_t argument)
{
    struct kvm_enable_cap cap = {.cap = capability, .args = {argument}};
    return kb_ioctl(vm_fd, KVM_ENABLE_CAP, &cap);
}

static int set_up(int fd, int irqchip)
{
    uint64_t identity_map = IDENTITY_MAP_ADDR;
    int result = kb_ioctl(fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_ADDR);
    if (result >= 0)
        result = kb_ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
    if (result >= 0)
        result = enable(fd, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
    if (result >= 0 && irqchip == KB_IRQCHIP_SPLIT)
        result = enable(fd, KVM_CAP_SPLIT_IRQCHIP, 0);
    return result;
}

static int create(int system_fd)
{
    int fd;
    do
        fd = kb_ioctl(system_fd, KVM_CREATE_VM, NULL);
    while (fd == -EINTR); /* kvm_create_vm starts a thread; a signal in that moment fails it */
    return fd;
}

/* irqchip: KB_IRQCHIP_*. A VM of KB_IRQCHIP_PC gets it by kb_vm_create_irqchip. */
int kb_vm_open(struct kb_vm *vm, int system_fd, int irqchip)
{
    int fd = create(system_fd);
    if (fd < 0)
        return fd;
    int result = set_up(fd, irqchip);
    if (result < 0) {
        close(fd);
        return result;
    }
    int sync = kb_check_extension(fd, KVM_CAP_SYNC_REGS);
    vm->fd = fd;
    vm->open = true;
    vm->local_apics = irqchip != KB_IRQCHIP_NONE;
    vm->sync_regs = sync > 0 && (sync & KB_SYNCED) == KB_SYNCED;
    pthread_mutex_init(&vm->lock, NULL);
    pthread_cond_init(&vm->changed, NULL);
    return 0;
}

/* PIC and IOAPIC, and the PIT if asked. Before the first vCPU, and after the memory: a memory slot that is made while the
 * kernel's grace periods of this run takes 8 ms instead of 0.1. */
int kb_vm_create_irqchip(struct kb_vm *vm, int pit)
{
    struct kvm_pit_config config = {.flags = 0};
    int result = kb_ioctl(vm->fd, KVM_CREATE_IRQCHIP, NULL);
    return result < 0 || !pit ? result : kb_ioctl(vm->fd, KVM_CREATE_PIT2, &config);
}

/* Of one that is not open: nothing. Its vCPUs are closed. */
void kb_vm_close(struct kb_vm *vm)
{
    if (!vm->open)
        return;
    vm->open = false;
    kb_close(&vm->fd);
    for (int space = 0; space < KB_SPACES; space++)
        free(vm->ranges[space].at);
    pthread_cond_destroy(&vm->changed);
    pthread_mutex_destroy(&vm->lock);
}

int kb_vm_set_memory(struct kb_vm *vm, unsigned slot, uint32_t flags, uint64_t guest_addr, uint64_t size, void *host)
{
    struct kvm_userspace_memory_region region = {
        .slot = slot, .flags = flags, .guest_phys_addr = guest_addr, .memory_size = size,
        .userspace_addr = (uintptr_t)host,
    };
    return kb_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/* table: a struct kvm_irq_routing with its entries behind it. It replaces the whole table of the VM. */
int kb_vm_set_gsi_routing(struct kb_vm *vm, void *table)
{
    return kb_ioctl(vm->fd, KVM_SET_GSI_ROUTING, table);
}

int kb_vm_irqfd(struct kb_vm *vm, int eventfd, unsigned gsi, uint32_t flags, int resample_fd)
{
    struct kvm_irqfd irqfd = {.fd = (uint32_t)eventfd, .gsi = gsi, .flags = flags};
    if (flags & KVM_IRQFD_FLAG_RESAMPLE)
        irqfd.resamplefd = (uint32_t)resample_fd;
    return kb_ioctl(vm->fd, KVM_IRQFD, &irqfd);
}

int kb_vm_ioeventfd(struct kb_vm *vm, int eventfd, uint64_t addr, unsigned length, uint32_t flags)
{
    struct kvm_ioeventfd ioeventfd = {.addr = addr, .len = length, .fd = eventfd, .flags = flags};
    return kb_ioctl(vm->fd, KVM_IOEVENTFD, &ioeventfd);
}

/* An interrupt line of PIC and IOAPIC, by its GSI. */
int kb_vm_set_irq_line(struct kb_vm *vm, unsigned gsi, int level)
{
    struct kvm_irq_level line = {.irq = gsi, .level = (uint32_t)level};
    return kb_ioctl(vm->fd, KVM_IRQ_LINE, &line);
}

/* Returns how many vCPUs the message reached. */
int kb_vm_signal_msi(struct kb_vm *vm, uint32_t address_lo, uint32_t address_hi, uint32_t data)
{
    struct kvm_msi msi = {.address_lo = address_lo, .address_hi = address_hi, .data = data};
    return kb_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi);
}
