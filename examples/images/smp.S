// A Multiboot image: each processor writes a line on the screen, and the first one counts them. kvmbind run --smp 4 smp.bin
        .set MAGIC, 0x1BADB002
        .set SAYS_WHERE_IT_GOES, 0x10000
        .set BASE, 0x100000             // where it goes; it is linked at 0

        .set APIC_ID, 0xFEE00020
        .set APIC_COMMAND, 0xFEE00300
        .set INIT_ALL_BUT_SELF, 0xC4500
        .set SIPI_ALL_BUT_SELF, 0xC4600

        .set SELECT, 0x510              // what the machine has: see there
        .set PROCESSORS, 5

        .set VIDEO, 0xB8000
        .set ROW, 2 * 80
        .set GREY, 0x07
        .set START, 0x8000              // where the others start, in real mode
        .set STACKS, 0x10000
        .set STACK, 0x100

        .set CODE, 0x08
        .set DATA, 0x10
        .set PROTECTION, 0x01

        .text
        .code32
header: .long   MAGIC, SAYS_WHERE_IT_GOES, -(MAGIC + SAYS_WHERE_IT_GOES)
        .long   BASE + header, BASE, 0, 0, BASE + first

first:
        mov     $STACKS + STACK, %esp
        cld
        mov     $BASE + real_mode, %esi
        mov     $START, %edi
        mov     $real_mode_end - real_mode, %ecx
        rep movsb
        mov     $SELECT, %edx
        mov     $PROCESSORS, %eax
        out     %ax, %dx
        inc     %edx
        in      %dx, %al
        movzbl  %al, %ebx
        call    say
        movl    $INIT_ALL_BUT_SELF, APIC_COMMAND
        movl    $SIPI_ALL_BUT_SELF | START >> 12, APIC_COMMAND
1:      pause
        cmp     %ebx, BASE + arrived
        jb      1b
        imul    $ROW, %ebx, %edi
        add     $VIDEO, %edi
        mov     %ebx, %eax
        call    put_number
        mov     $BASE + here, %esi
        call    put
        cli
        hlt

other:
        mov     $DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     APIC_ID, %esp
        shr     $24, %esp
        imul    $STACK, %esp, %esp
        add     $STACKS + STACK, %esp
        call    say
        cli
        hlt

// Writes the line of this processor, and counts it.
say:    mov     APIC_ID, %eax
        shr     $24, %eax
        imul    $ROW, %eax, %edi
        add     $VIDEO, %edi
        mov     $BASE + processor, %esi
        call    put
        call    put_number
        lock incl BASE + arrived
        ret

// Writes the text at ESI to the screen at EDI.
put:    push    %eax
        mov     $GREY, %ah
1:      lodsb
        test    %al, %al
        jz      2f
        stosw
        jmp     1b
2:      pop     %eax
        ret

// Writes AL, two digits, to the screen at EDI.
put_number:
        aam
        add     $'0' << 8 | '0', %ax
        mov     %al, %cl
        mov     %ah, %al
        mov     $GREY, %ah
        stosw
        mov     %cl, %al
        stosw
        ret

processor:
        .asciz  "processor "
here:   .asciz  " are here"
        .balign 4
arrived:
        .long   0

// The others start here, once it has been copied to START, with CS = START >> 4.
        .code16
real_mode:
        lgdtl   %cs:table - real_mode
        mov     %cr0, %eax
        or      $PROTECTION, %al
        mov     %eax, %cr0
        ljmpl   $CODE, $BASE + other
table:  .word   table_end - descriptors - 1
        .long   BASE + descriptors
real_mode_end:

        .balign 8
descriptors:
        .quad   0
        .quad   0x00CF9B000000FFFF      // CODE and DATA: 4 GiB from 0
        .quad   0x00CF93000000FFFF
table_end:
