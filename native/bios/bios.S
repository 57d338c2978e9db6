// The code of the ROM, at F000:0000. A vector's stub hands its caller's registers to the host by one OUT and gives back what
// the host has made of them; the timer's interrupt never leaves the guest.
//
// kvmbind/machine/bios/rom.py finds its way by `directory`, and fills what is from `boot` to `power_on`. The guest
// cannot write in here.

        .code16
        .text

        .set TRAP_PORT, 0x0BC5          // no device of a PC's
        .set SEGMENT, 0xF000
        .set BDA, 0x40
        .set TICKS, 0x6C
        .set MIDNIGHT, 0x70
        .set MOTOR, 0x40
        .set TICKS_A_DAY, 0x1800B0
        .set APIC_BASE, 0x1B
        .set IN_X2APIC_MODE, 0x04       // of the second byte
        .set X2APIC_EOI, 0x80B
        .set XAPIC_EOI, 0xFEE000B0
        .set PROTECTION, 0x01
        .set FLAT_CODE, 0x08
        .set FLAT_DATA, 0x10

        // Where the caller's registers lie from SP on, once the stub has pushed them.
        .set SCRATCH, 12                // PUSHAD's ESP, which POPAD passes over: the host's own until it is done
        .set ACTION, 37                 // beside the vector: 0 return, SLEEP until an interrupt and ask again, else ask again
        .set SLEEP, 1

rom:
// For the host: where things are.
directory:
        .word   stubs, stub_0x01 - stub_0x00
        .word   outside, outside_1 - outside_0
        .word   ignore, timer, keyboard, master_irq, slave_irq, master_irq_or_fault_4, master_irq_or_fault_5
        .word   power_on, boot, outside_vectors, stamped, protected

// What the processor is to start with; the host writes it.
        .balign 16
boot:
boot_stack:     .word 0, 0              // SP, SS
boot_ip:        .word 0
boot_cs:        .word 0
boot_flags:     .word 0
boot_ds:        .word 0
boot_es:        .word 0
boot_registers: .fill 7, 4, 0           // EAX ECX EDX EBX EBP ESI EDI
outside_vectors:
        .fill   16, 1, 0                // the vectors that E0h to EFh stand for

// Both PICs at their usual vectors, with the lines unmasked that this ROM serves; the timer at 18.2 Hz.
power_on:
        ljmp    $SEGMENT, $1f           // a VCPU starts with CS near its first instruction
1:      mov     $0x11, %al
        out     %al, $0x20
        out     %al, $0xA0
        mov     $0x08, %al
        out     %al, $0x21
        mov     $0x70, %al
        out     %al, $0xA1
        mov     $0x04, %al
        out     %al, $0x21
        mov     $0x02, %al
        out     %al, $0xA1
        mov     $0x01, %al
        out     %al, $0x21
        out     %al, $0xA1
        mov     $0xB8, %al              // timer, keyboard, cascade and floppy
        out     %al, $0x21
        mov     $0xFE, %al              // the clock, which ends a wait
        out     %al, $0xA1
        mov     $0x36, %al
        out     %al, $0x43
        xor     %al, %al
        out     %al, $0x40
        out     %al, $0x40
        lssw    %cs:boot_stack, %sp
        pushw   %cs:boot_flags
        pushw   %cs:boot_cs
        pushw   %cs:boot_ip
        mov     %cs:boot_ds, %ds
        mov     %cs:boot_es, %es
        mov     %cs:boot_registers, %eax
        mov     %cs:boot_registers + 4, %ecx
        mov     %cs:boot_registers + 8, %edx
        mov     %cs:boot_registers + 12, %ebx
        mov     %cs:boot_registers + 16, %ebp
        mov     %cs:boot_registers + 20, %esi
        mov     %cs:boot_registers + 24, %edi
        iretw

// Where an image starts that wants protected mode, all segments flat: which ESI has.
protected:
        lgdtl   %cs:flat_table
        mov     %cr0, %edi
        or      $PROTECTION, %edi
        mov     %edi, %cr0
        ljmpl   $FLAT_CODE, $(SEGMENT << 4) + 1f
        .code32
1:      mov     $FLAT_DATA, %edi
        mov     %edi, %ds
        mov     %edi, %es
        mov     %edi, %fs
        mov     %edi, %gs
        mov     %edi, %ss
        xor     %edi, %edi
        jmp     *%esi
        .code16

        .balign 8
flat:   .quad   0
        .quad   0x00CF9B000000FFFF      // FLAT_CODE and FLAT_DATA: 4 GiB from 0, already accessed, as a ROM must have them
        .quad   0x00CF93000000FFFF
flat_table:
        .word   flat_table - flat - 1
        .long   (SEGMENT << 4) + flat

// 256 stubs, one for each vector.
.macro stub number
stub_\number:
        .byte   0x68                    // PUSH and JMP in their long forms: every stub has one size
        .word   \number
        .byte   0xE9
        .word   trap - . - 2
.endm
        .balign 16
stubs:
        .irpc   high, 0123456789ABCDEF
        .irpc   low, 0123456789ABCDEF
        stub    0x\high\low
        .endr
        .endr

// Tells the host where the registers are.
.macro ask
        mov     %ss, %ax
        shl     $16, %eax
        mov     %sp, %ax
        mov     $TRAP_PORT, %dx
        out     %eax, %dx
.endm

// A service: reached by INT, by PUSHF; CALL FAR, and from the handlers below; it ends in IRET, so the caller's flags are
// those that the host has left on the stack.
trap:
        cli
        cld
        push    %ds
        push    %es
        pushal
        mov     %sp, %bp
        movl    $0, SCRATCH(%bp)
1:      ask
2:      cmpb    $SLEEP, ACTION(%bp)
        je      3f
        ja      4f
        popal
        pop     %es
        pop     %ds
        add     $2, %sp
        iretw
3:      sti
        hlt
        cli
        jmp     1b
4:      sti                             // there is more to do: meanwhile interrupts come in
        ask
        cli
        cmpb    $SLEEP, ACTION(%bp)
        jne     2b
        jmp     1b                      // what is waited for may have come since it was looked for

// IRQ 0: the tick, all of it in the guest.
timer:
        push    %ds
        push    %eax
        mov     $BDA, %ax
        mov     %ax, %ds
        mov     TICKS, %eax
        inc     %eax
        cmp     $TICKS_A_DAY, %eax
        jb      1f
        xor     %eax, %eax
        incb    MIDNIGHT
1:      mov     %eax, TICKS
        cmpb    $0, MOTOR
        je      2f
        decb    MOTOR
2:      int     $0x1C
        mov     $0x20, %al
        out     %al, $0x20
        pop     %eax
        pop     %ds
        iretw

// IRQ 1: the host takes the scan code and puts the key into the ring.
keyboard:
        pushf
        push    %cs
        call    stub_0x09
// IRQ 2 to 7 that nobody else serves.
master_irq:
        push    %ax
        mov     $0x20, %al
        out     %al, $0x20
        pop     %ax
        iretw

// IRQ 8 to 15.
slave_irq:
        push    %ax
        mov     $0x20, %al
        out     %al, $0xA0
        out     %al, $0x20
        pop     %ax
ignore: iretw

// IRQ 4 and 5 share their vectors with the stack fault and the general protection fault: the PIC knows which it is.
.macro irq_or_fault line, vector
master_irq_or_fault_\line:
        push    %ax
        mov     $0x0B, %al
        out     %al, $0x20
        in      $0x20, %al
        test    $1 << \line, %al
        pop     %ax
        jnz     master_irq
        jmp     stub_\vector
.endm
        irq_or_fault 4, 0x0C
        irq_or_fault 5, 0x0D

// E0h to EFh: an interrupt from outside stands for another vector. It is ended at the local APIC first, so that the
// program's handler may end in any way, and sees the frame as if the interrupt had been its own.
.macro outside_stub number
outside_\number:
        push    $0                      // with the next one the place of a far pointer
        push    $\number
        jmp     forward
.endm
        .balign 16
outside:
        .irp    number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        outside_stub \number
        .endr

// For measuring: E0h by way of a time stamp and a count at the end of the extended data area.
        .set EXTENDED_AREA, 0x9FC0
        .set STAMP, 0x3E0
        .set STAMPED, 0x3E8
stamped:
        push    %eax
        push    %edx
        rdtsc
        push    %ds
        push    $EXTENDED_AREA
        pop     %ds
        mov     %eax, STAMP
        mov     %edx, STAMP + 4
        incl    STAMPED                 // who sees the count sees the stamp
        pop     %ds
        pop     %edx
        pop     %eax
        jmp     outside_0

forward:
        push    %bp
        mov     %sp, %bp
        push    %ds
        push    %eax
        push    %ebx
        push    %ecx
        push    %edx
        mov     $APIC_BASE, %ecx
        rdmsr
        test    $IN_X2APIC_MODE, %ah
        jz      2f
        mov     $X2APIC_EOI, %ecx
        xor     %eax, %eax
        xor     %edx, %edx
        wrmsr
1:      xor     %ax, %ax
        mov     %ax, %ds
        mov     2(%bp), %bx
        movzbw  %cs:outside_vectors(%bx), %bx
        shl     $2, %bx
        mov     (%bx), %eax
        mov     %eax, 2(%bp)
        pop     %edx
        pop     %ecx
        pop     %ebx
        pop     %eax
        pop     %ds
        pop     %bp
        lretw

// In xAPIC mode its registers lie beyond what real mode reaches: DS gets 4 GiB for a moment, and keeps that limit, which
// does not harm a program that has it at 64 KiB and which one may have set itself.
2:      sub     $6, %sp
        mov     %sp, %bx
        sgdtl   %ss:(%bx)
        lgdtl   %cs:flat_table
        mov     %cr0, %eax
        or      $PROTECTION, %al
        mov     %eax, %cr0
        mov     $FLAT_DATA, %cx
        mov     %cx, %ds
        mov     $XAPIC_EOI, %ecx
        movl    $0, (%ecx)
        and     $~PROTECTION, %al
        mov     %eax, %cr0
        lgdtl   %ss:(%bx)
        add     $6, %sp
        jmp     1b
