/* stop_uv.h - SIGTERM and SIGINT, up to the very end of a daemon. */
#ifndef CORALLITE_COMMON_STOP_UV_H
#define CORALLITE_COMMON_STOP_UV_H

/* libuv gives a signal its deadly meaning back when the last handle for it is closed, which a
 * daemon does while it still stops. After this call a signal that comes again changes nothing until
 * the process is gone. In main(), once the daemon's own handles are started; once, never undone. */
void co_stop_hold_signals(void);

#endif
