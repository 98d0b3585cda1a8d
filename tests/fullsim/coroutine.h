/* coroutine.h - stacks that take turns on one real thread. */
#ifndef CORALLITE_TESTS_FULLSIM_COROUTINE_H
#define CORALLITE_TESTS_FULLSIM_COROUTINE_H

#include <setjmp.h>
#include <stddef.h>
#include <stdbool.h>
#include <ucontext.h>

/* Zeroed memory is whoever runs already: it can be switched away from. */
struct coroutine {
    ucontext_t first;
    jmp_buf at;
    bool begun;
};

/* The first switch to it calls fn(arg) on that stack, which is borrowed; fn must not return. */
void coroutine_make(struct coroutine *c, void *stack, size_t bytes, void (*fn)(unsigned),
                    unsigned arg);
/* Returns when somebody switches back to `from`. */
void coroutine_switch(struct coroutine *from, struct coroutine *to);

#endif
