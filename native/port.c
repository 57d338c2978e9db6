/* A port's sleep: woken by a bell, its packet is taken at once; who else has become ready is Python's to ask. */
#include "shim.h"

#include <stdlib.h>
#include <string.h>

void kb_port_init(struct kb_port *port, int epoll_fd, int first_fd)
{
    port->epoll_fd = epoll_fd;
    port->first_fd = first_fd;
    pthread_mutex_init(&port->lock, NULL);
    pthread_cond_init(&port->idle, NULL);
}

static int make_room(struct kb_port *port, size_t room)
{
    if (room <= port->room)
        return 0;
    struct kb_port_bell *bells = realloc(port->bells, room * sizeof *bells);
    if (bells == NULL)
        return -ENOMEM;
    memset(bells + port->room, 0, (room - port->room) * sizeof *bells);
    port->bells = bells;
    port->room = room;
    return 0;
}

/* The port's epoll fd looks at the bell's eventfd already, or will. */
int kb_port_add(struct kb_port *port, struct kb_bell *bell, uint64_t key)
{
    size_t place = (size_t)bell->eventfd;
    pthread_mutex_lock(&port->lock);
    int result = make_room(port, place + 1);
    if (result == 0)
        port->bells[place] = (struct kb_port_bell){.bell = bell, .key = key};
    pthread_mutex_unlock(&port->lock);
    return result;
}

/* From now on nobody takes from the bell. */
void kb_port_remove(struct kb_port *port, const struct kb_bell *bell)
{
    size_t place = (size_t)bell->eventfd;
    pthread_mutex_lock(&port->lock);
    if (place < port->room && port->bells[place].bell == bell)
        port->bells[place].bell = NULL;
    pthread_mutex_unlock(&port->lock);
}

/* 1: packet has the bell's; 0: it has none any more; -ENOENT: the fd is no bell's. */
static int take(struct kb_port *port, int fd, struct kb_packet *packet)
{
    size_t place = (size_t)fd;
    if (place >= port->room || port->bells[place].bell == NULL)
        return -ENOENT;
    *packet = (struct kb_packet){.key = port->bells[place].key, .type = KB_PACKET_GUEST_BELL};
    return kb_bell_take(port->bells[place].bell, &packet->bell.addr);
}

static int sleep_and_take(struct kb_port *port, struct kb_packet *packet, int64_t deadline_ns)
{
    for (;;) {
        pthread_mutex_unlock(&port->lock);
        int fd = kb_wait_epoll(port->first_fd, port->epoll_fd, deadline_ns);
        pthread_mutex_lock(&port->lock);
        if (fd < 0)
            return fd;
        int result = take(port, fd, packet);
        if (result == -ENOENT)
            return fd;
        if (result != 0)
            return result < 0 ? result : KB_PORT_PACKET;
    }
}

/* KB_PORT_PACKET: packet is a bell's; else an fd that is ready and no bell's, or -errno of kb_wait_epoll. -EBADF: it is
 * closed. */
int kb_port_wait(struct kb_port *port, struct kb_packet *packet, int64_t deadline_ns)
{
    int result = -EBADF;
    pthread_mutex_lock(&port->lock);
    if (!port->closed) {
        port->sleepers++;
        result = sleep_and_take(port, packet, deadline_ns);
        if (--port->sleepers == 0 && port->closed)
            pthread_cond_broadcast(&port->idle);
    }
    pthread_mutex_unlock(&port->lock);
    return result;
}

/* Waits until nobody sleeps in here: from then on its fds may be closed. An fd that stays readable wakes those who do. */
void kb_port_close(struct kb_port *port)
{
    pthread_mutex_lock(&port->lock);
    port->closed = true;
    while (port->sleepers > 0)
        pthread_cond_wait(&port->idle, &port->lock);
    pthread_mutex_unlock(&port->lock);
}

void kb_port_free(struct kb_port *port)
{
    free(port->bells);
    port->bells = NULL;
    port->room = 0;
}
