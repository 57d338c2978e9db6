// Counts vector 40h and answers it with a store to the bell at D0000h, as often as the dword at 7100h says.
#include "_macros.S"

        .set BELL, 0xD000               // segment of the bell's page
        .set LEFT, GATE

        own_stack
        mov     $BELL, %ax
        mov     %ax, %es
        install VECTOR, handler
        prepare_eoi
        ready
        idle

handler:
        incl    COUNT
        cmpl    $0, LEFT
        je      1f
        decl    LEFT
        mov     %eax, %es:0
1:      wrmsr
        iret
