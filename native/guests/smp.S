// Counts vector 40h, per VCPU, in HLT. Vector 41h makes VCPU 0 start the others, which wait for SIPI: they come in here too.
#include "_macros.S"

        .set WAKE, 0x41
        .set X2APIC_SVR, 0x80F
        .set SVR_ENABLED, 0x1FF
        .set X2APIC_ICR, 0x830
        .set INIT_ALL_BUT_SELF, 0xC4500
        .set SIPI_ALL_BUT_SELF, 0xC4600
        .set PAGE, 0x01                 // a SIPI's vector: it starts at 1000h

        own_stack
        own_counter
        install VECTOR, handler
        install WAKE, wake
        mov     $X2APIC_SVR, %ecx       // INIT has switched it off
        mov     $SVR_ENABLED, %eax
        xor     %edx, %edx
        wrmsr
        prepare_eoi
        ready
        idle

handler:
        incl    (%bx)
        wrmsr
        iret

wake:
        mov     $X2APIC_ICR, %ecx
        mov     $INIT_ALL_BUT_SELF, %eax
        wrmsr
        mov     $(SIPI_ALL_BUT_SELF | PAGE), %eax
        wrmsr
        prepare_eoi
        wrmsr
        iret
