// Gives each byte read from port 60h back on port 61h, for ever.
#include "_macros.S"

1:      in      $0x60, %al
        out     %al, $0x61
        jmp     1b
