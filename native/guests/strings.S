// String I/O: three elements in and the same three out, as bytes, then words, then dwords.
#include "_macros.S"

.macro through buffer, in_port, out_port, size
        mov     $3, %cx
        mov     $\in_port, %dx
        mov     $\buffer, %di
        rep ins\size
        mov     $3, %cx
        mov     $\out_port, %dx
        mov     $\buffer, %si
        rep outs\size
.endm

        xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        cld
        through 0x6000, 0x60, 0x61, b
        through 0x6100, 0x62, 0x63, w
        through 0x6200, 0x66, 0x67, l
        out     %al, $0x80
        stop
