/* Sleeping in the kernel, and the eventfd calls that must not block. */
#include "shim.h"

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Newer than the C libraries that have it not; the number is the kernel's ABI, Linux 5.11. */
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif

int64_t kb_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

/* What is left until the deadline; of INT64_MAX centuries. */
struct timespec kb_until(int64_t deadline_ns)
{
    int64_t now = kb_now_ns(), rest = deadline_ns > now ? deadline_ns - now : 0;
    return (struct timespec){rest / 1000000000, rest % 1000000000};
}

/* ppoll, whose timeout a signal's handler may shorten until the kernel reads it: the C library's would keep a copy. */
int kb_poll(struct pollfd *fds, unsigned count, struct timespec *timeout)
{
    long result = syscall(SYS_ppoll, fds, count, timeout, NULL, (size_t)0);
    return result < 0 ? -errno : (int)result;
}

/* Sleeps until fd (1) or cancel_fd (2; -1 for none) is readable, or the deadline (0; INT64_MAX for none). -EINTR: Python
 * has a signal to handle. */
int kb_wait_readable(int fd, int cancel_fd, int64_t deadline_ns)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
    struct timespec timeout = kb_until(deadline_ns);
    struct kb_thread *thread = kb_thread_sleep(&timeout);
    int result = kb_thread_signalled(thread) ? -EINTR : kb_poll(fds, 2, &timeout);
    kb_thread_leave(thread);
    if (result == 0 && kb_now_ns() < deadline_ns)
        return -EINTR;
    return result > 0 ? (fds[1].revents ? 2 : 1) : result;
}

/* The fd that waited longest of those that are ready, or -EAGAIN. */
static int ready(int epoll_fd)
{
    struct epoll_event event;
    int count = epoll_wait(epoll_fd, &event, 1, 0);
    return count > 0 ? event.data.fd : count < 0 ? -errno : -EAGAIN;
}

static int ready_of(int first_fd, int fd)
{
    int found = first_fd >= 0 ? ready(first_fd) : -EAGAIN;
    return found == -EAGAIN ? ready(fd) : found;
}

static int epoll_once(int fd, struct timespec *timeout)
{
    struct epoll_event event = {.data.fd = -EAGAIN};
    long result = syscall(SYS_epoll_pwait2, fd, &event, 1, timeout, NULL, (size_t)0);
    if (result < 0 && errno == ENOSYS) {
        struct pollfd epoll = {.fd = fd, .events = POLLIN};
        result = kb_poll(&epoll, 1, timeout);
        return result < 0 ? (int)result : -EAGAIN;
    }
    return result < 0 ? -errno : event.data.fd;
}

/* The fd that has become ready, or -EAGAIN when one may have or the sleep has ended for another reason, or -errno. */
static int sleep_on_epoll(int fd, int64_t deadline_ns)
{
    struct timespec timeout = kb_until(deadline_ns);
    struct kb_thread *thread = kb_thread_sleep(&timeout);
    int result = kb_thread_signalled(thread) ? -EINTR : epoll_once(fd, &timeout);
    kb_thread_leave(thread);
    return result;
}

/* Sleeps until an fd that the epoll fd looks at is ready, and returns it; first_fd (-1 for none) is another epoll fd, in
 * the first, whose fds go before all others. -ETIMEDOUT; -EINTR: Python has a signal to handle. */
int kb_wait_epoll(int first_fd, int fd, int64_t deadline_ns)
{
    for (;;) {
        int found = ready_of(first_fd, fd);
        if (found == -EAGAIN) {
            found = deadline_ns <= kb_now_ns() ? -ETIMEDOUT : sleep_on_epoll(fd, deadline_ns);
            if (found >= 0 && first_fd >= 0)
                continue; /* one of the first may have become ready too */
        }
        if (found != -EAGAIN && (found < 0 || found != first_fd))
            return found;
    }
}

/* Takes the count of an eventfd, 0 if there is none. RWF_NOWAIT, because O_NONBLOCK would be set for everybody who
 * shares the file. */
int kb_eventfd_drain(int fd, uint64_t *count)
{
    struct iovec vector = {.iov_base = count, .iov_len = sizeof *count};
    *count = 0;
    if (preadv2(fd, &vector, 1, -1, RWF_NOWAIT) >= 0)
        return 0;
    if (errno == EAGAIN) {
        *count = 0;
        return 0;
    }
    return -errno;
}

int kb_eventfd_add(int fd, uint64_t count)
{
    return write(fd, &count, sizeof count) < 0 ? -errno : 0;
}

uint32_t kb_read_u32(const void *host)
{
    return __atomic_load_n((const uint32_t *)host, __ATOMIC_SEQ_CST);
}

enum {
    WATCH_NS = 50 * 1000,              /* an answer from a guest that is awake comes within this time */
    NAP_MIN_NS = 20 * 1000,
    NAP_MAX_NS = 1000 * 1000,
    TURN_NS = 50 * 1000 * 1000,        /* Python looks at its signals at least this often */
};

/* 1: the guest's counter has come to at_least; 0: the deadline; -EINTR: call again. A store by a guest
 * wakes nobody, so after a short watch this thread naps, ever longer. */
int kb_wait_u32(const void *host, uint32_t at_least, int64_t deadline_ns)
{
    int64_t start = kb_now_ns(), now = start, nap = NAP_MIN_NS;
    for (;;) {
        if (kb_read_u32(host) >= at_least)
            return 1;
        now = kb_now_ns();
        if (now >= deadline_ns)
            return 0;
        if (now - start >= TURN_NS)
            return -EINTR;
        if (now - start < WATCH_NS) {
            __builtin_ia32_pause();
            continue;
        }
        struct timespec rest = {.tv_nsec = nap < deadline_ns - now ? nap : deadline_ns - now};
        if (nanosleep(&rest, NULL) < 0)
            return -EINTR;
        nap = nap * 3 / 2 < NAP_MAX_NS ? nap * 3 / 2 : NAP_MAX_NS;
    }
}
