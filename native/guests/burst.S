// A burst of exits, 200 OUTs to port 80h, then sleeps in HLT and counts vector 40h.
#include "_macros.S"

        .set OUTS, 200

        own_stack
        install VECTOR, handler
        prepare_eoi
        ready
1:      out     %al, $0x80
        inc     %al
        cmp     $OUTS, %al
        jne     1b
        xor     %eax, %eax
        idle

handler:
        incl    COUNT
        wrmsr
        iret
