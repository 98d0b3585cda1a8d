#include "common/stop_uv.h"

#include <signal.h>
#include <uv.h>

#include "common/assert.h"

static void nothing(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
}

/* A loop that nobody runs: what counts is that its handles are never closed. */
void co_stop_hold_signals(void)
{
    static uv_loop_t loop;
    static uv_signal_t terminate, interrupt;
    int rc = uv_loop_init(&loop);

    rc |= uv_signal_init(&loop, &terminate);
    rc |= uv_signal_init(&loop, &interrupt);
    rc |= uv_signal_start(&terminate, nothing, SIGTERM);
    rc |= uv_signal_start(&interrupt, nothing, SIGINT);
    co_assert(rc == 0);
}
