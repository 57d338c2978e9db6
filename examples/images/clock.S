// A boot sector that shows the ticks of the timer: it hooks INT 1Ch and counts ten of them, once it has seen one.
        .code16
        .text

        .set USER_TICK, 0x1C
        .set TICKS, 10

        ljmp    $0x07C0, $start
start:
        xor     %ax, %ax
        mov     %ax, %ds
        cli
        movw    $tick, 4 * USER_TICK
        movw    %cs, 4 * USER_TICK + 2
        sti
        push    %cs
        pop     %ds
1:      hlt
        cmpb    $TICKS, count
        jb      1b
        mov     $text, %si
        cld
2:      lodsb
        test    %al, %al
        jz      3f
        mov     $0x0E, %ah
        mov     $0x07, %bx
        int     $0x10
        jmp     2b
3:      int     $0x20

tick:   cmpb    $TICKS, %cs:count
        jae     4f                      // the text is being shown
        push    %ax
        incb    %cs:count
        mov     $'.', %al
        mov     $0x0E, %ah
        int     $0x10
        pop     %ax
4:      iretw

count:  .byte   0
text:   .asciz  " ten ticks\r\n"

        .org    510
        .word   0xAA55
