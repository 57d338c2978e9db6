// What the images share; included, not assembled by itself.
//
// Every image is loaded at 1000h and entered in real mode with CS = 100h, IP = 0 and every other register and
// segment zero; its local APIC is in x2APIC mode. So code counts from 0 in CS and data is absolute in DS = 0.

        .code16
        .text

        .set READY, 0x7000              // one byte per APIC id: 1 once the VCPU is set up
        .set GATE, 0x7100               // a dword that the host makes non-zero
        .set COUNT, 0x8000              // interrupts taken: one dword, or one per APIC id, or one per vector
        .set STACK, 0xC000              // 64 bytes per APIC id, in SS = 0
        .set VECTOR, 0x40               // the vector that most images take

        .set X2APIC_ID, 0x802
        .set X2APIC_EOI, 0x80B

// SI = this VCPU's APIC id, SP = its own stack. Id 255 has SP = 0: its first push is at FFFEh.
.macro own_stack
        mov     $X2APIC_ID, %ecx
        rdmsr
        mov     %ax, %si
        shl     $6, %ax
        add     $STACK + 64, %ax
        mov     %ax, %sp
.endm

// BX = the address of this VCPU's own counter. Needs SI from own_stack.
.macro own_counter
        mov     %si, %bx
        shl     $2, %bx
        add     $COUNT, %bx
.endm

// Several VCPUs may do this at the same time: they all write the same bytes.
.macro install vector, handler
        movw    $\handler, 4 * \vector
        movw    %cs, 4 * \vector + 2
.endm

// A bare WRMSR then ends an interrupt, which keeps handlers short: nothing else may use EAX, ECX and EDX.
.macro prepare_eoi
        mov     $X2APIC_EOI, %ecx
        xor     %eax, %eax
        xor     %edx, %edx
.endm

// Needs SI from own_stack.
.macro ready
        movb    $1, READY(%si)
.endm

.macro idle
        sti
9:      hlt
        jmp     9b
.endm

// CLI; HLT: this VCPU is done and nothing but an NMI wakes it.
.macro stop
        cli
9:      hlt
        jmp     9b
.endm
