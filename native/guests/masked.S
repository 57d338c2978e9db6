// Keeps interrupts off until the host opens the gate, then counts vector 40h.
#include "_macros.S"

        cli
        own_stack
        install VECTOR, handler
        prepare_eoi
        ready
1:      pause
        cmpl    $0, GATE
        je      1b
        idle

handler:
        incl    COUNT
        wrmsr
        iret
