// Rings the bell at D0000h 200 times, stores how many TSC ticks that took, and says so: an OUT to port 80h; for ever.
#include "_macros.S"

        .set TICKS, 0x9000
        .set BELL, 0xD000               // segment of the bell's page
        .set RINGS, 200

        mov     $BELL, %ax
        mov     %ax, %es
1:      rdtsc
        mov     %eax, %ebx
        mov     $RINGS, %cx
2:      mov     %eax, %es:0
        loop    2b
        rdtsc
        sub     %ebx, %eax
        mov     %eax, TICKS
        out     %al, $0x80
        jmp     1b
