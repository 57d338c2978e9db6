/* What `bench bind` compares with: irqfds of one VM, each with its route, in raw C. */
#include "shim.h"

#include <stdlib.h>

enum { VECTOR = 0x40 };

struct raw_lines {
    struct kb_vm vm;
    struct kvm_irq_routing *table;
    int *eventfds;
    unsigned room;
};

static void close_lines(struct raw_lines *raw)
{
    for (unsigned i = 0; i < raw->room && raw->eventfds != NULL; i++)
        kb_close(&raw->eventfds[i]);
    free(raw->eventfds);
    free(raw->table);
    if (raw->vm.open)
        kb_vm_close(&raw->vm);
}

/* close_lines is due also after a failure. */
static int open_lines(struct raw_lines *raw, int system_fd, unsigned room)
{
    *raw = (struct raw_lines){.room = room};
    raw->table = calloc(1, sizeof *raw->table + room * sizeof raw->table->entries[0]);
    raw->eventfds = malloc(room * sizeof *raw->eventfds);
    if (raw->table == NULL || raw->eventfds == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < room; i++)
        raw->eventfds[i] = -1;
    int result = kb_vm_open(&raw->vm, system_fd, KB_IRQCHIP_SPLIT);
    for (unsigned i = 0; i < room && result >= 0; i++)
        result = kb_eventfd_open(&raw->eventfds[i], false);
    return result;
}

static int set_table(struct raw_lines *raw, unsigned count)
{
    raw->table->nr = count;
    for (unsigned i = 0; i < count; i++)
        raw->table->entries[i] = (struct kvm_irq_routing_entry){
            .gsi = i, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = 0xfee00000, .data = VECTOR},
        };
    return kb_vm_set_gsi_routing(&raw->vm, raw->table);
}

/* The lines from `from` on, up to `to`. */
static int connect(struct raw_lines *raw, unsigned from, unsigned to)
{
    int result = set_table(raw, to);
    for (unsigned i = from; i < to && result >= 0; i++)
        result = kb_vm_irqfd(&raw->vm, raw->eventfds[i], i, 0, -1);
    return result;
}

static int disconnect(struct raw_lines *raw, unsigned from, unsigned to)
{
    enum { DEASSIGN = 1 };
    int result = 0;
    for (unsigned i = from; i < to && result >= 0; i++)
        result = kb_vm_irqfd(&raw->vm, raw->eventfds[i], i, DEASSIGN, -1);
    return result < 0 || from == 0 ? result : set_table(raw, from);
}

/* ns: of each of `rounds` times that `count` eventfds are connected beside `before` others, by one table update. */
int kb_measure_bind(const char *path, unsigned before, unsigned count, unsigned rounds, uint64_t *ns)
{
    struct raw_lines raw;
    int system_fd, result = kb_system_open(&system_fd, path);
    if (result < 0)
        return result;
    result = open_lines(&raw, system_fd, before + count);
    if (result >= 0 && before > 0)
        result = connect(&raw, 0, before);
    for (unsigned round = 0; round < rounds && result >= 0; round++) {
        int64_t start = kb_now_ns();
        result = connect(&raw, before, before + count);
        ns[round] = (uint64_t)(kb_now_ns() - start);
        if (result >= 0)
            result = disconnect(&raw, before, before + count);
    }
    close_lines(&raw);
    kb_close(&system_fd);
    return result < 0 ? result : 0;
}
