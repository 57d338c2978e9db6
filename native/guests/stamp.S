// Stores the time-stamp counter at which vector 40h arrived, then counts it.
#include "_macros.S"

        .set STAMP, 0x9000

        own_stack
        install VECTOR, handler
        mov     $X2APIC_EOI, %ecx
        ready
        idle

handler:
        rdtsc                           // the first instruction: nothing of the handler is in the time
        mov     %eax, STAMP
        mov     %edx, STAMP + 4
        incl    COUNT                   // last: who sees the count sees the stamp
        xor     %eax, %eax
        xor     %edx, %edx
        wrmsr
        iret
