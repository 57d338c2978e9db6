// A boot sector that counts interrupt 40h and shows the count. Fire it from outside: kvmbind run --irq 40@10 counter.bin
        .code16
        .text

        .set VECTOR, 0x40
        .set VIDEO, 0xB800
        .set PLACE, 2 * (80 * 2 + 10)   // row 2, column 10: the last digit
        .set DIGITS, 5

        ljmp    $0x07C0, $start
start:
        cli
        xor     %ax, %ax
        mov     %ax, %ds
        movw    $counted, 4 * VECTOR
        movw    %cs, 4 * VECTOR + 2
        push    %cs
        pop     %ds
        mov     $0x0003, %ax            // clears the screen
        int     $0x10
        mov     $text, %si
        cld
1:      lodsb
        test    %al, %al
        jz      2f
        mov     $0x0E, %ah
        int     $0x10
        jmp     1b
2:      call    show
3:      sti
        hlt
        call    show
        jmp     3b

// It ends with IRET alone: the BIOS has ended the interrupt at the local APIC.
counted:
        incl    %cs:count
        iretw

show:   mov     $VIDEO, %ax
        mov     %ax, %es
        mov     count, %eax
        mov     $PLACE, %di
        mov     $10, %ebx
        mov     $DIGITS, %cx
1:      xor     %edx, %edx
        div     %ebx
        add     $'0', %dl
        mov     %dl, %es:(%di)
        sub     $2, %di
        loop    1b
        ret

text:   .asciz  "Interrupts of vector 40h:\r\n"
        .balign 4
count:  .long   0

        .org    510
        .word   0xAA55
