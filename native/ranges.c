/* Which accesses of a guest have somebody to answer them: sorted ranges, found by bisection. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>

/* How many ranges lie wholly below addr: the place where one that begins at addr belongs. */
static size_t position(const struct kb_ranges *ranges, uint64_t addr)
{
    size_t low = 0, high = ranges->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges->at[middle].last < addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int add(struct kb_ranges *ranges, struct kb_range range)
{
    size_t place = position(ranges, range.first);
    if (place < ranges->count && ranges->at[place].first <= range.last)
        return -EEXIST;
    if (ranges->count == ranges->room) {
        size_t room = ranges->room ? 2 * ranges->room : 8;
        struct kb_range *at = realloc(ranges->at, room * sizeof *at);
        if (at == NULL)
            return -ENOMEM;
        ranges->at = at;
        ranges->room = room;
    }
    memmove(&ranges->at[place + 1], &ranges->at[place], (ranges->count - place) * sizeof range);
    ranges->at[place] = range;
    ranges->count++;
    return 0;
}

static int add_locked(struct kb_vm *vm, int space, struct kb_range range)
{
    pthread_mutex_lock(&vm->lock);
    int result = add(&vm->ranges[space], range);
    pthread_mutex_unlock(&vm->lock);
    return result;
}

/* A trap whose packets have this key. -EEXIST if it overlaps a range that is there, -ENOMEM. size > 0;
 * start + size - 1 must not wrap. */
int kb_ranges_add(struct kb_vm *vm, int space, uint64_t start, uint64_t size, uint64_t key)
{
    return add_locked(vm, space, (struct kb_range){.first = start, .last = start + size - 1, .key = key});
}

/* The bell must live as long as the VM: a vCPU may have found it and not rung it yet. */
int kb_ranges_add_bell(struct kb_vm *vm, uint64_t start, uint64_t size, struct kb_bell *bell)
{
    struct kb_range range = {.first = start, .last = start + size - 1, .bell = bell};
    return add_locked(vm, KB_SPACE_MEMORY, range);
}

/* Keeps traps away from an address where an ioeventfd is. */
int kb_ranges_reserve(struct kb_vm *vm, uint64_t addr)
{
    return add_locked(vm, KB_SPACE_MEMORY, (struct kb_range){.first = addr, .last = addr, .reserved = true});
}

static void remove_at(struct kb_ranges *ranges, size_t place)
{
    ranges->count--;
    memmove(&ranges->at[place], &ranges->at[place + 1], (ranges->count - place) * sizeof *ranges->at);
}

/* Takes the range that begins at start out, if there is one. */
void kb_ranges_remove(struct kb_vm *vm, int space, uint64_t start)
{
    struct kb_ranges *ranges = &vm->ranges[space];
    pthread_mutex_lock(&vm->lock);
    size_t place = position(ranges, start);
    if (place < ranges->count && ranges->at[place].first == start)
        remove_at(ranges, place);
    pthread_mutex_unlock(&vm->lock);
}

/* Whether a range is, in part, in [start, start + size). */
int kb_ranges_overlap(struct kb_vm *vm, int space, uint64_t start, uint64_t size)
{
    const struct kb_ranges *ranges = &vm->ranges[space];
    pthread_mutex_lock(&vm->lock);
    size_t place = position(ranges, start);
    bool overlap = place < ranges->count && ranges->at[place].first <= start + size - 1;
    pthread_mutex_unlock(&vm->lock);
    return overlap;
}

/* The trap that addr is in. */
bool kb_ranges_find(struct kb_vm *vm, enum kb_space space, uint64_t addr, struct kb_range *found)
{
    const struct kb_ranges *ranges = &vm->ranges[space];
    pthread_mutex_lock(&vm->lock);
    size_t place = position(ranges, addr);
    bool trapped = place < ranges->count && ranges->at[place].first <= addr && !ranges->at[place].reserved;
    if (trapped)
        *found = ranges->at[place];
    pthread_mutex_unlock(&vm->lock);
    return trapped;
}
