// A boot sector that draws in mode 13h: diagonal stripes of 64 colours that it has mixed itself.
        .code16
        .text

        .set VIDEO, 0xA000
        .set WIDTH, 320
        .set HEIGHT, 200
        .set DAC_INDEX, 0x3C8
        .set SHADES, 64

        ljmp    $0x07C0, $start
start:
        mov     $0x0013, %ax
        int     $0x10
        mov     $DAC_INDEX, %dx
        xor     %al, %al
        out     %al, %dx
        inc     %dx
        xor     %cl, %cl
1:      mov     %cl, %al                // red rises, green falls, blue is half
        out     %al, %dx
        mov     $SHADES - 1, %al
        sub     %cl, %al
        out     %al, %dx
        mov     $SHADES / 2, %al
        out     %al, %dx
        inc     %cl
        cmp     $SHADES, %cl
        jb      1b
        mov     $VIDEO, %ax
        mov     %ax, %es
        xor     %di, %di
        cld
        xor     %bx, %bx                // row
2:      xor     %cx, %cx                // column
3:      mov     %cx, %ax
        add     %bx, %ax
        shr     $2, %ax
        and     $SHADES - 1, %al
        stosb
        inc     %cx
        cmp     $WIDTH, %cx
        jb      3b
        inc     %bx
        cmp     $HEIGHT, %bx
        jb      2b
        cli
        hlt

        .org    510
        .word   0xAA55
