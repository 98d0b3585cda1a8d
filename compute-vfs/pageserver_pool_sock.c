#include "compute-vfs/pageserver_pool.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "proto/message.h"
#include "proto/unpack.h"

/* -- connections --------------------------------------------------------------------------------
 */

static void drop(struct psock *s)
{
    psock_close(s);
    free(s);
}

/* An idle connection has nothing to say; one that has was ended by the server. */
static bool stale(const struct psock *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};

    return s->fd < 0 || poll(&p, 1, 0) != 0;
}

static struct psock *take_idle(struct cv_pageserver *ps, struct cv_endpoint *at)
{
    for (;;) {
        pthread_mutex_lock(&ps->lock);
        struct psock *s = at->n_idle > 0 ? at->idle[--at->n_idle] : NULL;
        pthread_mutex_unlock(&ps->lock);
        if (s == NULL || !stale(s))
            return s;
        drop(s);
    }
}

static void put_back(struct cv_pageserver *ps, struct cv_endpoint *at, struct psock *s)
{
    bool kept = false;

    if (s->fd >= 0) {
        pthread_mutex_lock(&ps->lock);
        if (at->n_idle < CV_POOL_MAX) {
            at->idle[at->n_idle++] = s;
            kept = true;
        }
        pthread_mutex_unlock(&ps->lock);
    }
    if (!kept)
        drop(s);
}

static int connect_new(struct cv_pageserver *ps, const struct cv_endpoint *at, uint64_t deadline_us,
                       struct psock **out)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    struct co_id cluster;
    struct psock *s = calloc(1, sizeof *s);

    if (s == NULL)
        return co_fail(CO_ERR_NOMEM, "no memory for a connection to the pageserver");
    pthread_mutex_lock(&ps->lock);
    cluster = ps->cluster;
    pthread_mutex_unlock(&ps->lock);
    hello.has_protocol_min = hello.has_protocol_max = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.has_cluster = !co_id_is_zero(&cluster);
    hello.cluster = msg_bytes16(cluster.b);
    hello.has_role = 1;
    hello.role = CORALLITE__ROLE__ROLE_COMPUTE;
    hello.program = program_invocation_short_name;
    int rc = psock_connect(s, at->host, at->port, &hello, deadline_us, NULL);
    if (rc != 0) {
        free(s);
        return rc;
    }
    atomic_store(&ps->reached, true);
    *out = s;
    return 0;
}

static int connection(struct cv_pageserver *ps, struct cv_endpoint *at, uint64_t deadline_us,
                      struct psock **out)
{
    *out = take_idle(ps, at);
    return *out != NULL ? 0 : connect_new(ps, at, deadline_us, out);
}

static void close_idle(struct cv_endpoint *at)
{
    for (uint32_t i = 0; i < at->n_idle; i++)
        drop(at->idle[i]);
    at->n_idle = 0;
}

void cv_pool_close(struct cv_pageserver *ps)
{
    for (uint32_t i = 0; i < ps->choice.n; i++)
        close_idle(&ps->at[i]);
}

/* One connection was silent for too long: the others may lead to the same nowhere. */
static void forget_idle(struct cv_pageserver *ps, struct cv_endpoint *at)
{
    pthread_mutex_lock(&ps->lock);
    close_idle(at);
    pthread_mutex_unlock(&ps->lock);
}

/* -- asking -------------------------------------------------------------------------------------
 */

void cv_question_release(struct cv_question *ask)
{
    if (ask->reply != NULL)
        protobuf_c_message_free_unpacked(ask->reply, NULL);
    ask->reply = NULL;
    co_buf_free(&ask->body);
}

static void count(struct cv_pageserver *ps, const struct psock *s, uint64_t in, uint64_t out)
{
    atomic_fetch_add(&ps->round_trips, 1);
    atomic_fetch_add(&ps->bytes_in, s->bytes_in - in);
    atomic_fetch_add(&ps->bytes_out, s->bytes_out - out);
}

static int read_reply(struct cv_pageserver *ps, struct cv_question *ask)
{
    struct co_span message = {ask->body.data, ask->frame.message_bytes};

    if (ask->frame.type != ask->answer)
        return co_fail(CO_ERR_PROTOCOL, "the pageserver at %s answered %s to %s", ps->address,
                       frame_type_name(ask->frame.type), frame_type_name(ask->type));
    ask->reply = message_unpack(ask->answer_type, message);
    if (ask->reply == NULL)
        return CO_ERR_PROTOCOL;
    ask->payload = co_span_of(ask->body.data + message.len, ask->body.len - message.len);
    return 0;
}

/* It is behind: has it got further than ever since this was asked? A large transaction takes it a
 * while; what it takes in once more, after a start or a failure, is no progress. */
static bool note_lag(struct cv_lag *lag, const Corallite__Error *error)
{
    if (error == NULL || !error->has_progress)
        return false;
    bool more = lag->told && error->progress > lag->progress;
    if (!lag->told || more)
        *lag = (struct cv_lag){true, error->progress};
    return more;
}

/* One try. */
static int ask_once(struct cv_pageserver *ps, struct cv_endpoint *at, struct cv_question *ask,
                    uint64_t end_us, bool *gets_on)
{
    struct psock *s = NULL;
    *gets_on = false;
    int rc = connection(ps, at, end_us, &s);

    if (rc != 0)
        return rc;
    uint64_t now_us = co_now_us();
    uint64_t left_us = end_us > now_us ? end_us - now_us : 0;
    if (ask->deadline_ms != NULL)
        *ask->deadline_ms =
            (uint32_t)((left_us > 2 * CV_ANSWER_US ? left_us - CV_ANSWER_US : left_us / 2) / 1000u);
    uint64_t in = s->bytes_in, out = s->bytes_out;
    Corallite__Error *error = NULL;
    rc = psock_call(s, ask->type, ask->message, co_span_of(NULL, 0), end_us, &ask->frame,
                    &ask->body, &error);
    *gets_on = rc == CO_ERR_LAG && note_lag(&ask->lag[at - ps->at], error);
    if (error != NULL)
        corallite__error__free_unpacked(error, NULL);
    count(ps, s, in, out);
    if (rc == 0)
        rc = read_reply(ps, ask);
    if (rc == CO_ERR_PROTOCOL)
        psock_close(s);
    put_back(ps, at, s);
    return rc;
}

static bool worth_a_retry(int rc)
{
    return rc == CO_ERR_CONNECT || rc == CO_ERR_CLOSED || rc == CO_ERR_LAG || rc == CO_ERR_AGAIN ||
           rc == CO_ERR_NO_QUORUM || rc == CO_ERR_BUSY;
}

void cv_pause_us(uint64_t us)
{
    struct timespec ts = {.tv_sec = (time_t)(us / 1000000u),
                          .tv_nsec = (long)(us % 1000000u * 1000u)};

    nanosleep(&ts, NULL);
}

/* -- several pageservers -------------------------------------------------------------------------
 */

/* It may be another one's to answer. */
static bool worth_another(int rc)
{
    return worth_a_retry(rc) || rc == CO_ERR_TIMEOUT || rc == CO_ERR_FOLLOWER ||
           rc == CO_ERR_NOT_FOUND || rc == CO_ERR_GONE || rc == CO_ERR_HALTED ||
           rc == CO_ERR_CORRUPT || rc == CO_ERR_IO || rc == CO_ERR_NOMEM;
}

/* Is the next question better asked elsewhere? */
static bool is_away(int rc)
{
    return rc == CO_ERR_CONNECT || rc == CO_ERR_CLOSED || rc == CO_ERR_TIMEOUT ||
           rc == CO_ERR_LAG || rc == CO_ERR_NO_QUORUM || rc == CO_ERR_HALTED || rc == CO_ERR_IO ||
           rc == CO_ERR_NOMEM;
}

static bool unreachable(int rc)
{
    return rc == CO_ERR_CONNECT || rc == CO_ERR_CLOSED || rc == CO_ERR_TIMEOUT;
}

/* How one round over all servers ended. */
struct outcome {
    int rc; /* that of whoever had most to say */
    char sentence[CO_SENTENCE_MAX];
    bool lost;    /* some could not be reached */
    bool again;   /* some may answer another time */
    bool gets_on; /* some is behind, and gets on */
    bool slow;    /* some had not enough time */
};

/* Who answered counts before who did not, and before who only names another. */
static int weight(int rc)
{
    return rc == 0 ? 0 : unreachable(rc) ? 1 : rc == CO_ERR_FOLLOWER ? 2 : 3;
}

static void note(struct outcome *o, int rc)
{
    if (weight(rc) > weight(o->rc) || !worth_another(rc)) {
        o->rc = rc;
        snprintf(o->sentence, sizeof o->sentence, "%s", co_sentence());
    }
    o->lost = o->lost || unreachable(rc);
    o->slow = o->slow || rc == CO_ERR_TIMEOUT || rc == CO_ERR_LAG;
    o->again = o->again || worth_a_retry(rc) || rc == CO_ERR_TIMEOUT;
}

static void note_choice(struct cv_pageserver *ps, uint32_t server, int rc)
{
    pthread_mutex_lock(&ps->lock);
    if (is_away(rc))
        cv_choice_failed(&ps->choice, server, co_now_us());
    else
        cv_choice_answered(&ps->choice, server);
    pthread_mutex_unlock(&ps->lock);
}

/* Tries each once. True: `o->rc` is the answer, good or bad; else another round may be of use. */
static bool ask_each(struct cv_pageserver *ps, struct cv_question *a, unsigned patience,
                     uint64_t end_us, struct outcome *o)
{
    struct cv_try order[CV_SERVERS_MAX];
    uint64_t most_us = CV_TRY_US << (patience < 8 ? patience : 8);

    *o = (struct outcome){0};
    pthread_mutex_lock(&ps->lock);
    cv_choice_order(&ps->choice, co_now_us(), order);
    pthread_mutex_unlock(&ps->lock);
    for (uint32_t i = 0; i < ps->choice.n; i++) {
        struct cv_endpoint *at = &ps->at[order[i].server];
        uint64_t bound_us =
            a->slow ? most_us : cv_choice_bound_us(&ps->choice, order[i], patience, most_us);
        uint64_t until_us = co_now_us() + bound_us;
        bool gets_on;
        int rc = ask_once(ps, at, a, until_us < end_us ? until_us : end_us, &gets_on);
        note_choice(ps, order[i].server, rc);
        if (rc == CO_ERR_TIMEOUT)
            forget_idle(ps, at);
        if (rc == 0) {
            o->rc = 0;
            return true;
        }
        cv_question_release(a); /* an answer that is of no use to anybody */
        note(o, rc);
        o->gets_on = o->gets_on || gets_on;
        if (!worth_another(rc))
            return true;
    }
    return ps->choice.n == 1 ? o->rc != CO_ERR_TIMEOUT && !worth_a_retry(o->rc)
                             : !o->again && !(o->rc == CO_ERR_FOLLOWER && o->lost);
}

/* The sentence of what is told. */
static int told(const struct outcome *o)
{
    if (o->rc == CO_ERR_FOLLOWER && o->lost)
        return co_fail(o->rc, "%.700s. That one cannot be reached now; reads go on", o->sentence);
    return co_fail(o->rc, "%s", o->sentence);
}

/* Asks until there is an answer, the time is over, or the answer is no. */
int cv_pageserver_ask(struct cv_pageserver *ps, struct cv_question *a, uint64_t end_us)
{
    uint64_t begin_us = co_now_us(), span_us = end_us > begin_us ? end_us - begin_us : 0;
    uint64_t wait_us = CV_RETRY_MIN_US;
    struct outcome o;
    unsigned patience = 0;

    if (ps->pid != getpid())
        return co_fail(CO_ERR_CLOSED, "the connections to the pageserver belong to the parent "
                                      "process; a child made by fork() has to open the database "
                                      "anew");
    for (;;) {
        bool reached = atomic_load(&ps->reached);
        uint64_t until_us = end_us;
        if (!reached && until_us > begin_us + CV_FIRST_CONTACT_US)
            until_us = begin_us + CV_FIRST_CONTACT_US;
        bool settled = ask_each(ps, a, patience, until_us, &o);
        if (o.rc == 0)
            return 0;
        if (o.gets_on)
            end_us = co_now_us() + span_us;
        if (settled || (o.rc == CO_ERR_FOLLOWER && co_now_us() > begin_us + CV_OWNER_WAIT_US))
            return told(&o);
        patience += ps->choice.n == 1 ? o.rc == CO_ERR_TIMEOUT : o.slow;
        uint64_t now_us = co_now_us();
        reached = atomic_load(&ps->reached);
        if ((o.rc == CO_ERR_TIMEOUT && !reached) ||
            now_us + wait_us >= (reached ? end_us : until_us))
            return told(&o);
        cv_pause_us(wait_us);
        wait_us = wait_us * 2 > CV_RETRY_MAX_US ? CV_RETRY_MAX_US : wait_us * 2;
    }
}
