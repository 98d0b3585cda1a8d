/*
 * peer_loops_uv.c - connections on several loops (peer_loops_uv.h).
 *
 * Loops share nothing but mail: each has a box with a lock, a list and a uv_async, and takes all of
 * it when it is woken. Between the two struct peers that stand for a connection there is one link;
 * the mail about it comes in the order in which it was sent:
 *
 *   home loop                          the other
 *   MOVE    socket, input, output  ->
 *                                  <-  FRAME    one that is home's; the next one waits
 *   HANDLED what it sent           ->           for this
 *   OUT     what it sends later    ->
 *   END     leave, or at once      ->
 *                                  <-  GONE     the socket is closed
 *   FREE    nobody sends more      ->           frees the link
 *
 * and at the end STOP, and ENDED as a thread's last word. Mail that must come is part of what it is
 * about, so that there is memory for it; only OUT takes some, and without it the connection ends.
 */
#include "proto/peer_loops_uv.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/assert.h"
#include "proto/peer_impl.h"

enum mail_kind {
    MAIL_MOVE,
    MAIL_FRAME,
    MAIL_HANDLED,
    MAIL_OUT,
    MAIL_END,
    MAIL_GONE,
    MAIL_FREE,
    MAIL_STOP,
    MAIL_ENDED
};

struct mail {
    struct mail *next;
    enum mail_kind kind;
    struct peer_link *link;
    struct peer_loop *loop; /* STOP, ENDED: whose */
    struct out_queue out;   /* MOVE, HANDLED, OUT */
};

struct box {
    uv_mutex_t lock; /* of the list */
    struct mail *first, **last;
    uv_async_t async;
};

struct peer_loop {
    struct peer_loops *all;
    unsigned which;
    uv_loop_t loop;
    uv_thread_t thread;
    struct box box;
    struct peer_server *server; /* has its peers; does not listen */
    unsigned n_links;           /* the thread's */
    unsigned n_moved;           /* the home loop's: connections that are there */
    bool stopping;
    struct mail stop;
};

struct peer_loops {
    struct box box; /* the home loop's */
    peer_loops_fn answer;
    void *owner;
    unsigned n;                 /* set before the first thread runs */
    unsigned n_made, n_running; /* the home loop's */
    _Atomic size_t output;      /* of all that share the bound */
    struct peer_loop loop[];
};

struct peer_link {
    struct peer_loop *loop;
    struct peer *home, *there; /* each is touched by its own loop only; there NULL: gone */
    /* What moves, by MOVE. */
    int fd;
    struct frame_reader in;
    /* What is handed over, by FRAME; who has the mail has these. */
    struct frame_header header;
    struct co_buf body;
    /* How it is to end (END), and how it ended (GONE). */
    bool ended, leave, linger;
    int end_code, code;
    char end_reason[CO_SENTENCE_MAX], reason[CO_SENTENCE_MAX];
    _Atomic uint64_t bytes_in, bytes_out; /* of the other loop's peer */
    struct mail move, frame, end, gone, free;
};

/* -- Mail -------------------------------------------------------------------------------------- */

static int box_init(struct box *box, uv_loop_t *loop, uv_async_cb on_mail, void *owner)
{
    int rc = uv_mutex_init(&box->lock);
    co_assert(rc == 0);
    box->last = &box->first;
    box->async.data = owner;
    rc = uv_async_init(loop, &box->async, on_mail);
    if (rc)
        uv_mutex_destroy(&box->lock);
    return rc;
}

/* The owner of the box may end with the mail that it takes: nothing is touched behind the lock. */
static void post(struct box *box, struct mail *mail, enum mail_kind kind)
{
    mail->kind = kind;
    mail->next = NULL;
    uv_mutex_lock(&box->lock);
    bool first = !box->first;
    *box->last = mail;
    box->last = &mail->next;
    if (first)
        uv_async_send(&box->async);
    uv_mutex_unlock(&box->lock);
}

static struct mail *take_all(struct box *box)
{
    uv_mutex_lock(&box->lock);
    struct mail *all = box->first;
    box->first = NULL;
    box->last = &box->first;
    uv_mutex_unlock(&box->lock);
    return all;
}

/* -- On the other loop ------------------------------------------------------------------------- */

static void tell_gone(struct peer_link *link, int code, const char *reason)
{
    link->code = code;
    snprintf(link->reason, sizeof link->reason, "%s", reason);
    link->there = NULL;
    post(&link->loop->all->box, &link->gone, MAIL_GONE);
}

static int there_frame(void *owner, struct peer *p, const struct frame_header *frame,
                       struct co_span body)
{
    struct peer_loop *l = owner;
    struct peer_link *link = p->link;
    if (l->all->answer(l->all->owner, l->which, p, frame, body))
        return 0;
    int rc = co_buf_append(&link->body, body.data, body.len);
    if (rc)
        return rc;
    link->header = *frame;
    p->held = p->paused = true;
    uv_read_stop((uv_stream_t *)&p->tcp);
    post(&l->all->box, &link->frame, MAIL_FRAME);
    return 0;
}

static void there_closed(void *owner, struct peer *p, const char *reason)
{
    (void)owner;
    tell_gone(p->link, p->code, reason);
}

static int there_open(struct peer *p, int fd)
{
    int rc = uv_tcp_init(p->loop, &p->tcp);
    p->tcp.data = p;
    p->tcp_open = rc == 0;
    if (!rc) {
        p->handles++;
        rc = uv_tcp_open(&p->tcp, fd);
    }
    if (rc)
        close(fd);
    return rc;
}

static void there_move(struct peer_loop *l, struct peer_link *link, struct out_queue *out)
{
    struct peer_handler handler = {l, NULL, there_frame, there_closed};
    struct peer *p = peer_new(&l->loop, &handler);
    const struct peer *home = link->home; /* what is read of it does not change any more */
    l->n_links++;
    if (!p) {
        close(link->fd);
        frame_reader_free(&link->in);
        peer_queue_free(out);
        tell_gone(link, CO_ERR_NOMEM, "there was no memory to move the connection");
        return;
    }
    p->id = home->id;
    p->role = home->role;
    p->local = home->local;
    memcpy(p->from, home->from, sizeof p->from);
    memcpy(p->address, home->address, sizeof p->address);
    p->in = link->in;
    p->link = link;
    p->owes_close = true;
    p->state = PEER_OPEN;
    p->progress_ms = uv_now(&l->loop);
    link->there = p;
    peer_server_link(l->server, p);
    int rc = there_open(p, link->fd);
    if (rc) {
        peer_queue_free(out);
        peer_abort(p, CO_ERR_CLOSED, uv_strerror(rc));
        return;
    }
    peer_send_queue(p, out);
    peer_read(p);
}

/* What was handed over is done: the next frame's turn, unless too much is queued by now. */
static void there_handled(struct peer *p, struct out_queue *out)
{
    p->held = false;
    peer_send_queue(p, out);
    if (p->state == PEER_OPEN && !peer_guard_pauses(p))
        peer_read(p);
}

static void there_end(const struct peer_link *link)
{
    if (link->leave)
        peer_leave(link->there, link->linger, link->end_code, link->end_reason);
    else
        peer_abort(link->there, link->end_code, link->end_reason);
}

static void there_take(struct peer_loop *l, struct mail *mail)
{
    struct peer_link *link = mail->link;
    switch (mail->kind) {
    case MAIL_MOVE:
        there_move(l, link, &mail->out);
        break;
    case MAIL_HANDLED:
        if (link->there)
            there_handled(link->there, &mail->out);
        else
            peer_queue_free(&mail->out);
        break;
    case MAIL_OUT:
        if (link->there)
            peer_send_queue(link->there, &mail->out);
        else
            peer_queue_free(&mail->out);
        free(mail);
        break;
    case MAIL_END:
        if (link->there)
            there_end(link);
        break;
    case MAIL_FREE:
        free(link);
        l->n_links--;
        break;
    case MAIL_STOP:
        l->stopping = true;
        peer_server_close(l->server);
        break;
    default:
        co_assert(false);
    }
}

static void on_mail_there(uv_async_t *async)
{
    struct peer_loop *l = async->data;
    for (struct mail *mail = take_all(&l->box), *next; mail; mail = next) {
        next = mail->next;
        there_take(l, mail);
    }
    if (l->stopping && !l->n_links && !uv_is_closing((uv_handle_t *)&l->box.async))
        uv_close((uv_handle_t *)&l->box.async, NULL);
}

static void thread_main(void *arg)
{
    struct peer_loop *l = arg;
    uv_run(&l->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&l->loop);
    co_assert(rc == 0);
    post(&l->all->box, &l->stop, MAIL_ENDED);
}

/* -- At home ----------------------------------------------------------------------------------- */

static void home_frame(struct peer_link *link)
{
    struct peer *p = link->home;
    if (p->state == PEER_AWAY) {
        int rc = p->handler.on_frame(p->handler.owner, p, &link->header, co_buf_span(&link->body));
        if (rc)
            peer_refuse(p, link->header.request_id, rc);
    }
    co_buf_free(&link->body);
    if (p->state != PEER_AWAY)
        return; /* it ends: no other frame is wanted */
    link->frame.out = p->pending;
    p->pending = (struct out_queue){0};
    post(&link->loop->box, &link->frame, MAIL_HANDLED);
}

static void home_gone(struct peer_link *link)
{
    struct peer *p = link->home;
    p->bytes_in += link->bytes_in;
    p->bytes_out += link->bytes_out;
    p->link = NULL;
    link->loop->n_moved--;
    peer_abort(p, link->code, link->reason);
    co_buf_free(&link->body);
    post(&link->loop->box, &link->free, MAIL_FREE);
    peer_unhold(p);
}

static void on_home_closed(uv_handle_t *handle)
{
    struct peer_loops *all = handle->data;
    uv_mutex_destroy(&all->box.lock);
    free(all);
}

/* The thread has said its last word. */
static void home_ended(struct peer_loop *l)
{
    uv_thread_join(&l->thread);
    uv_mutex_destroy(&l->box.lock);
    l->all->n_running--;
}

static void on_mail_home(uv_async_t *async)
{
    struct peer_loops *all = async->data;
    for (struct mail *mail = take_all(&all->box), *next; mail; mail = next) {
        next = mail->next;
        if (mail->kind == MAIL_FRAME)
            home_frame(mail->link);
        else if (mail->kind == MAIL_GONE)
            home_gone(mail->link);
        else
            home_ended(mail->loop);
    }
    if (!all->n_running)
        uv_close((uv_handle_t *)&all->box.async, on_home_closed);
}

void peer_away_flush(struct peer *p)
{
    if (!p->pending.n)
        return;
    struct mail *mail = calloc(1, sizeof *mail);
    if (!mail) {
        peer_abort(p, CO_ERR_NOMEM, "there was no memory for what was to be sent");
        return;
    }
    mail->link = p->link;
    mail->out = p->pending;
    p->pending = (struct out_queue){0};
    post(&p->link->loop->box, mail, MAIL_OUT);
}

void peer_away_end(struct peer *p, bool leave)
{
    struct peer_link *link = p->link;
    if (p->server->beyond || link->ended)
        return;
    if (leave)
        peer_away_flush(p);
    if (link->ended)
        return; /* there was no memory for that */
    link->ended = true;
    link->leave = leave;
    link->linger = p->linger;
    link->end_code = p->code;
    snprintf(link->end_reason, sizeof link->end_reason, "%s", p->reason);
    post(&link->loop->box, &link->end, MAIL_END);
}

void peer_away_count(const struct peer *p)
{
    if (!p->link)
        return;
    atomic_store_explicit(&p->link->bytes_in, p->bytes_in, memory_order_relaxed);
    atomic_store_explicit(&p->link->bytes_out, p->bytes_out, memory_order_relaxed);
}

uint64_t peer_away_bytes_in(const struct peer *p)
{
    return p->link ? p->link->bytes_in : 0;
}

uint64_t peer_away_bytes_out(const struct peer *p)
{
    return p->link ? p->link->bytes_out : 0;
}

size_t peer_loops_output(struct peer_server *s, size_t own, unsigned *n)
{
    size_t more = own - s->output; /* modulo 2^64 */
    s->output = own;
    *n = s->loops->n + 1;
    return atomic_fetch_add(&s->loops->output, more) + more;
}

/* -- Moving ------------------------------------------------------------------------------------ */

static struct peer_loop *fewest(const struct peer_loops *all)
{
    const struct peer_loop *best = &all->loop[0];
    for (unsigned i = 1; i < all->n; i++)
        if (all->loop[i].n_moved < best->n_moved)
            best = &all->loop[i];
    return (struct peer_loop *)(uintptr_t)best;
}

unsigned peer_loops_fewest(const struct peer_loops *all)
{
    return fewest(all)->n_moved;
}

void peer_loops_move(struct peer_loops *all, struct peer *p)
{
    co_assert(p->server && !p->server->beyond);
    p->move_to = all;
    p->server->loops = all;
}

static struct peer_link *make_link(struct peer *p, struct peer_loop *to)
{
    uv_os_fd_t fd;
    struct peer_link *link = calloc(1, sizeof *link);
    if (!link)
        return NULL;
    link->fd = uv_fileno((const uv_handle_t *)&p->tcp, &fd) == 0 ? net_duplicate(fd) : -1;
    if (link->fd < 0) {
        free(link);
        return NULL;
    }
    link->loop = to;
    link->home = p;
    link->move.link = link->frame.link = link->end.link = link->gone.link = link->free.link = link;
    return link;
}

static void on_tcp_closed(uv_handle_t *handle)
{
    peer_unhold(handle->data);
}

void peer_move_if_due(struct peer *p)
{
    if (!p->move_to || p->state != PEER_OPEN || p->writing || p->paused)
        return;
    struct peer_loop *to = fewest(p->move_to);
    struct peer_link *link = make_link(p, to);
    p->move_to = NULL;
    if (!link)
        return;
    uv_timer_stop(&p->timer);
    uv_idle_stop(&p->flusher);
    uv_close((uv_handle_t *)&p->tcp, on_tcp_closed);
    p->tcp_open = false;
    p->handles++; /* until GONE */
    p->link = link;
    p->state = PEER_AWAY;
    link->in = p->in;
    p->in = (struct frame_reader){0};
    link->move.out = p->pending;
    p->pending = (struct out_queue){0};
    to->n_moved++;
    post(&to->box, &link->move, MAIL_MOVE);
}

/* -- Beginning and end ------------------------------------------------------------------------- */

static void unmake_loop(struct peer_loop *l)
{
    uv_close((uv_handle_t *)&l->box.async, NULL);
    peer_server_close(l->server);
    uv_run(&l->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&l->loop);
    co_assert(rc == 0);
    uv_mutex_destroy(&l->box.lock);
}

static int make_loop(struct peer_loops *all, unsigned which)
{
    struct peer_loop *l = &all->loop[which];
    l->all = all;
    l->which = which;
    l->stop.loop = l;
    l->server = calloc(1, sizeof *l->server);
    if (!l->server || uv_loop_init(&l->loop)) {
        free(l->server);
        return co_fail(CO_ERR_NOMEM, "no memory for another loop");
    }
    l->server->loop = &l->loop;
    l->server->beyond = true;
    l->server->loops = all;
    snprintf(l->server->address, sizeof l->server->address, "loop %u", which + 1);
    int rc = box_init(&l->box, &l->loop, on_mail_there, l);
    if (rc) {
        free(l->server);
        (void)uv_loop_close(&l->loop);
        return co_fail(CO_ERR_NOMEM, "another loop cannot be made: %s", uv_strerror(rc));
    }
    rc = peer_guard_start(l->server);
    co_assert(rc == 0);
    rc = uv_thread_create(&l->thread, thread_main, l);
    if (!rc)
        return 0;
    unmake_loop(l);
    return co_fail(CO_ERR_NOMEM, "another loop's thread cannot be made: %s", uv_strerror(rc));
}

int peer_loops_start(uv_loop_t *home, unsigned n, peer_loops_fn answer, void *owner,
                     struct peer_loops **out)
{
    co_assert(n >= 1 && n <= PEER_LOOPS_MAX);
    struct peer_loops *all = calloc(1, sizeof *all + n * sizeof all->loop[0]);
    if (!all)
        return co_fail(CO_ERR_NOMEM, "no memory for more loops");
    all->answer = answer;
    all->owner = owner;
    all->n = n;
    int rc = box_init(&all->box, home, on_mail_home, all);
    if (rc) {
        free(all);
        return co_fail(CO_ERR_NOMEM, "more loops cannot be made: %s", uv_strerror(rc));
    }
    for (; all->n_made < n && !rc; all->n_made += rc == 0)
        rc = make_loop(all, all->n_made);
    all->n_running = all->n_made;
    if (!rc)
        *out = all;
    else if (all->n_made)
        peer_loops_close(all);
    else
        uv_close((uv_handle_t *)&all->box.async, on_home_closed);
    return rc;
}

void peer_loops_close(struct peer_loops *all)
{
    for (unsigned i = 0; i < all->n_made; i++)
        post(&all->loop[i].box, &all->loop[i].stop, MAIL_STOP);
}
