/* Bells: what the kernel has counted and what came as exits, handed out one by one in the order of the stores. */
#include "shim.h"

#include <unistd.h>

void kb_bell_init(struct kb_bell *bell, uint64_t addr, int eventfd, int room_fd)
{
    bell->addr = addr;
    bell->eventfd = eventfd;
    bell->room_fd = room_fd;
    pthread_mutex_init(&bell->lock, NULL);
}

/* There is always a place: before each ring by exit stands at most one entry of the kernel's count, and one behind all. */
static void push(struct kb_bell *bell, struct kb_rings rings)
{
    bell->queue[(bell->first + bell->length) % KB_BELL_QUEUE] = rings;
    bell->length++;
}

static struct kb_rings *last(struct kb_bell *bell)
{
    return &bell->queue[(bell->first + bell->length - 1) % KB_BELL_QUEUE];
}

/* Moves what the kernel has counted into the queue, and the mark away. */
static int collect(struct kb_bell *bell)
{
    uint64_t count;
    int result = kb_eventfd_drain(bell->eventfd, &count);
    if (result < 0)
        return result;
    count -= bell->marked;
    bell->marked = false;
    if (count == 0)
        return 0;
    if (bell->length > 0 && !last(bell)->by_exit)
        last(bell)->count += count;
    else
        push(bell, (struct kb_rings){.addr = bell->addr, .count = count});
    return 0;
}

/* Keeps the eventfd readable while the queue has rings. Writing fails only on a counter that is full: it is readable. */
static void mark(struct kb_bell *bell)
{
    if (bell->length == 0 || bell->marked)
        return;
    bell->marked = true;
    kb_eventfd_add(bell->eventfd, 1);
}

static int ring(struct kb_bell *bell, uint64_t addr)
{
    uint64_t stale;
    if (bell->closed)
        return -EPIPE;
    if (bell->by_exit == KB_BELL_EXITS_MAX) {
        int result = kb_eventfd_drain(bell->room_fd, &stale);
        return result < 0 ? result : -EAGAIN;
    }
    int result = collect(bell); /* this vCPU stored them before */
    if (result < 0)
        return result;
    push(bell, (struct kb_rings){.addr = addr, .count = 1, .by_exit = true});
    bell->by_exit++;
    mark(bell);
    return 0;
}

/* A store that came as an exit. -EAGAIN: the queue is full, room_fd becomes readable when it is not; -EPIPE: closed. */
int kb_bell_ring(struct kb_bell *bell, uint64_t addr)
{
    pthread_mutex_lock(&bell->lock);
    int result = ring(bell, addr);
    pthread_mutex_unlock(&bell->lock);
    return result;
}

static void pop(struct kb_bell *bell)
{
    struct kb_rings *rings = &bell->queue[bell->first];
    if (rings->by_exit && bell->by_exit-- == KB_BELL_EXITS_MAX)
        kb_eventfd_add(bell->room_fd, 1);
    if (--rings->count == 0) {
        bell->first = (bell->first + 1) % KB_BELL_QUEUE;
        bell->length--;
    }
}

static int take(struct kb_bell *bell, uint64_t *addr)
{
    int result = bell->length == 0 ? collect(bell) : 0;
    if (result < 0 || bell->length == 0)
        return result;
    *addr = bell->queue[bell->first].addr;
    pop(bell);
    if (bell->length == 0 && bell->marked)
        result = collect(bell);
    mark(bell);
    return result < 0 ? result : 1;
}

/* 1: the oldest ring is taken; 0: none waits. */
int kb_bell_take(struct kb_bell *bell, uint64_t *addr)
{
    pthread_mutex_lock(&bell->lock);
    int result = take(bell, addr);
    pthread_mutex_unlock(&bell->lock);
    return result;
}

/* Nobody takes rings any more: those that wait are dropped, further ones by exit are -EPIPE, and a vCPU that waits for
 * room learns of it. */
void kb_bell_close(struct kb_bell *bell)
{
    pthread_mutex_lock(&bell->lock);
    bell->closed = true;
    bell->length = 0;
    kb_eventfd_add(bell->room_fd, 1);
    pthread_mutex_unlock(&bell->lock);
}
