/* How a signal stops a vCPU or ends a sleep, whenever it comes.
 *
 * A signal that arrives between two system calls interrupts neither, so every handler here stores immediate_exit into
 * the run page that its thread is in, and zero into the timeout of the sleep that it is about to begin: the next KVM_RUN
 * returns EINTR at once, the next sleep ends at once. Kicks use a signal of their own. In front of the handler of each
 * signal that Python handles stands front(), which calls it and then does the same for the main thread, where Python
 * runs its half of the handler.
 */
#include "shim.h"

#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* glibc keeps room for a few bytes of static TLS in every thread, which a handler may touch; elsewhere the first
 * access may allocate, and has happened in kb_thread_enter before a kick is sent. */
#ifdef __GLIBC__
#define HANDLER_TLS __thread __attribute__((tls_model("initial-exec")))
#else
#define HANDLER_TLS __thread
#endif

static HANDLER_TLS struct kb_thread this_thread;

static void (*_Atomic python_handler)(int);
static atomic_bool signalled;   /* Python has been told of a signal since the main thread looked last */
static atomic_bool main_inside; /* the main thread is in the shim and must be woken for it */

int kb_kick_signal(void)
{
    return SIGRTMIN + 4;
}

static void stop_this_thread(void)
{
    struct kb_vcpu *vcpu = this_thread.vcpu;
    volatile struct timespec *sleep = this_thread.sleep;
    if (vcpu != NULL)
        __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (sleep != NULL)
        sleep->tv_sec = sleep->tv_nsec = 0;
}

static void on_kick(int signo)
{
    (void)signo;
    stop_this_thread();
}

static void front(int signo)
{
    int saved = errno;
    void (*handler)(int) = atomic_load(&python_handler);
    handler(signo);
    atomic_store(&signalled, true);
    if (syscall(SYS_gettid) == getpid())
        stop_this_thread();
    else if (atomic_load(&main_inside))
        syscall(SYS_tgkill, getpid(), getpid(), kb_kick_signal());
    errno = saved;
}

/* -EBUSY: somebody else handles the kick signal. */
int kb_kick_install(void)
{
    struct sigaction action;
    if (sigaction(kb_kick_signal(), NULL, &action) < 0)
        return -errno;
    if (action.sa_handler == on_kick)
        return 0;
    if (action.sa_handler != SIG_DFL)
        return -EBUSY;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_kick;
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    return sigaction(kb_kick_signal(), &action, NULL) < 0 ? -errno : 0;
}

/* Makes a timer on CLOCK_MONOTONIC that sends the kick signal to a thread of this process. */
int kb_kick_timer(timer_t *timer, pid_t tid)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = kb_kick_signal()};
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
    event.sigev_notify_thread_id = tid;
    return timer_create(CLOCK_MONOTONIC, &event, timer) < 0 ? -errno : 0;
}

/* signo must have a handler written in Python: its C handler is the one that Python installs for every such signal. */
int kb_signals_learn(int signo)
{
    struct sigaction action;
    if (sigaction(signo, NULL, &action) < 0)
        return -errno;
    if (action.sa_handler == front)
        return 0;
    if (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN || action.sa_flags & SA_SIGINFO)
        return -EINVAL; /* no handler, or none of Python's */
    atomic_store(&python_handler, action.sa_handler);
    return 0;
}

static void stand_in_front(int signo)
{
    struct sigaction action;
    if (sigaction(signo, NULL, &action) < 0 || action.sa_handler != atomic_load(&python_handler))
        return;
    action.sa_handler = front;
    sigaction(signo, &action, NULL);
    atomic_store(&signalled, true); /* one may have come just before: Python looks, and calls again */
}

enum {
    LOOK_EVERY_NS = 10 * 1000 * 1000,
    WAKE_AFTER_NS = 30 * 1000 * 1000, /* more than LOOK_EVERY_NS and a tick of the coarse clock */
};

/* The main thread's alone. */
static struct {
    int64_t looked_ns; /* when all signals were looked at */
    timer_t timer;
    bool has_timer;
    bool wake_due;     /* the timer was set since then */
} look;

/* Sends the main thread a kick signal when the next look is due. */
static void wake_for_look(void)
{
    struct itimerspec when = {.it_value.tv_nsec = WAKE_AFTER_NS};
    if (look.wake_due)
        return;
    if (!look.has_timer && kb_kick_timer(&look.timer, getpid()) < 0)
        return;
    look.has_timer = true;
    look.wake_due = timer_settime(look.timer, 0, &when, NULL) == 0;
}

/* A look at all signals costs 62 system calls, so it is made once in a while. A handler that Python has installed since
 * then is still heard: its signal interrupts KVM_RUN, which run_guest takes for Python's; and one that comes just before
 * KVM_RUN waits for the timer, which interrupts it too. */
static void keep_in_front(void)
{
    struct timespec now;
    if (atomic_load(&python_handler) == NULL)
        return;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    int64_t now_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    if (now_ns - look.looked_ns < LOOK_EVERY_NS) {
        wake_for_look();
        return;
    }
    look.looked_ns = now_ns;
    look.wake_due = false;
    for (int signo = 1; signo <= SIGRTMAX; signo++)
        stand_in_front(signo);
}

struct kb_thread *kb_thread_self(void)
{
    static atomic_uint_fast64_t serials;
    struct kb_thread *thread = &this_thread;
    if (thread->serial == 0) {
        thread->tid = (pid_t)syscall(SYS_gettid);
        thread->is_main = thread->tid == getpid();
        thread->serial = atomic_fetch_add(&serials, 1) + 1;
    }
    return thread;
}

/* The main thread's: from now on every handler of Python's, whichever thread it runs in, wakes it. */
static void come_inside(void)
{
    keep_in_front();
    atomic_store(&main_inside, true);
}

static void unblock_kick(void)
{
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, kb_kick_signal());
    pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
}

/* From here on a kick or, on the main thread, a signal for Python stops the vCPU. */
struct kb_thread *kb_thread_enter(struct kb_vcpu *vcpu)
{
    struct kb_thread *thread = kb_thread_self();
    if (thread->is_main)
        come_inside();
    thread->vcpu = vcpu;
    unblock_kick(); /* at each enter: the thread may have blocked it meanwhile */
    return thread;
}

/* From here on they end the sleep that has this timeout, which the kernel reads when it begins: by a timeout, or -EINTR. */
struct kb_thread *kb_thread_sleep(struct timespec *timeout)
{
    struct kb_thread *thread = kb_thread_self();
    if (thread->is_main) {
        come_inside();
        unblock_kick();
    }
    thread->sleep = timeout;
    return thread;
}

void kb_thread_leave(struct kb_thread *thread)
{
    thread->vcpu = NULL;
    thread->sleep = NULL;
    if (thread->is_main)
        atomic_store(&main_inside, false);
}

bool kb_thread_signalled(struct kb_thread *thread)
{
    return thread->is_main && atomic_exchange(&signalled, false);
}

/* Makes the KVM_RUN of now, or the next one, return EINTR. The caller holds vcpu->lock, and it is not closed. */
void kb_stop(struct kb_vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (vcpu->tid != 0)
        syscall(SYS_tgkill, getpid(), vcpu->tid, kb_kick_signal());
}

/* In the child: its one thread has a new id and is in no vCPU. */
void kb_signals_after_fork(void)
{
    memset(&this_thread, 0, sizeof this_thread);
    memset(&look, 0, sizeof look); /* a timer is not inherited */
    atomic_store(&main_inside, false);
}
