// Functions of shared libraries that are looked for when they are first called. `late.sh` generates the list of them
// (late_entry NAME, late_LIBRARY), so that a program can be linked where there are no such libraries, and starts where
// there are none. x86-64, System V.

.macro late_entry name, library
        .section .text.late.\name, "ax", @progbits
        .globl \name
        .type \name, @function
\name:  jmp *late_slot_\name(%rip)
late_first_\name:
        lea late_slot_\name(%rip), %r10
        lea late_name_\name(%rip), %r11
        lea \library(%rip), %rax
        jmp late_bind
        .section .data.late.\name, "aw", @progbits
        .balign 8
late_slot_\name: .quad late_first_\name
        .section .rodata.late.\name, "a", @progbits
late_name_\name: .asciz "\name"
.endm

// Arguments are kept while the function is looked for: six integers, eight floats.
        .text
late_bind:
        push %rdi
        push %rsi
        push %rdx
        push %rcx
        push %r8
        push %r9
        push %r10
        sub $128, %rsp
        movups %xmm0, (%rsp)
        movups %xmm1, 16(%rsp)
        movups %xmm2, 32(%rsp)
        movups %xmm3, 48(%rsp)
        movups %xmm4, 64(%rsp)
        movups %xmm5, 80(%rsp)
        movups %xmm6, 96(%rsp)
        movups %xmm7, 112(%rsp)
        mov %rax, %rdi
        mov %r11, %rsi
        call late_find@PLT
        mov %rax, %r11
        movups (%rsp), %xmm0
        movups 16(%rsp), %xmm1
        movups 32(%rsp), %xmm2
        movups 48(%rsp), %xmm3
        movups 64(%rsp), %xmm4
        movups 80(%rsp), %xmm5
        movups 96(%rsp), %xmm6
        movups 112(%rsp), %xmm7
        add $128, %rsp
        pop %r10
        pop %r9
        pop %r8
        pop %rcx
        pop %rdx
        pop %rsi
        pop %rdi
        mov %r11, (%r10)
        jmp *%r11

        .section .note.GNU-stack, "", @progbits
