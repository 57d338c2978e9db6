/* The trigger of a bound interrupt: writes to eventfds, guarded so that none is closed under a writer. */
#include "shim.h"

#include <sched.h>
#include <unistd.h>

enum { UNARMED, ARMED, RETIRED };

static void fire(int eventfd)
{
    const uint64_t one = 1;
    /* Fails only with EAGAIN, on a counter that is full: then an edge is pending already. */
    ssize_t written = write(eventfd, &one, sizeof one);
    (void)written;
}

/* 0: fired; 1: not armed, the caller decides; -ECANCELED: retired. */
int kb_trigger_fire(struct kb_trigger *trigger)
{
    int result = 0;
    atomic_fetch_add(&trigger->users, 1);
    int state = atomic_load(&trigger->state);
    if (state == ARMED) {
        int extra = atomic_load(&trigger->extra_count);
        fire(trigger->eventfd);
        for (int i = 0; i < extra; i++)
            fire(trigger->extra[i]);
    } else {
        result = state == RETIRED ? -ECANCELED : 1;
    }
    atomic_fetch_sub(&trigger->users, 1);
    return result;
}

/* The caller serialises arm, add and retire. */
int kb_trigger_arm(struct kb_trigger *trigger, int eventfd)
{
    trigger->eventfd = eventfd;
    atomic_store(&trigger->state, ARMED);
    return 0;
}

/* -ENOSPC past KB_TRIGGER_EXTRA eventfds. trigger->extra is the caller's to allocate, before the first. */
int kb_trigger_add(struct kb_trigger *trigger, int eventfd)
{
    int count = atomic_load(&trigger->extra_count);
    if (count == KB_TRIGGER_EXTRA)
        return -ENOSPC;
    trigger->extra[count] = eventfd;
    atomic_store(&trigger->extra_count, count + 1);
    return 0;
}

/* When it returns no thread is writing and none will: the eventfds may be closed. */
void kb_trigger_retire(struct kb_trigger *trigger)
{
    atomic_store(&trigger->state, RETIRED);
    while (atomic_load(&trigger->users))
        sched_yield();
}
