/* What the owner reads and writes of its vCPU between exits: when no instruction is half done. */
#include "shim.h"

#include <string.h>

/* Finishes the instruction whose exit was answered. While an answer or elements are to come there is nothing to finish:
 * the state is that before the instruction. The KVM_RUN that finishes it leaves the registers in the run page, which
 * saves the calls that would read them. */
static int settle(struct kb_vcpu *vcpu)
{
    bool sync = vcpu->vm->sync_regs && vcpu->access.completion_due;
    if (sync)
        vcpu->run->kvm_valid_regs = KB_SYNCED;
    int result = kb_vcpu_complete(vcpu);
    vcpu->run->kvm_valid_regs = vcpu->keeps ? KB_SYNCED : 0;
    if (sync && result == 0)
        vcpu->synced = true;
    return result == -EBUSY ? 0 : result;
}

/* What the run page has of it, or NULL. */
static const void *synced_state(const struct kb_vcpu *vcpu, unsigned long request)
{
    if (vcpu->synced && request == KVM_GET_REGS)
        return &vcpu->run->s.regs.regs;
    if (vcpu->synced && request == KVM_GET_SREGS)
        return &vcpu->run->s.regs.sregs;
    return NULL;
}

static int get_state(struct kb_vcpu *vcpu, unsigned long request, void *state)
{
    int result = settle(vcpu);
    if (result < 0)
        return result;
    const void *synced = synced_state(vcpu, request);
    if (synced != NULL) {
        memcpy(state, synced, _IOC_SIZE(request));
        return 0;
    }
    vcpu->synced = false; /* a call that reads may change something: KVM_GET_MP_STATE takes a pending INIT */
    return kb_ioctl(vcpu->fd, request, state);
}

static int set_state(struct kb_vcpu *vcpu, unsigned long request, void *state)
{
    int result = kb_vcpu_complete(vcpu);
    if (result < 0)
        return result;
    if (vcpu->access.next < vcpu->access.count)
        return -EBUSY;
    vcpu->synced = false;
    result = kb_ioctl(vcpu->fd, request, state);
    if (result >= 0 && (request == KVM_SET_REGS || request == KVM_SET_SREGS))
        kb_vcpu_revive(vcpu);
    return result;
}

/* From now on KVM_RUN leaves the registers in the run page, and each exit that is an access keeps a copy. -EOPNOTSUPP:
 * this KVM cannot. */
int kb_vcpu_keep_state(struct kb_vcpu *vcpu)
{
    int result = kb_vcpu_begin(vcpu, 0);
    if (result < 0)
        return result;
    vcpu->keeps = vcpu->vm->sync_regs;
    vcpu->run->kvm_valid_regs = vcpu->keeps ? KB_SYNCED : 0;
    kb_vcpu_end(vcpu);
    return vcpu->keeps ? 0 : -EOPNOTSUPP;
}

/* What the KVM_GET_REGS or KVM_GET_SREGS `request` would have told at the last exit that was an access. -ENODATA: there
 * has been none since kb_vcpu_keep_state. */
int kb_vcpu_kept_state(struct kb_vcpu *vcpu, unsigned long request, void *state)
{
    int result = kb_vcpu_begin(vcpu, 0);
    if (result < 0)
        return result;
    if (!vcpu->kept)
        result = -ENODATA;
    else if (request == KVM_GET_REGS)
        memcpy(state, &vcpu->kept_regs, sizeof vcpu->kept_regs);
    else
        memcpy(state, &vcpu->kept_sregs, sizeof vcpu->kept_sregs);
    kb_vcpu_end(vcpu);
    return result;
}

/* The KVM_GET_ call `request` of the vCPU's fd. */
int kb_vcpu_get_state(struct kb_vcpu *vcpu, unsigned long request, void *state)
{
    int result = kb_vcpu_begin(vcpu, 0);
    if (result == 0) {
        result = get_state(vcpu, request, state);
        kb_vcpu_end(vcpu);
    }
    return result;
}

/* The KVM_SET_ call `request` of the vCPU's fd. -EBUSY while an access has elements or an answer to come: what is written
 * would be lost. */
int kb_vcpu_set_state(struct kb_vcpu *vcpu, unsigned long request, void *state)
{
    int result = kb_vcpu_begin(vcpu, 0);
    if (result == 0) {
        result = set_state(vcpu, request, state);
        kb_vcpu_end(vcpu);
    }
    return result;
}

/* Where the vCPU is, for a person to read: nothing is completed for it. */
int kb_vcpu_code_position(struct kb_vcpu *vcpu, uint16_t *cs, uint64_t *cs_base, uint64_t *ip)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs;
    int result = kb_vcpu_begin(vcpu, 0);
    if (result < 0)
        return result;
    result = kb_ioctl(vcpu->fd, KVM_GET_SREGS, &sregs);
    if (result >= 0)
        result = kb_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
    kb_vcpu_end(vcpu);
    if (result < 0)
        return result;
    *cs = sregs.cs.selector;
    *cs_base = sregs.cs.base;
    *ip = regs.rip;
    return 0;
}
