/* world.c - time, randomness, faults, the network and its connections, the nemesis. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/assert.h"
#include "tests/sim/sim.h"

const char *const fault_name[N_FAULTS] = {
#define X(name, text) text,
    FAULTS(X)
#undef X
};

/* ---- randomness --------------------------------------------------------------------------------
 */

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void rng_init(struct sim *s)
{
    for (unsigned i = 0; i < N_STREAMS; i++) {
        uint64_t x = s->seed * 0x2545f4914f6cdd1dull + i;
        s->rng[i].s[0] = splitmix(&x);
        s->rng[i].s[1] = splitmix(&x);
    }
}

uint64_t rnd(struct sim *s, enum stream r)
{
    uint64_t a = s->rng[r].s[0], b = s->rng[r].s[1], v = a + b;
    b ^= a;
    s->rng[r].s[0] = ((a << 24) | (a >> 40)) ^ b ^ (b << 16);
    s->rng[r].s[1] = (b << 37) | (b >> 27);
    return v;
}

uint32_t below(struct sim *s, enum stream r, uint32_t n)
{
    return n ? (uint32_t)((rnd(s, r) >> 33) % n) : 0;
}

bool chance(struct sim *s, enum stream r, uint32_t ppm)
{
    return below(s, r, 1000000) < ppm;
}

bool fault(struct sim *s, enum fault f)
{
    enum stream r = f <= F_DELAY ? R_NET
                    : f == F_EIO || f == F_TORN || f == F_MID_CRASH || f == F_ROT || f == F_LYING
                        ? R_DISK
                        : R_NEMESIS;
    if (!chance(s, r, s->w.ppm[f]) || s->healed || s->faults >= s->fault_limit ||
        !(s->fault_mask >> f & 1)) {
        return false;
    }
    s->faults++;
    s->by_fault[f]++;
    return true;
}

static uint32_t maybe(struct sim *s, uint32_t most)
{
    uint32_t third = below(s, R_SWARM, 3), v = below(s, R_SWARM, most);
    return third == 0 ? 0 : v;
}

static uint32_t one_of(struct sim *s, const uint32_t *list, uint32_t n)
{
    return list[below(s, R_SWARM, n)];
}

void draw_swarm(struct sim *s)
{
    static const uint32_t leases[] = {300000, 300000, 1000000, 3000000};
    static const uint32_t batches[] = {1, 1, 400, 700, 4096, 1u << 20};
    static const uint32_t fragments[] = {1u << 20, 1u << 20, 1u << 20, 1u << 20, 1u << 20,
                                         256,      300,      400,      700};
    static const uint32_t windows[] = {600, 2000, 1u << 20, 1u << 24};
    static const uint32_t tails[] = {0, 600, 3000, 1u << 24};
    static const uint32_t keeps[] = {1, 3, 3, 1024, 1024, 1024};
    static const uint32_t resends[] = {60000, 150000, 400000};
    static const uint32_t pipes[] = {1, 1, 4, 12};
    struct swarm *w = &s->w;

    *w = (struct swarm){0};
    w->ppm[F_DROP] = maybe(s, 250000);
    w->ppm[F_DUP] = maybe(s, 250000);
    w->ppm[F_DELAY] = maybe(s, 120000);
    w->ppm[F_PARTITION] = maybe(s, 40000);
    w->ppm[F_ASYM] = maybe(s, 60000);
    w->ppm[F_RESET] = maybe(s, 60000);
    w->ppm[F_SK_CRASH] = maybe(s, 40000);
    w->ppm[F_MID_CRASH] = maybe(s, 60000);
    w->ppm[F_EIO] = maybe(s, 10000);
    w->ppm[F_TORN] = maybe(s, 900000);
    w->ppm[F_SK_PAUSE] = maybe(s, 25000);
    w->ppm[F_SK_STOP] = maybe(s, 10000);
    w->ppm[F_CLIENT_CRASH] = maybe(s, 25000);
    w->ppm[F_CLIENT_PAUSE] = maybe(s, 60000);
    w->ppm[F_ISOLATE] = below(s, R_SWARM, 2) ? 0 : below(s, R_SWARM, 800000);
    w->ppm[F_ABANDON] = maybe(s, 300000);
    w->delay_min_us = 50 + below(s, R_SWARM, 1500);
    w->delay_max_us = w->delay_min_us + below(s, R_SWARM, below(s, R_SWARM, 2) ? 3000 : 30000);
    w->fifo = below(s, R_SWARM, 2);
    w->codec = below(s, R_SWARM, 16) == 0;
    w->no_floor = below(s, R_SWARM, 2);
    w->alternate = below(s, R_SWARM, 3) == 0;
    w->lease_us = one_of(s, leases, 4);
    w->resend_us = one_of(s, resends, 3);
    /* Longer than a FETCH, an APPEND and its ACK may take behind others on an ordered link; else a
     * leader that has to bring a new member along gives up each time before its first step. */
    w->progress_us = 200000 + 8 * w->delay_max_us + below(s, R_SWARM, 1500000);
    w->window_bytes = one_of(s, windows, 4);
    w->tail_bytes = one_of(s, tails, 4);
    w->batch_bytes = one_of(s, batches, 6);
    w->fragment_bytes = one_of(s, fragments, 9);
    w->history_keep = one_of(s, keeps, 6);
    w->pipeline = one_of(s, pipes, 4);
    w->sync_min_us = 50 + below(s, R_SWARM, 500);
    w->sync_max_us = w->sync_min_us + 1 + below(s, R_SWARM, 8000);
    w->want_received = below(s, R_SWARM, 4) == 0;
    w->tick_us = 8000 + below(s, R_SWARM, 20000);
    w->read_ppm = 50000 + below(s, R_SWARM, 200000);
    w->release_ppm = below(s, R_SWARM, 400000);
    bool members = below(s, R_SWARM, 3) == 0;
    w->n_sk = members ? N_SK : N_MEMBERS;
    w->come_back = below(s, R_SWARM, 2) && w->no_floor;
    w->change_ppm = members ? 5000 + below(s, R_SWARM, 200000) : 0;
    bool skew = below(s, R_SWARM, 2);
    for (unsigned i = 0; i < N_SK + N_CLIENTS; i++) {
        /* up to 1 % between any two clocks */
        w->drift[i] = skew ? (int)below(s, R_SWARM, 9900) - 4950 : 0;
    }
    w->ppm[F_SWIZZLE] = maybe(s, 4000);
    w->ppm[F_HALF_OPEN] = maybe(s, 8000);
    w->ppm[F_ROT] = maybe(s, 400000);
    w->n_clients = 2 + below(s, R_SWARM, N_CLIENTS - 1);
    bool goes_back = below(s, R_SWARM, 2) == 0;
    w->ppm[F_IMAGE] = goes_back ? maybe(s, 100000) : 0;
    w->ppm[F_LYING] = goes_back ? maybe(s, 300000) : 0;
    w->heal_us = 8500000 + below(s, R_SWARM, 9000000);
    w->trim_ppm = maybe(s, 600000);
    bool displaced = w->ppm[F_IMAGE] && w->n_sk == N_MEMBERS && below(s, R_SWARM, 3) == 0;
    if (displaced) {
        w->ppm[F_DISPLACED] = 200000; /* the image waits for that, and may not wait for long */
        w->ppm[F_IMAGE] = 500000;
        w->lease_us = leases[0]; /* two of them pass */
    }
    if (displaced || below(s, R_SWARM, 3) == 0) {
        w->progress_us = 0; /* as the product has it: its owner gives up, nothing else does */
    }
}

/* ---- time --------------------------------------------------------------------------------------
 */

uint64_t local_clock(const struct sim *s, uint32_t who)
{
    return s->now + (uint64_t)((int64_t)s->now * s->w.drift[who] / 1000000);
}

uint64_t global_time(const struct sim *s, uint32_t who, uint64_t local)
{
    uint64_t t = local * 1000000 / (uint64_t)(1000000 + s->w.drift[who]) + 2;
    return t <= s->now ? s->now + 1 : t;
}

static bool before(const struct due *a, const struct due *b)
{
    return a->t != b->t ? a->t < b->t : a->seq < b->seq;
}

static void more_events(struct sim *s)
{
    uint32_t cap = s->cap_heap ? 2 * s->cap_heap : 1024;
    s->heap = realloc(s->heap, cap * sizeof *s->heap);
    s->event = realloc(s->event, cap * sizeof *s->event);
    s->idle = realloc(s->idle, cap * sizeof *s->idle);
    co_assert(s->heap && s->event && s->idle);
    for (uint32_t i = cap; i > s->cap_heap; i--) {
        s->idle[s->n_idle++] = i - 1;
    }
    s->cap_heap = cap;
}

#define CHILDREN 4u /* of a node of the heap: their keys are one cache line */

void push(struct sim *s, struct event e)
{
    if (s->n_idle == 0) {
        more_events(s);
    }
    struct due d = {e.t, (uint32_t)s->seq++, s->idle[--s->n_idle]};
    s->event[d.at] = e;
    uint32_t i = s->n_heap++;
    while (i > 0 && before(&d, &s->heap[(i - 1) / CHILDREN])) {
        s->heap[i] = s->heap[(i - 1) / CHILDREN];
        i = (i - 1) / CHILDREN;
    }
    s->heap[i] = d;
}

struct event pop(struct sim *s)
{
    struct due top = s->heap[0], d = s->heap[--s->n_heap];
    uint32_t i = 0;
    for (;;) {
        uint32_t first = CHILDREN * i + 1, end = first + CHILDREN;
        if (first >= s->n_heap) {
            break;
        }
        uint32_t c = first;
        for (uint32_t k = first + 1; k < end && k < s->n_heap; k++) {
            if (before(&s->heap[k], &s->heap[c])) {
                c = k;
            }
        }
        if (before(&d, &s->heap[c])) {
            break;
        }
        s->heap[i] = s->heap[c];
        i = c;
    }
    s->heap[i] = d;
    s->idle[s->n_idle++] = top.at;
    return s->event[top.at];
}

void fold(struct sim *s, uint64_t v)
{
    s->hash = (s->hash ^ v) * 1099511628211ull;
    s->hash ^= s->hash >> 29;
}

void trace(struct sim *s, const char *format, ...)
{
    if (!s->trace) {
        return;
    }
    va_list args;
    va_start(args, format);
    printf("%9.6f ", (double)s->now / 1e6);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

/* ---- messages ----------------------------------------------------------------------------------
 */

static struct flight *flight_new(const struct q_msg *m, uint32_t c, uint32_t k, uint64_t conn)
{
    size_t history = m->history.n * sizeof *m->history.e;
    size_t known = m->known.n * sizeof *m->known.e;
    struct flight *f = malloc(sizeof *f + history + known + m->payload.len);
    co_assert(f);
    f->refs = 1;
    f->client = c;
    f->sk = k;
    f->conn = conn;
    f->m = *m;
    uint8_t *p = (uint8_t *)(f + 1);
    if (history) {
        memcpy(p, m->history.e, history);
        f->m.history.e = (const struct q_term *)(const void *)p;
    }
    if (known) {
        memcpy(p + history, m->known.e, known);
        f->m.known.e = (const struct q_known *)(const void *)(p + history);
        p += known;
    }
    if (m->payload.len) {
        memcpy(p + history, m->payload.data, m->payload.len);
        f->m.payload.data = p + history;
    }
    return f;
}

void flight_free(struct flight *f)
{
    if (f && --f->refs == 0) {
        free(f);
    }
}

/* Over the real wire format and back, in the seeds that want it. */
static const struct q_msg *through_codec(struct sim *s, const struct q_msg *m)
{
    if (!s->w.codec) {
        return m;
    }
    struct frame_header h;
    s->wire.len = 0;
    if (qmsg_encode(m, &s->wire) || frame_parse(s->wire.data, &h) ||
        qmsg_decode(&h, co_span_of(s->wire.data + FRAME_HEADER_BYTES, h.body_bytes), &s->scratch,
                    &s->decoded)) {
        violation(s, "a %s message does not survive the wire: %s", frame_type_name(m->type),
                  co_sentence());
    }
    return &s->decoded;
}

static uint64_t clogged(const struct sim *s, uint32_t who, uint64_t at)
{
    bool stuck = at >= s->clog_from[who] && at < s->clog_until[who];
    return stuck ? s->clog_until[who] + (at - s->clog_from[who]) / 64 : at;
}

static void send(struct sim *s, const struct q_msg *m, uint32_t c, uint32_t k, uint64_t conn,
                 bool to_sk, uint64_t extra_us)
{
    uint32_t from = to_sk ? N_SK + c : k, to = to_sk ? k : N_SK + c;
    uint64_t d =
        s->w.delay_min_us + below(s, R_NET, s->w.delay_max_us - s->w.delay_min_us + 1) + extra_us;
    bool drop = fault(s, F_DROP), dup = fault(s, F_DUP), late = fault(s, F_DELAY);
    if (s->cut[from][to] || drop || s->half_open[c][k] == conn) {
        trace(s, "lost %s to %s%u", frame_type_name(m->type), to_sk ? "sk" : "c",
              to_sk ? k + 1 : c);
        return;
    }
    if (late) {
        d += below(s, R_NET, 400000);
    }
    uint64_t at = s->now + d;
    at = clogged(s, from, at);
    at = clogged(s, to, at);
    if (s->w.fifo) {
        uint64_t *last = &s->fifo_at[c][k][to_sk];
        at = at <= *last ? *last + 1 : at;
        *last = at;
    }
    struct flight *f = flight_new(through_codec(s, m), c, k, conn);
    struct event e = {.t = at, .kind = to_sk ? E_TO_SK : E_TO_CLIENT, .a = c, .b = k, .flight = f};
    if (dup) {
        struct event again = e;
        f->refs++;
        again.t = s->now + s->w.delay_min_us + below(s, R_NET, 4 * s->w.delay_max_us);
        push(s, again);
    }
    push(s, e);
}

void net_to_sk(struct sim *s, uint32_t c, uint32_t k, const struct q_msg *m)
{
    if (s->client[c].conn[k] == 0) {
        return;
    }
    struct q_msg copy;
    if (s->w.no_floor && m->floor_lsn) {
        copy = *m;
        copy.floor_lsn = 0;
        m = &copy;
    }
    send(s, m, c, k, s->client[c].conn[k], true, 0);
}

/* A connection's number says whose it is. */
static uint32_t conn_client(uint64_t conn)
{
    return (uint32_t)(conn % N_CLIENTS);
}

void net_to_client(struct sim *s, uint32_t k, uint64_t conn, const struct q_msg *m,
                   uint64_t extra_us)
{
    if (conn != 0) {
        send(s, m, conn_client(conn), k, conn, false, extra_us);
    }
}

/* ---- connections -------------------------------------------------------------------------------
 */

void conn_try(struct sim *s, uint32_t c, uint32_t k)
{
    struct client *cl = &s->client[c];
    if (!cl->up || cl->conn[k] != 0) {
        return;
    }
    if (!s->node[k].up || s->cut[N_SK + c][k] || s->cut[k][N_SK + c] ||
        s->node[k].paused_until > s->now) {
        push(s, (struct event){.t = s->now + 20000 + below(s, R_NET, 60000),
                               .kind = E_CONNECT,
                               .a = c,
                               .b = k,
                               .n = cl->incarnation});
        return;
    }
    s->next_conn++;
    cl->conn[k] = s->next_conn * N_CLIENTS + c;
    struct pr_event e = {.kind = PR_EV_UP, .node = k + 1};
    client_event(s, cl, &e);
}

/* The client's end sees that the connection is gone, and will try again. */
void conn_down(struct sim *s, uint32_t c, uint32_t k, uint64_t conn)
{
    struct client *cl = &s->client[c];
    if (!cl->up || cl->conn[k] != conn) {
        return;
    }
    cl->conn[k] = 0;
    struct pr_event e = {.kind = PR_EV_DOWN, .node = k + 1};
    client_event(s, cl, &e);
    push(s, (struct event){.t = s->now + 1000 + below(s, R_NET, 30000),
                           .kind = E_CONNECT,
                           .a = c,
                           .b = k,
                           .n = cl->incarnation});
}

/* The connection ends. by_client_end: the client's process went, or its shell closed it; then the
 * client knows first. Else either side may see it first. */
void conn_lost(struct sim *s, uint32_t c, uint32_t k, bool by_client_end)
{
    struct client *cl = &s->client[c];
    uint64_t conn = cl->conn[k];
    if (conn == 0) {
        return;
    }
    if (s->node[k].up) {
        push(s, (struct event){.t = s->now + 1 + below(s, R_NET, by_client_end ? 3000 : 200000),
                               .kind = E_CLOSED,
                               .a = c,
                               .b = k,
                               .n = conn,
                               .flag = by_client_end && cl->local});
    }
    if (by_client_end) {
        conn_down(s, c, k, conn);
    } else {
        /* A host that went leaves the connection half open for a while. */
        uint32_t most = !s->healed && below(s, R_NET, 3) == 0 ? 3000000 : 50000;
        push(s, (struct event){.t = s->now + 1 + below(s, R_NET, most),
                               .kind = E_DOWN,
                               .a = c,
                               .b = k,
                               .n = conn});
    }
}

/* ---- nemesis -----------------------------------------------------------------------------------
 */

void isolate(struct sim *s, uint32_t c, uint32_t keep)
{
    for (uint32_t k = 0; k < s->w.n_sk; k++) {
        s->cut[N_SK + c][k] = s->cut[k][N_SK + c] = k != keep;
    }
    trace(s, "fault: c%u sees only sk%u", c, keep + 1);
}

static void partition(struct sim *s)
{
    uint32_t n = N_SK + N_CLIENTS, side = 1 + below(s, R_NEMESIS, (1u << n) - 2);
    for (uint32_t a = 0; a < n; a++) {
        for (uint32_t b = 0; b < n; b++) {
            s->cut[a][b] = (side >> a & 1) != (side >> b & 1);
        }
    }
    trace(s, "fault: partition %02x", side);
}

/* Some of the nodes are clogged one after the other, and come free in another order. */
static void swizzle(struct sim *s)
{
    for (uint32_t i = 0; i < N_SK + N_CLIENTS; i++) {
        if (below(s, R_NEMESIS, 2)) {
            s->clog_from[i] = s->now + below(s, R_NEMESIS, 600000);
            s->clog_until[i] = s->clog_from[i] + 1 + below(s, R_NEMESIS, 800000);
        }
    }
    trace(s, "fault: swizzle-clog");
}

/* The connection carries nothing any more, and neither end is told for a while. */
static void half_open(struct sim *s, uint32_t c, uint32_t k)
{
    uint64_t conn = s->client[c].conn[k];
    if (conn == 0) {
        return;
    }
    s->half_open[c][k] = conn;
    trace(s, "fault: connection c%u-sk%u is half open", c, k + 1);
    push(s, (struct event){.t = s->now + 1000000 + below(s, R_NEMESIS, 2000000),
                           .kind = E_DOWN,
                           .a = c,
                           .b = k,
                           .n = conn});
    push(s, (struct event){.t = s->now + 1000000 + below(s, R_NEMESIS, 4000000),
                           .kind = E_CLOSED,
                           .a = c,
                           .b = k,
                           .n = conn});
}

void nemesis(struct sim *s)
{
    struct node *n = &s->node[below(s, R_NEMESIS, s->w.n_sk)];
    struct client *c = &s->client[below(s, R_NEMESIS, s->w.n_clients)];
    uint32_t any = below(s, R_NEMESIS, s->w.n_sk);
    base_tick(s, &s->node[below(s, R_BASE, s->w.n_sk)]);
    if (fault(s, F_SK_CRASH)) {
        node_crash(s, n);
    }
    if (fault(s, F_SK_STOP)) {
        node_stop(s, n);
    }
    if (fault(s, F_SK_PAUSE)) {
        n->paused_until = s->now + below(s, R_NEMESIS, 1500000);
        trace(s, "fault: sk%u paused", n->id + 1);
    }
    if (fault(s, F_CLIENT_CRASH)) {
        client_crash(s, c);
    }
    if (fault(s, F_CLIENT_PAUSE)) {
        c->paused_until = s->now + below(s, R_NEMESIS, 2000000);
        trace(s, "fault: c%u paused", c->id);
    }
    if (fault(s, F_RESET) && c->up && c->paused_until <= s->now) {
        bool all = below(s, R_NEMESIS, 3) == 0;
        for (uint32_t k = 0; k < s->w.n_sk; k++) {
            if (all || k == any) {
                trace(s, "fault: connection c%u-sk%u reset", c->id, k + 1);
                conn_lost(s, c->id, k, c->local);
            }
        }
    }
    image_nemesis(s);
    if (fault(s, F_SWIZZLE)) {
        swizzle(s);
    }
    if (fault(s, F_HALF_OPEN)) {
        half_open(s, c->id, any);
    }
    if (fault(s, F_PARTITION)) {
        partition(s);
    } else if (fault(s, F_ASYM)) {
        uint32_t a = below(s, R_NEMESIS, N_SK + N_CLIENTS),
                 b = below(s, R_NEMESIS, N_SK + N_CLIENTS);
        s->cut[a][b] = true;
        trace(s, "fault: cut %u-%u", a, b);
    } else if (below(s, R_NEMESIS, 14) == 0) {
        memset(s->cut, 0, sizeof s->cut);
        trace(s, "network whole");
    }
}

void heal(struct sim *s)
{
    s->healed = true;
    memset(s->cut, 0, sizeof s->cut);
    memset(s->clog_until, 0, sizeof s->clog_until);
    for (uint32_t i = 0; i < N_SK; i++) {
        s->node[i].paused_until = 0;
    }
    for (uint32_t i = 0; i < N_CLIENTS; i++) {
        s->client[i].paused_until = 0;
    }
    trace(s, "healed");
}
