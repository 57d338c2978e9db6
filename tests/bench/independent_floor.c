/* The floor of `kvmbind bench`, measured by a program that shares no line with it: a guest in HLT, an irqfd, a loop
 * that writes it, and the guest's own time stamp. Prints min and p50 in ns, and how many interrupts the guest counted.
 *
 *     gcc -O2 -pthread -o floor tests/bench/independent_floor.c && ./floor 5000 400
 *
 * The arguments: how many interrupts, and the gap from an answer to the next in us. */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { MEMORY = 0x10000, ENTRY = 0x1000, COUNT = 0x8000, STAMP = 0x9000, VECTOR = 0x40, GSI = 0 };

static const uint8_t guest[] = {
    0xbc, 0x00, 0x70,                                     /* mov $0x7000, %sp */
    0xc7, 0x06, 0x00, 0x01, 0x19, 0x00,                   /* movw $handler, 4 * VECTOR */
    0xc7, 0x06, 0x02, 0x01, 0x00, 0x01,                   /* movw $0x100, 4 * VECTOR + 2 */
    0x66, 0xb9, 0x0b, 0x08, 0x00, 0x00,                   /* mov $0x80b, %ecx */
    0xfb, 0xf4, 0xeb, 0xfd,                               /* sti; hlt; jmp back to hlt */
    0x0f, 0x31,                                           /* handler: rdtsc */
    0x66, 0xa3, 0x00, 0x90, 0x66, 0x89, 0x16, 0x04, 0x90, /* mov %eax, STAMP; mov %edx, STAMP + 4 */
    0x66, 0xff, 0x06, 0x00, 0x80,                         /* incl COUNT */
    0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2, 0x0f, 0x30, 0xcf, /* eax = edx = 0; wrmsr: end of interrupt; iret */
};

static void check(int result, const char *what)
{
    if (result < 0)
        err(1, "%s", what);
}

static void *run_vcpu(void *fd)
{
    ioctl(*(int *)fd, KVM_RUN, 0);
    errx(1, "KVM_RUN returned");
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static double ticks_per_ns(void)
{
    int64_t start_ns = now_ns();
    uint64_t start = __rdtsc();
    usleep(200000);
    return (double)(__rdtsc() - start) / (double)(now_ns() - start_ns);
}

static int make_vcpu(int kvm, int vm)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[256];
    } cpuid = {.head.nent = 256};
    struct kvm_sregs sregs;
    struct kvm_lapic_state lapic;
    struct kvm_regs regs = {.rflags = 2};
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    check(vcpu, "KVM_CREATE_VCPU");
    check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
    check(ioctl(vcpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
    check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.apic_base |= 0xc00; /* x2APIC */
    sregs.cs.selector = ENTRY >> 4;
    sregs.cs.base = ENTRY;
    check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
    check(ioctl(vcpu, KVM_GET_LAPIC, &lapic), "KVM_GET_LAPIC");
    lapic.regs[0xf1] |= 1; /* SVR: enabled */
    check(ioctl(vcpu, KVM_SET_LAPIC, &lapic), "KVM_SET_LAPIC");
    return vcpu;
}

static uint64_t tsc_offset(int vcpu)
{
    uint64_t offset = 0;
    struct kvm_device_attr attribute = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset,
    };
    return ioctl(vcpu, KVM_GET_DEVICE_ATTR, &attribute) < 0 ? 0 : offset;
}

static int compare(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        errx(2, "usage: %s INTERRUPTS GAP_US", argv[0]);
    long n = atol(argv[1]), gap_ns = atol(argv[2]) * 1000;
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    check(kvm, "/dev/kvm");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    check(vm, "KVM_CREATE_VM");
    check(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
    struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP};
    check(ioctl(vm, KVM_ENABLE_CAP, &split), "KVM_CAP_SPLIT_IRQCHIP");
    uint8_t *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        err(1, "mmap");
    memcpy(memory + ENTRY, guest, sizeof guest);
    struct kvm_userspace_memory_region slot = {.memory_size = MEMORY, .userspace_addr = (uintptr_t)memory};
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");

    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry entry;
    } table = {.head.nr = 1, .entry = {.gsi = GSI, .type = KVM_IRQ_ROUTING_MSI}};
    table.entry.u.msi.address_lo = 0xfee00000;
    table.entry.u.msi.data = VECTOR;
    check(ioctl(vm, KVM_SET_GSI_ROUTING, &table), "KVM_SET_GSI_ROUTING");
    int vcpu = make_vcpu(kvm, vm), fd = eventfd(0, EFD_CLOEXEC);
    struct kvm_irqfd irqfd = {.fd = (uint32_t)fd, .gsi = GSI};
    check(ioctl(vm, KVM_IRQFD, &irqfd), "KVM_IRQFD");
    uint64_t offset = tsc_offset(vcpu);
    pthread_t thread;
    pthread_create(&thread, NULL, run_vcpu, &vcpu);

    double ticks = ticks_per_ns();
    volatile uint32_t *count = (uint32_t *)(memory + COUNT);
    volatile uint64_t *stamp = (uint64_t *)(memory + STAMP);
    int64_t *samples = calloc((size_t)n, sizeof *samples);
    for (long i = 0; i < n; i++) {
        const uint64_t one = 1;
        unsigned aux;
        for (int64_t end = now_ns() + gap_ns; now_ns() < end;)
            _mm_pause();
        uint64_t start = __rdtscp(&aux);
        if (write(fd, &one, sizeof one) < 0)
            err(1, "write");
        for (int64_t give_up = now_ns() + INT64_C(10000000000); *count != (uint32_t)i + 1; _mm_pause())
            if (now_ns() > give_up)
                errx(1, "the guest has not answered for 10 s");
        samples[i] = (int64_t)((double)(int64_t)(*stamp - offset - start) / ticks);
    }
    qsort(samples, (size_t)n, sizeof *samples, compare);
    printf("min %lld p50 %lld ns, %u counted\n", (long long)samples[0], (long long)samples[n / 2], *count);
    return 0;
}
