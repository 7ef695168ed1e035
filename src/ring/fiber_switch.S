/* fiber_switch(void **from, void *to): saves the callee-saved registers on this stack, its pointer at *from, and goes
 * on where `to` was left. fiber_entry: what a new stack returns into; calls fiber_main with the fiber that
 * fiber.c laid into a saved register. A file of its own, since link-time optimisation does not see into
 * assembly that stands in C. */
        .text
#if defined(__x86_64__)
        .globl  fiber_switch
        .hidden fiber_switch
        .type   fiber_switch, @function
fiber_switch:
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, (%rdi)
        movq    %rsi, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        ret
        .size   fiber_switch, .-fiber_switch

        .globl  fiber_entry
        .hidden fiber_entry
        .type   fiber_entry, @function
fiber_entry:
        movq    %r12, %rdi
        call    fiber_main
        ud2
        .size   fiber_entry, .-fiber_entry
#elif defined(__aarch64__)
        .globl  fiber_switch
        .hidden fiber_switch
        .type   fiber_switch, %function
fiber_switch:
        sub     sp, sp, #160
        stp     x19, x20, [sp, #0]
        stp     x21, x22, [sp, #16]
        stp     x23, x24, [sp, #32]
        stp     x25, x26, [sp, #48]
        stp     x27, x28, [sp, #64]
        stp     x29, x30, [sp, #80]
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1
        ldp     x19, x20, [sp, #0]
        ldp     x21, x22, [sp, #16]
        ldp     x23, x24, [sp, #32]
        ldp     x25, x26, [sp, #48]
        ldp     x27, x28, [sp, #64]
        ldp     x29, x30, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        add     sp, sp, #160
        ret
        .size   fiber_switch, .-fiber_switch

        .globl  fiber_entry
        .hidden fiber_entry
        .type   fiber_entry, %function
fiber_entry:
        mov     x0, x19
        bl      fiber_main
        brk     #1
        .size   fiber_entry, .-fiber_entry
#endif
        .section .note.GNU-stack, "", %progbits
