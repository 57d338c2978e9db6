// Writes 0, 1, 2 ... to D0000h for ever: one exit for each, if that is no memory.
#include "_macros.S"

        .set DEVICE, 0xD000             // segment of the page

        mov     $DEVICE, %bx
        mov     %bx, %es
1:      mov     %al, %es:0
        inc     %al
        jmp     1b
