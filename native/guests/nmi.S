// Counts non-maskable interrupts.
#include "_macros.S"

        own_stack
        install 2, handler
        ready
        idle

handler:
        incl    COUNT
        iret                            // an NMI has no end-of-interrupt; IRET lets the next one in
