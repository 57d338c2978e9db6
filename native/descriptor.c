/* Fds that are stored where their owner finds them before Python can raise: a signal handler may raise right behind the
 * call that made one. Each function stores the new fd at *fd. */
#include "shim.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static int keep(int *fd, int made)
{
    if (made < 0)
        return -errno;
    *fd = made;
    return 0;
}

/* Close-on-exec, and writes never block. */
int kb_eventfd_open(int *fd, int semaphore)
{
    return keep(fd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | (semaphore ? EFD_SEMAPHORE : 0)));
}

int kb_duplicate(int *fd, int of)
{
    return keep(fd, fcntl(of, F_DUPFD_CLOEXEC, 3));
}

/* One that nobody can make executable: with vm.memfd_noexec=2, Linux 6.3 to 6.5 refuse all others. Linux before 6.3 does
 * not know the flag. */
static int create_memfd(const char *name)
{
    int made = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    return made < 0 && errno == EINVAL ? memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING) : made;
}

/* One that is not resizable is sealed: whoever else has it cannot shrink it under a guest. */
int kb_memfd_open(int *fd, const char *name, uint64_t size, int resizable)
{
    int seals = resizable ? 0 : F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    int result = keep(fd, create_memfd(name));
    if (result == 0 && (ftruncate(*fd, (off_t)size) < 0 || fcntl(*fd, F_ADD_SEALS, seals) < 0)) {
        result = -errno;
        kb_close(fd);
    }
    return result;
}

/* Closes *fd, which may be -1, and makes it -1. */
void kb_close(int *fd)
{
    int open = *fd;
    *fd = -1;
    if (open >= 0)
        close(open);
}
