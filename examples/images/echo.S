// A boot sector that prints what is typed, until Escape.
        .code16
        .text

        .set ESCAPE, 0x1B
        .set RETURN, 0x0D
        .set LINE_FEED, 0x0A

        ljmp    $0x07C0, $start
start:
        push    %cs
        pop     %ds
        mov     $text, %si
        cld
1:      lodsb
        test    %al, %al
        jz      2f
        call    print
        jmp     1b
2:      xor     %ah, %ah
        int     $0x16                   // sleeps until there is a key
        cmp     $ESCAPE, %al
        je      3f
        call    print
        cmp     $RETURN, %al
        jne     2b
        mov     $LINE_FEED, %al
        call    print
        jmp     2b
3:      int     $0x20

print:  mov     $0x0E, %ah
        mov     $0x07, %bx
        int     $0x10
        ret

text:   .asciz  "Type; Escape ends it.\r\n"

        .org    510
        .word   0xAA55
