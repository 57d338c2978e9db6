// Rings the bell at D0000h at vector 40h, then stores the time-stamp counter from just before that, and counts.
#include "_macros.S"

        .set STAMP, 0x9000
        .set BELL, 0xD000               // segment of the bell's page

        own_stack
        mov     $BELL, %ax
        mov     %ax, %es
        install VECTOR, handler
        mov     $X2APIC_EOI, %ecx
        ready
        idle

handler:
        rdtsc
        mov     %eax, %es:0
        mov     %eax, STAMP
        mov     %edx, STAMP + 4
        incl    COUNT                   // last: who sees the count sees the stamp
        xor     %eax, %eax
        xor     %edx, %edx
        wrmsr
        iret
