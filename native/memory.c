/* Guest memory: memfds, their mappings into this process, and the slots by which VMs see those. */
#include "shim.h"

#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

int kb_map(int fd, uint64_t offset, size_t size, void **host)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
    if (at == MAP_FAILED)
        return -errno;
    *host = at;
    return 0;
}

int kb_unmap(void *host, size_t size)
{
    return munmap(host, size) < 0 ? -errno : 0;
}

/* Enters the pages that the file has into the page table of a mapping that begins at `offset` of it. Those that it has
 * not are not made. */
int kb_populate(int fd, uint64_t offset, size_t size, void *host)
{
    off_t end = (off_t)(offset + size), at = (off_t)offset, hole;
    while (at < end && (at = lseek(fd, at, SEEK_DATA)) >= 0 && at < end) {
        hole = lseek(fd, at, SEEK_HOLE);
        if (hole < 0)
            break;
        size_t length = (size_t)((hole < end ? hole : end) - at);
        if (madvise((char *)host + (at - (off_t)offset), length, MADV_POPULATE_READ) < 0)
            return -errno;
        at = hole;
    }
    return at < 0 && errno != ENXIO ? -errno : 0; /* ENXIO: only a hole is left */
}

int kb_vm_dirty_log(struct kb_vm *vm, unsigned slot, uint64_t *bitmap)
{
    struct kvm_dirty_log log = {.slot = slot, .dirty_bitmap = bitmap};
    return kb_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);
}

static int make_slot(struct kb_vm *vm, const struct kb_slot *slot)
{
    return kb_vm_set_memory(vm, slot->number, slot->flags, slot->guest_addr, slot->size, slot->host);
}

/* No vCPU runs, so that what the log has now is complete. EINVAL, ENOENT: the slot is not there, since an earlier undo
 * could not make it again. */
static int delete_slot(struct kb_vm *vm, const struct kb_slot *slot)
{
    int result = slot->dirty == NULL ? 0 : kb_vm_dirty_log(vm, slot->number, slot->dirty);
    if (result >= 0)
        result = kb_vm_set_memory(vm, slot->number, 0, slot->guest_addr, 0, NULL);
    return result == -EINVAL || result == -ENOENT ? 0 : result;
}

static void undo(const struct kb_exchange *exchange, unsigned deleted, unsigned made)
{
    while (made > 0)
        delete_slot(exchange->vm, &exchange->made[--made]);
    while (deleted > 0)
        make_slot(exchange->vm, &exchange->deleted[--deleted]);
}

static int exchange_slots(const struct kb_exchange *exchange)
{
    unsigned deleted = 0, made = 0;
    int result = 0;
    while (deleted < exchange->deleted_count && (result = delete_slot(exchange->vm, &exchange->deleted[deleted])) >= 0)
        deleted++;
    while (result >= 0 && made < exchange->made_count && (result = make_slot(exchange->vm, &exchange->made[made])) >= 0)
        made++;
    if (result < 0)
        undo(exchange, deleted, made);
    return result;
}

static int set_file_size(int fd, uint64_t size)
{
    return ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

/* A file grows before slots show more of it, and shrinks when none shows what goes. */
static int change(const struct kb_exchange *exchanges, unsigned count, int memfd, uint64_t size, uint64_t new_size)
{
    unsigned done = 0;
    bool grows = memfd >= 0 && new_size > size, shrinks = memfd >= 0 && new_size < size;
    int result = grows ? set_file_size(memfd, new_size) : 0;
    while (result >= 0 && done < count && (result = exchange_slots(&exchanges[done])) >= 0)
        done++;
    if (result >= 0 && shrinks)
        result = set_file_size(memfd, new_size);
    if (result >= 0)
        return 0;
    while (done > 0) {
        done--;
        undo(&exchanges[done], exchanges[done].deleted_count, exchanges[done].made_count);
    }
    if (grows)
        set_file_size(memfd, size);
    return result;
}

/* Exchanges slots of VMs, and the size of the memfd that they show, unless that is -1: all of it or nothing. The vCPUs of
 * each VM that has slots deleted are paused meanwhile. *size and each VM's slots_version say whether it was done, also to
 * a caller who never sees the result because a signal handler raises first. */
int kb_exchange(const struct kb_exchange *exchanges, unsigned count, int memfd, uint64_t *size, uint64_t new_size)
{
    for (unsigned i = 0; i < count; i++)
        if (exchanges[i].deleted_count > 0)
            kb_vm_pause(exchanges[i].vm);
    int result = change(exchanges, count, memfd, *size, new_size);
    if (result == 0) {
        for (unsigned i = 0; i < count; i++)
            exchanges[i].vm->slots_version++;
        *size = new_size;
    }
    for (unsigned i = count; i-- > 0;)
        if (exchanges[i].deleted_count > 0)
            kb_vm_resume(exchanges[i].vm);
    return result;
}
