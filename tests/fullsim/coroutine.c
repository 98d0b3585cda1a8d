/*
 * coroutine.c - stacks that take turns. swapcontext() alone would do, and asks the kernel for the
 * signal mask each time, which is a tenth of a run's time; so it only begins a stack, and _setjmp
 * and _longjmp go to and fro. The latter with checks (_FORTIFY_SOURCE) takes another stack for a
 * frame that is gone, and so does AddressSanitizer: that build stays with swapcontext().
 */
#undef _FORTIFY_SOURCE
#include "tests/fullsim/coroutine.h"

#if defined(__SANITIZE_ADDRESS__)
#define BY_CONTEXT 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define BY_CONTEXT 1
#endif
#endif

void coroutine_make(struct coroutine *c, void *stack, size_t bytes, void (*fn)(unsigned),
                    unsigned arg)
{
    getcontext(&c->first);
    c->first.uc_stack.ss_sp = stack;
    c->first.uc_stack.ss_size = bytes;
    c->first.uc_link = NULL;
    makecontext(&c->first, (void (*)(void))fn, 1, arg);
    c->begun = false;
}

void coroutine_switch(struct coroutine *from, struct coroutine *to)
{
#ifdef BY_CONTEXT
    swapcontext(&from->first, &to->first);
#else
    from->begun = true;
    if (_setjmp(from->at))
        return;
    if (to->begun)
        _longjmp(to->at, 1);
    setcontext(&to->first);
#endif
}
