/* A vCPU's registers, read and written only when no instruction is half done. */
#include "shim.h"

#include <string.h>

static void pack(const struct kvm_regs *regs, uint64_t registers[18])
{
    const uint64_t ordered[18] = {
        regs->rax, regs->rcx, regs->rdx, regs->rbx, regs->rsp, regs->rbp, regs->rsi, regs->rdi, regs->r8,
        regs->r9, regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15, regs->rflags, regs->rip,
    };
    memcpy(registers, ordered, sizeof ordered);
}

static int get_registers(struct kb_vcpu *vcpu, uint64_t registers[18])
{
    struct kvm_regs regs;
    struct kvm_run *run = vcpu->run;
    bool completes = vcpu->access.completion_due && vcpu->access.next == vcpu->access.count && !vcpu->access.answer_due;
    int result;
    if (completes && vcpu->vm->sync_regs) {
        run->kvm_valid_regs = KVM_SYNC_X86_REGS; /* the KVM_RUN that completes hands them over */
        result = kb_vcpu_complete(vcpu);
        run->kvm_valid_regs = 0;
        regs = run->s.regs.regs;
    } else {
        if (completes && (result = kb_vcpu_complete(vcpu)) < 0)
            return result;
        result = kb_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
    }
    if (result >= 0)
        pack(&regs, registers);
    return result < 0 ? result : 0;
}

static int set_registers(struct kb_vcpu *vcpu, const uint64_t registers[17])
{
    struct kvm_regs regs;
    int result = kb_vcpu_complete(vcpu);
    if (result == 0 && vcpu->access.next < vcpu->access.count)
        result = -EBUSY;
    if (result == 0)
        result = kb_ioctl(vcpu->fd, KVM_GET_REGS, &regs);
    if (result < 0)
        return result;
    const uint64_t *r = registers;
    regs = (struct kvm_regs){
        .rax = r[0], .rcx = r[1], .rdx = r[2], .rbx = r[3], .rsp = r[4], .rbp = r[5], .rsi = r[6], .rdi = r[7],
        .r8 = r[8], .r9 = r[9], .r10 = r[10], .r11 = r[11], .r12 = r[12], .r13 = r[13], .r14 = r[14], .r15 = r[15],
        .rflags = r[16], .rip = regs.rip,
    };
    return kb_ioctl(vcpu->fd, KVM_SET_REGS, &regs);
}

/* While a read waits for its answer these are the registers before the instruction. */
int kb_vcpu_get_registers(struct kb_vcpu *vcpu, uint64_t registers[18])
{
    int result = kb_vcpu_begin(vcpu, 0);
    if (result == 0) {
        result = get_registers(vcpu, registers);
        kb_vcpu_end(vcpu);
    }
    return result;
}

/* RIP stays. -EBUSY while an access has elements or an answer to come: it would be lost. */
int kb_vcpu_set_registers(struct kb_vcpu *vcpu, const uint64_t registers[17])
{
    int result = kb_vcpu_begin(vcpu, 0);
    if (result == 0) {
        result = set_registers(vcpu, registers);
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
