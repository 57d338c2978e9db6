// A boot sector that prints by INT 10h and stops.
        .code16
        .text

        ljmp    $0x07C0, $start
start:
        push    %cs
        pop     %ds
        mov     $text, %si
        cld
1:      lodsb
        test    %al, %al
        jz      2f
        mov     $0x0E, %ah
        mov     $0x07, %bx
        int     $0x10
        jmp     1b
2:      cli
        hlt

text:   .asciz  "Hello from real mode\r\n"

        .org    510
        .word   0xAA55
