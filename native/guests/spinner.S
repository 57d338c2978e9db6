// Counts vector 40h, per VCPU, and never sleeps: an endless loop with interrupts on.
#include "_macros.S"

        own_stack
        own_counter
        install VECTOR, handler
        prepare_eoi
        ready
        sti
1:      pause
        jmp     1b

handler:
        incl    (%bx)
        wrmsr
        iret
