/* The gate in front of KVM_RUN: while a VM is paused none of its vCPUs is in it, and none has left kb_vcpu_enter. */
#include "shim.h"

void kb_gate_add(struct kb_vcpu *vcpu)
{
    struct kb_vm *vm = vcpu->vm;
    pthread_mutex_lock(&vm->lock);
    vcpu->next = vm->vcpus;
    vm->vcpus = vcpu;
    pthread_mutex_unlock(&vm->lock);
}

void kb_gate_remove(struct kb_vcpu *vcpu)
{
    struct kb_vm *vm = vcpu->vm;
    pthread_mutex_lock(&vm->lock);
    for (struct kb_vcpu **link = &vm->vcpus; *link != NULL; link = &(*link)->next)
        if (*link == vcpu) {
            *link = vcpu->next;
            break;
        }
    pthread_mutex_unlock(&vm->lock);
}

static void wait_while_paused(struct kb_vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    while (atomic_load(&vm->paused))
        pthread_cond_wait(&vm->changed, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
}

/* The vCPU shows itself and then looks at `paused`; the pauser sets `paused` and then looks who is there: one of them
 * sees the other. Nobody who runs takes a lock. */
void kb_gate_pass(struct kb_vcpu *vcpu)
{
    for (;;) {
        atomic_store(&vcpu->gate_passed, true);
        if (!atomic_load(&vcpu->vm->paused)) {
            if (!atomic_load(&vcpu->vm->entered))
                atomic_store(&vcpu->vm->entered, true);
            return;
        }
        kb_gate_leave(vcpu);
        wait_while_paused(vcpu->vm);
    }
}

void kb_gate_leave(struct kb_vcpu *vcpu)
{
    struct kb_vm *vm = vcpu->vm;
    atomic_store(&vcpu->gate_passed, false);
    if (atomic_load(&vm->paused)) {
        pthread_mutex_lock(&vm->lock);
        pthread_cond_broadcast(&vm->changed);
        pthread_mutex_unlock(&vm->lock);
    }
}

static struct kb_vcpu *one_inside(struct kb_vm *vm)
{
    for (struct kb_vcpu *vcpu = vm->vcpus; vcpu != NULL; vcpu = vcpu->next)
        if (atomic_load(&vcpu->gate_passed))
            return vcpu;
    return NULL;
}

/* Returns when no vCPU of the VM is in KVM_RUN. A vCPU past the gate finds `paused` set when it looks after it has
 * cleared immediate_exit; one that had looked before finds the immediate_exit that is stored here. */
void kb_vm_pause(struct kb_vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    atomic_fetch_add(&vm->paused, 1);
    for (struct kb_vcpu *vcpu = vm->vcpus; vcpu != NULL; vcpu = vcpu->next) {
        pthread_mutex_lock(&vcpu->lock);
        if (atomic_load(&vcpu->gate_passed))
            kb_stop(vcpu);
        pthread_mutex_unlock(&vcpu->lock);
    }
    while (one_inside(vm) != NULL)
        pthread_cond_wait(&vm->changed, &vm->lock);
    pthread_mutex_unlock(&vm->lock);
}

void kb_vm_resume(struct kb_vm *vm)
{
    pthread_mutex_lock(&vm->lock);
    if (atomic_fetch_sub(&vm->paused, 1) == 1)
        pthread_cond_broadcast(&vm->changed);
    pthread_mutex_unlock(&vm->lock);
}

/* Whether a vCPU has passed. While the VM is paused that stays so. */
int kb_vm_entered(struct kb_vm *vm)
{
    return atomic_load(&vm->entered);
}
