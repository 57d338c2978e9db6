// Writes, reads and a read-modify-write of each width in the page at D0000h, which has no memory behind it.
#include "_macros.S"

        mov     $0xD000, %ax
        mov     %ax, %ds
        movb    $0x11, 0
        movw    $0x2233, 2
        movl    $0x44556677, 4
        movb    8, %al
        movb    %al, %es:0x6000
        movw    10, %ax
        movw    %ax, %es:0x6002
        movl    12, %eax
        movl    %eax, %es:0x6004
        incl    16
        out     %al, $0x80
        stop
