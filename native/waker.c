/* Waking a thread that waits, and the loop over epoll that a port's wait is compared with. */
#include "shim.h"

#include <sys/epoll.h>
#include <unistd.h>

static void *waken(void *of)
{
    struct kb_waker *waker = of;
    const struct timespec gap = {.tv_nsec = (long)waker->gap_ns};
    for (unsigned round = 0; round < waker->rounds && !atomic_load(&waker->stop); round++) {
        uint64_t count;
        nanosleep(&gap, NULL); /* the other is asleep by then */
        waker->start[round] = kb_tsc();
        kb_eventfd_add(waker->eventfd, 1);
        kb_wait_readable(waker->awake, -1, INT64_MAX);
        kb_eventfd_drain(waker->awake, &count);
    }
    return NULL;
}

/* Starts a thread that writes `eventfd` so many times, each time a while after `awake` was written. */
int kb_waker_start(struct kb_waker *waker)
{
    return -pthread_create(&waker->thread, NULL, waken, waker);
}

/* Ends the thread. */
void kb_waker_stop(struct kb_waker *waker)
{
    atomic_store(&waker->stop, true);
    kb_eventfd_add(waker->awake, 1);
    pthread_join(waker->thread, NULL);
}

static int wait_and_take(int epoll_fd, int eventfd)
{
    struct epoll_event event;
    uint64_t count;
    int result;
    do
        result = epoll_wait(epoll_fd, &event, 1, -1);
    while (result < 0 && errno == EINTR);
    return result < 0 || read(eventfd, &count, sizeof count) < 0 ? -errno : 0;
}

/* woken: the TSC when each wait on epoll_fd, which looks at the waker's eventfd, is over. */
int kb_measure_wakes(int epoll_fd, struct kb_waker *waker, uint64_t *woken)
{
    int result = kb_waker_start(waker);
    if (result < 0)
        return result;
    for (unsigned round = 0; round < waker->rounds && result >= 0; round++) {
        result = wait_and_take(epoll_fd, waker->eventfd);
        woken[round] = kb_tsc();
        kb_eventfd_add(waker->awake, 1);
    }
    kb_waker_stop(waker);
    return result;
}
