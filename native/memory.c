/* Host mappings of guest memory. */
#include "shim.h"

#include <sys/mman.h>

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
