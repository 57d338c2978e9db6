// Stores the time-stamp counter at which vector 40h arrived, per VCPU, and counts it; the byte at 7100h says how.
#include "_macros.S"

        .set STAMP, 0x9000              // 8 bytes per APIC id
        .set BELL, 0xD000               // segment of the bell's page
        .set MODE, GATE
        .set SPINS, 1                   // an endless loop with interrupts on instead of HLT
        .set RINGS, 2                   // stores to D0000h when it has counted
        .set BARE, 4                    // there is no local APIC: the only VCPU ends nothing

        testb   $BARE, MODE
        jnz     1f
        own_stack
        jmp     2f
1:      xor     %si, %si
        mov     $STACK + 64, %sp
2:      own_counter
        mov     %si, %di
        shl     $3, %di
        add     $STAMP, %di
        mov     $BELL, %ax
        mov     %ax, %es
        install VECTOR, handler
        mov     $X2APIC_EOI, %ecx
        ready
        sti
        testb   $SPINS, MODE
        jnz     2f
1:      hlt
        jmp     1b
2:      pause
        jmp     2b

handler:
        rdtsc                           // the first instruction: nothing of the handler is in the time
        mov     %eax, (%di)
        mov     %edx, 4(%di)
        incl    (%bx)                   // who sees the count sees the stamp
        testb   $RINGS, MODE
        jz      1f
        mov     %eax, %es:0
1:      testb   $BARE, MODE
        jnz     2f
        xor     %eax, %eax
        xor     %edx, %edx
        wrmsr
2:      iret
