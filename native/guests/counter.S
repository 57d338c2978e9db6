// Counts vector 40h, per VCPU, and sleeps in HLT between interrupts.
#include "_macros.S"

        own_stack
        own_counter
        install VECTOR, handler
        prepare_eoi
        ready
        idle

handler:
        incl    (%bx)
        wrmsr
        iret
