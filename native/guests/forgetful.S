// Counts vector 40h but never ends it: a faithful local APIC lets one through.
#include "_macros.S"

        own_stack
        install VECTOR, handler
        ready
        idle

handler:
        incl    COUNT
        iret                            // the missing WRMSR is the point
