// Writes 0, 1, 2 ... to port 80h for ever: one exit for each.
#include "_macros.S"

1:      out     %al, $0x80
        inc     %al
        jmp     1b
