/*
 * peer_guard_uv.c - what a server puts up with: how many connections, how slow, how much for all.
 *
 * Who may come. The last CO_CONNECTIONS_RESERVED of CO_CONNECTIONS_MAX places are for daemons of
 * the cluster. Who somebody is, his Hello says; so everybody may come up to the last place, and
 * programs are refused at their Hello when only reserved places are left. One address has at most
 * CO_CONNECTIONS_PER_ADDRESS_MAX; those on this host have no such bound, for they all have one
 * address (docs/decisions/0030).
 *
 * Who says nothing. Up to CO_GREETING_MAX have CO_HELLO_TIMEOUT_MS for their Hello. When there are
 * more, or all places are taken, those that have had CO_GREETING_PRESSED_MS go: a flood of silent
 * connections keeps nobody out who speaks.
 *
 * Who is slow. A frame that was begun, and answers that wait to be taken, must move at
 * CO_RATE_MIN_BYTES_PER_S on average, but for a grace. (A frame that does not move at all ends with
 * CO_FRAME_TIMEOUT_MS: peer_uv.c. One who takes nothing at all mostly ends earlier, by
 * TCP_USER_TIMEOUT: net_sock.c.)
 *
 * What all may hold. Beyond CO_OUTPUT_ALL_BYTES of queued output nobody who has some is read from;
 * beyond twice that the one who has most is closed. Where connections are on several loops
 * (peer_loops_uv.c), that is of all loops, and who is closed is of one that has its share or more.
 * How many may come is looked at on the loop that listens: who has moved is still counted there.
 *
 * A timer a server looks after all of this once a second. Loop thread only.
 */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "proto/limits.h"
#include "proto/peer_impl.h"
#include "proto/peer_metrics.h"

/* Less than this in a queue is not called slow, nor stopped for the sake of all. */
#define LITTLE_BYTES  ((size_t)65536)

#define TELL_AGAIN_MS 10000u

/* Told once in a while: a flood must not fill the log. */
static void refuse(struct peer *p, enum peer_refusal reason, int code, const char *why)
{
    struct peer_server *s = p->server;
    uint64_t now = uv_now(s->loop);
    peer_count_refused(reason);
    if (!s->told_ms || now - s->told_ms >= TELL_AGAIN_MS) {
        co_warn("proto/peer", "refused addr=%s reason=\"%s\"", p->address, why);
        s->told_ms = now;
    }
    peer_abort(p, code, why);
}

static bool greeting(const struct peer *p)
{
    return p->state == PEER_GREETING;
}

/* -- Coming ------------------------------------------------------------------------------------ */

static size_t present(const struct peer_server *s)
{
    return s->n_peers - s->n_closing;
}

/* Closes the one that has been silent for longest, if that is long enough. */
static bool drop_silent(struct peer_server *s)
{
    struct peer *oldest = NULL;
    char why[400];
    for (struct peer *p = s->peers; p; p = p->next)
        if (greeting(p) && (!oldest || p->begun_ms <= oldest->begun_ms))
            oldest = p;
    if (!oldest || uv_now(s->loop) - oldest->begun_ms < peer_limits.pressed_ms)
        return false;
    snprintf(why, sizeof why, "no Hello came from %s, and its place is wanted", oldest->address);
    refuse(oldest, PEER_REFUSED_NO_HELLO, CO_ERR_TIMEOUT, why);
    return true;
}

static size_t from_address(const struct peer_server *s, const struct peer *p)
{
    size_t n = 0;
    for (const struct peer *q = s->peers; q; q = q->next)
        n += q->state != PEER_CLOSED && memcmp(q->from, p->from, sizeof q->from) == 0;
    return n;
}

bool peer_guard_admits(struct peer *p)
{
    struct peer_server *s = p->server;
    char why[500];
    if (present(s) > peer_limits.connections && !drop_silent(s)) {
        snprintf(why, sizeof why, "%s has %zu connections, no more are taken", s->address,
                 present(s) - 1);
        refuse(p, PEER_REFUSED_FULL, CO_ERR_CONNECT, why);
    } else if (!p->local && from_address(s, p) > peer_limits.per_address) {
        snprintf(why, sizeof why, "%s has %zu connections from one address, no more are taken",
                 s->address, peer_limits.per_address);
        refuse(p, PEER_REFUSED_ADDRESS, CO_ERR_CONNECT, why);
    }
    return p->state != PEER_CLOSED;
}

int peer_guard_greeted(struct peer *p)
{
    struct peer_server *s = p->server;
    size_t reserved = peer_limits.reserved < peer_limits.connections ? peer_limits.reserved : 0;
    if (p->role == CORALLITE__ROLE__ROLE_PAGESERVER)
        return 0;
    if (s->n_programs >= peer_limits.connections - reserved) {
        peer_count_refused(PEER_REFUSED_FULL);
        return co_fail(CO_ERR_CONNECT,
                       "%s has %zu connections, no more are taken; %zu places are kept for daemons "
                       "of the cluster",
                       s->address, s->n_programs, reserved);
    }
    p->counted_as_program = true;
    s->n_programs++;
    return 0;
}

void peer_guard_left(struct peer *p)
{
    struct peer_server *s = p->server;
    if (!s)
        return;
    s->n_closing++;
    if (!s->beyond)
        peer_count_connections(-1);
    if (p->counted_as_program)
        s->n_programs--;
    p->counted_as_program = false;
}

/* -- Output ------------------------------------------------------------------------------------ */

bool peer_guard_pauses(const struct peer *p)
{
    size_t queued = peer_queued_bytes(p);
    return queued > peer_limits.pause_bytes ||
           (p->server && p->server->output_full && queued > LITTLE_BYTES);
}

static void look_at_output(struct peer_server *s)
{
    size_t all = 0, largest = 0;
    struct peer *worst = NULL;
    char why[400];
    for (struct peer *p = s->peers; p; p = p->next) {
        size_t queued = p->state == PEER_CLOSED ? 0 : peer_queued_bytes(p);
        all += queued;
        if (queued > largest) {
            largest = queued;
            worst = p;
        }
    }
    unsigned n_loops = 1;
    size_t own = all;
    if (s->loops)
        all = peer_loops_output(s, own, &n_loops);
    s->output_full = all > peer_limits.output_all_bytes;
    if (!worst || all / 2 <= peer_limits.output_all_bytes || own < all / n_loops)
        return; /* or who has most is on another loop */
    snprintf(why, sizeof why, "%s takes too little: %zu bytes wait to be sent to it, %zu to all",
             worst->address, largest, all);
    refuse(worst, PEER_REFUSED_READER, CO_ERR_CLOSED, why);
}

/* -- Speed ------------------------------------------------------------------------------------- */

/* Have `bytes` in `ms` been too few? */
static bool slow(uint64_t bytes, uint64_t ms, uint64_t grace_ms)
{
    return ms > grace_ms && bytes < (ms - grace_ms) * peer_limits.rate / 1000;
}

static void look_at_frame(struct peer *p, uint64_t now)
{
    char why[400];
    uint64_t ms = now - p->begun_ms, bytes = p->in.len - p->in.start;
    if (!frame_reader_partial(&p->in) || p->paused || !slow(bytes, ms, peer_limits.grace_ms))
        return;
    snprintf(why, sizeof why, "%s sent %llu bytes of a frame in %llu ms, which is too slow",
             p->address, (unsigned long long)bytes, (unsigned long long)ms);
    refuse(p, PEER_REFUSED_SLOW, CO_ERR_TIMEOUT, why);
}

/* Of a write that is under way the part that the socket has taken counts. */
static uint64_t taken(const struct peer *p)
{
    size_t flight = p->writing ? p->flight.bytes - p->flight.sent : 0;
    size_t left = p->writing ? uv_stream_get_write_queue_size((const uv_stream_t *)&p->tcp) : 0;
    return p->bytes_out + flight - left;
}

static void look_at_reader(struct peer *p, uint64_t now)
{
    char why[400];
    uint64_t out = taken(p);
    /* Begun anew when all was taken, and from time to time: what was fast long ago is no excuse. */
    if (peer_queued_bytes(p) < LITTLE_BYTES || !p->owing_ms ||
        out - p->owing_bytes > 64 * (uint64_t)LITTLE_BYTES) {
        p->owing_ms = peer_queued_bytes(p) < LITTLE_BYTES ? 0 : now;
        p->owing_bytes = out;
        return;
    }
    if (!slow(out - p->owing_bytes, now - p->owing_ms, 3 * peer_limits.grace_ms))
        return;
    snprintf(why, sizeof why, "%s took %llu bytes of its answers in %llu ms, which is too slow",
             p->address, (unsigned long long)(out - p->owing_bytes),
             (unsigned long long)(now - p->owing_ms));
    refuse(p, PEER_REFUSED_READER, CO_ERR_TIMEOUT, why);
}

/* A loop that stood still (the process was stopped, a disk hung) has not read what was sent
 * meanwhile: that time is nobody's fault. */
static void forgive_own_pause(struct peer_server *s, uint64_t now)
{
    uint64_t pause = now - s->swept_ms;
    if (s->swept_ms && pause > 2 * peer_limits.sweep_ms)
        for (struct peer *p = s->peers; p; p = p->next) {
            p->begun_ms = p->begun_ms + pause < now ? p->begun_ms + pause : now;
            if (p->owing_ms)
                p->owing_ms = p->owing_ms + pause < now ? p->owing_ms + pause : now;
        }
    s->swept_ms = now;
}

static void on_guard(uv_timer_t *timer)
{
    struct peer_server *s = timer->data;
    uint64_t now = uv_now(s->loop);
    size_t silent = 0;
    forgive_own_pause(s, now);
    for (struct peer *p = s->peers; p; p = p->next) {
        silent += greeting(p);
        if (p->state == PEER_OPEN)
            look_at_frame(p, now);
        if (p->state == PEER_OPEN)
            look_at_reader(p, now);
    }
    while (silent > peer_limits.greeting && drop_silent(s))
        silent--;
    look_at_output(s);
}

int peer_guard_start(struct peer_server *s)
{
    int rc = uv_timer_init(s->loop, &s->guard);
    if (rc)
        return rc;
    s->guard.data = s;
    s->guarding = true;
    rc = uv_timer_start(&s->guard, on_guard, peer_limits.sweep_ms, peer_limits.sweep_ms);
    uv_unref((uv_handle_t *)&s->guard);
    return rc;
}

static void on_guard_closed(uv_handle_t *handle)
{
    struct peer_server *s = handle->data;
    s->guarding = false;
    peer_server_free_if_done(s);
}

void peer_guard_stop(struct peer_server *s)
{
    if (s->guarding && !uv_is_closing((uv_handle_t *)&s->guard))
        uv_close((uv_handle_t *)&s->guard, on_guard_closed);
}
