#include "compute-vfs/pageserver_pool.h"

#include <errno.h>
#include <poll.h>
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

static struct psock *take_idle(struct cv_pageserver *ps)
{
    for (;;) {
        pthread_mutex_lock(&ps->lock);
        struct psock *s = ps->n_idle > 0 ? ps->idle[--ps->n_idle] : NULL;
        pthread_mutex_unlock(&ps->lock);
        if (s == NULL || !stale(s))
            return s;
        drop(s);
    }
}

static void put_back(struct cv_pageserver *ps, struct psock *s)
{
    bool kept = false;

    if (s->fd >= 0) {
        pthread_mutex_lock(&ps->lock);
        if (ps->n_idle < CV_POOL_MAX) {
            ps->idle[ps->n_idle++] = s;
            kept = true;
        }
        pthread_mutex_unlock(&ps->lock);
    }
    if (!kept)
        drop(s);
}

static int connect_new(struct cv_pageserver *ps, uint64_t deadline_us, struct psock **out)
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
    int rc = psock_connect(s, ps->host, ps->port, &hello, deadline_us, NULL);
    if (rc != 0) {
        free(s);
        return rc;
    }
    atomic_store(&ps->reached, true);
    *out = s;
    return 0;
}

static int connection(struct cv_pageserver *ps, uint64_t deadline_us, struct psock **out)
{
    *out = take_idle(ps);
    return *out != NULL ? 0 : connect_new(ps, deadline_us, out);
}

void cv_pool_close(struct cv_pageserver *ps)
{
    for (uint32_t i = 0; i < ps->n_idle; i++)
        drop(ps->idle[i]);
    ps->n_idle = 0;
}

/* One connection was silent for too long: the others may lead to the same nowhere. */
static void forget_idle(struct cv_pageserver *ps)
{
    pthread_mutex_lock(&ps->lock);
    cv_pool_close(ps);
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

/* It is behind: has it got on since it said so last? A large transaction takes it a while. */
static bool note_lag(struct cv_question *ask, const Corallite__Error *error)
{
    if (error == NULL || !error->has_progress)
        return false;
    bool more = ask->lagged && error->progress != ask->progress;
    ask->lagged = true;
    ask->progress = error->progress;
    return more;
}

/* One try. */
static int ask_once(struct cv_pageserver *ps, struct cv_question *ask, uint64_t end_us,
                    bool *gets_on)
{
    struct psock *s = NULL;
    *gets_on = false;
    int rc = connection(ps, end_us, &s);

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
    *gets_on = rc == CO_ERR_LAG && note_lag(ask, error);
    if (error != NULL)
        corallite__error__free_unpacked(error, NULL);
    count(ps, s, in, out);
    if (rc == 0)
        rc = read_reply(ps, ask);
    if (rc == CO_ERR_PROTOCOL)
        psock_close(s);
    put_back(ps, s);
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

/* Asks until there is an answer, the time is over, or the answer is no. */
int cv_pageserver_ask(struct cv_pageserver *ps, struct cv_question *a, uint64_t end_us)
{
    uint64_t begin_us = co_now_us(), span_us = end_us > begin_us ? end_us - begin_us : 0;
    uint64_t wait_us = CV_RETRY_MIN_US, try_us = CV_TRY_US;

    if (ps->pid != getpid())
        return co_fail(CO_ERR_CLOSED, "the connections to the pageserver belong to the parent "
                                      "process; a child made by fork() has to open the database "
                                      "anew");
    for (;;) {
        bool reached = atomic_load(&ps->reached);
        uint64_t until_us = end_us;
        if (!reached && until_us > begin_us + CV_FIRST_CONTACT_US)
            until_us = begin_us + CV_FIRST_CONTACT_US;
        uint64_t try_until_us = co_now_us() + try_us;
        bool gets_on;
        int rc = ask_once(ps, a, try_until_us < until_us ? try_until_us : until_us, &gets_on);
        if (gets_on)
            end_us = co_now_us() + span_us;
        if (rc == CO_ERR_TIMEOUT) {
            forget_idle(ps);
            try_us *= 2;
            if (atomic_load(&ps->reached) && co_now_us() + wait_us < end_us)
                rc = CO_ERR_AGAIN; /* it is there: it takes its time, or the way to it has gone */
        }
        if (rc != 0)
            cv_question_release(a); /* an answer that is of no use to anybody */
        if (!worth_a_retry(rc))
            return rc;
        uint64_t now_us = co_now_us();
        if (now_us + wait_us >= (atomic_load(&ps->reached) ? end_us : until_us))
            return rc;
        cv_pause_us(wait_us);
        wait_us = wait_us * 2 > CV_RETRY_MAX_US ? CV_RETRY_MAX_US : wait_us * 2;
    }
}
