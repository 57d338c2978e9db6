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

/* -EEXIST if it overlaps one that is there, -ENOMEM. size > 0; start + size - 1 must not wrap. */
int kb_ranges_add(struct kb_vm *vm, int space, uint64_t start, uint64_t size, uint64_t key)
{
    pthread_mutex_lock(&vm->lock);
    int result = add(&vm->ranges[space], (struct kb_range){start, start + size - 1, key});
    pthread_mutex_unlock(&vm->lock);
    return result;
}

bool kb_ranges_find(struct kb_vm *vm, enum kb_space space, uint64_t addr, uint64_t *key)
{
    pthread_mutex_lock(&vm->lock);
    const struct kb_ranges *ranges = &vm->ranges[space];
    size_t place = position(ranges, addr);
    bool found = place < ranges->count && ranges->at[place].first <= addr;
    if (found)
        *key = ranges->at[place].key;
    pthread_mutex_unlock(&vm->lock);
    return found;
}
