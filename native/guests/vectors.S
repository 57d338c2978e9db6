// Counts each vector from 20h to FFh by itself.
#include "_macros.S"

        .set FIRST, 0x20
        .set STUB, 9                    // bytes a stub takes

        own_stack
        mov     $stubs, %ax
        mov     $4 * FIRST, %di
1:      mov     %ax, (%di)
        mov     %cs, 2(%di)
        add     $STUB, %ax
        add     $4, %di
        cmp     $4 * 0x100, %di
        jne     1b
        prepare_eoi
        ready
        idle

stubs:
        .set vector, FIRST
        .rept 0x100 - FIRST
        .org    stubs + STUB * (vector - FIRST)         // an error if a stub ever outgrows its bytes
        lock incl COUNT + 4 * vector                    // several VCPUs may take the same vector
        wrmsr
        iret
        .set vector, vector + 1
        .endr
