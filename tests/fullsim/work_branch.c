/* work_branch.c - branches that diverge, reads of the past, and outcomes that are asked for later.
 */
#include <stdio.h>
#include <string.h>

#include "common/clock_file.h"
#include "proto/peer_sock.h"
#include "proto/unpack.h"
#include "tests/fullsim/work.h"

/* ---- outcomes that are unknown -----------------------------------------------------------------
 */

static int take_text(void *out, int n, char **values, char **names)
{
    (void)names;
    if (n && values[0])
        snprintf(out, 40, "%s", values[0]);
    return 0;
}

#define ID_TEXT   64
#define WORD_TEXT 40

/* What c's branch says of it, and by which id it was asked. */
static int status_of(struct conn *c, const struct txn *x, char id[ID_TEXT], char word[WORD_TEXT])
{
    char sql[160];
    word[0] = 0;
    lsn_commit_id_format(x->term, x->begin, id);
    snprintf(sql, sizeof sql, "select corallite_commit_status('%s')", id);
    int rc = sqlite3_exec(c->db, sql, take_text, word, NULL);
    trace("status of %s in %s: %d %s", id, c->timeline->branch, rc, word);
    return rc;
}

/* Whoever is at it asks for all of them. */
static void ask(struct conn *c, struct txn *x)
{
    char id[ID_TEXT], word[WORD_TEXT];
    int rc = status_of(c, x, id, word);
    if (!rc && x->state == T_UNKNOWN && strcmp(word, "unknown") != 0)
        txn_verdict(x, word);
}

bool work_name_moved(const struct conn *c)
{
    const struct timeline *t = c->timeline;
    return (t->moving && !t->dropping) || t->kept_us > c->opened_us || client_may_be_of_before(c);
}

/* An id is one commit's, whatever branch is asked, also under a name that another one had, and
 * where the branch has it of an ancestor. */
static void judge(struct conn *c, struct txn *x)
{
    const struct timeline *t = c->timeline;
    char id[ID_TEXT], word[WORD_TEXT];
    int rc = status_of(c, x, id, word);
    if (rc || strcmp(word, "unknown") == 0 || work_name_moved(c))
        return;
    probe(P_ASKED_ELSEWHERE);
    if ((strcmp(word, "committed") == 0) != txn_is_at(x, t, t->end))
        violation("I17: commit %s of another branch is called %s in %s", id, word, t->branch);
}

/* By a connection to t: this one, or one for the question. */
static void ask_in(struct conn *c, struct timeline *t, void (*how)(struct conn *, struct txn *),
                   struct txn *x)
{
    if (t == c->timeline) {
        how(c, x);
        return;
    }
    struct conn other = work_other(c, t, 0);
    if (other.db) {
        how(&other, x);
        sqlite3_close(other.db);
    }
}

static void ask_elsewhere(struct conn *c)
{
    struct timeline *t = &timelines[below(R_WORK, n_timelines)];
    struct txn *x = n_txns ? &txns[1 + below(R_WORK, n_txns)] : NULL;
    if (x && x->has_record && !t->moving && !t->gone && !co_id_eq(&x->timeline, &t->id))
        ask_in(c, t, judge, x);
}

void work_resolve(struct conn *c)
{
    if (below(R_WORK, 60) == 0)
        ask_elsewhere(c);
    work_settle_restores(c);
    work_settle_drops(c);
    for (uint32_t i = 1; i <= n_txns; i++) {
        struct txn *x = &txns[i];
        struct timeline *t = timeline_of(&x->timeline);
        if (x->state == T_UNKNOWN && !t->moving && !(t->sealed && below(R_WORK, 8)))
            ask_in(c, t, ask, x);
    }
}

/* ---- branches and moments ----------------------------------------------------------------------
 */

struct conn work_other(struct conn *c, struct timeline *t, lsn_t at)
{
    struct conn other = *c;
    int rc;
    other.timeline = t;
    other.db = client_handle(&other, t->branch, at, &rc);
    if (!other.db)
        client_check_code(&other, rc, "opening a branch or a moment");
    return other;
}

/* One pageserver is asked. */
static int ask_at(struct conn *c, uint32_t at, enum frame_type type, const ProtobufCMessage *q,
                  enum frame_type answer, const ProtobufCMessageDescriptor *how,
                  ProtobufCMessage **out)
{
    Corallite__Hello hello = CORALLITE__HELLO__INIT;
    struct frame_header frame;
    struct co_buf body;
    struct psock s;
    char host[32];
    uint64_t deadline = co_now_us() + 3000000;
    snprintf(host, sizeof host, "10.0.%u.%u", c->user->server, at);
    hello.has_protocol_min = hello.has_protocol_max = hello.has_role = 1;
    hello.protocol_min = hello.protocol_max = CO_PROTOCOL_VERSION;
    hello.role = CORALLITE__ROLE__ROLE_TOOL;
    int rc = psock_connect(&s, host, 6400, &hello, deadline, NULL);
    if (rc)
        return rc;
    rc = psock_call(&s, type, q, co_span_of(NULL, 0), deadline, &frame, &body, NULL);
    if (!rc) {
        *out = frame.type == answer
                   ? message_unpack(how, co_span_of(body.data, frame.message_bytes))
                   : NULL;
        if (!*out)
            violation("a frame of type %u is answered by one of type %u", type, frame.type);
        co_buf_free(&body);
    }
    psock_close(&s);
    return rc;
}

/* Who only follows says so, and the other one is asked. */
int work_ask(struct conn *c, enum frame_type type, const ProtobufCMessage *q,
             enum frame_type answer, const ProtobufCMessageDescriptor *how, ProtobufCMessage **out)
{
    int rc = CO_ERR_FOLLOWER;
    for (uint32_t i = 0; i < pages_count() && (rc == CO_ERR_FOLLOWER || rc == CO_ERR_CONNECT); i++)
        rc = ask_at(c, HOST_PAGES + i, type, q, answer, how, out);
    return rc;
}

int work_change(struct conn *c, enum frame_type type, const ProtobufCMessage *q,
                Corallite__Branched **out)
{
    ProtobufCMessage *m = NULL;
    int rc = work_ask(c, type, q, FRAME_BRANCHED, &corallite__branched__descriptor, &m);
    *out = (Corallite__Branched *)m;
    return rc;
}

static void make_branch(struct conn *c)
{
    Corallite__BranchCreate q = CORALLITE__BRANCH_CREATE__INIT;
    Corallite__Branched *m = NULL;
    struct timeline *from = &timelines[below(R_WORK, n_timelines)];
    struct co_id id = co_id_random();
    const struct conn by_name = {.timeline = from, .opened_us = sim.now};
    char name[32], at[64], digits[LSN_TEXT];
    lsn_t lsn = any_lsn(from);
    if (lsn < setup_lsn || from->moving)
        return;
    snprintf(name, sizeof name, "b%u", c->id * 1000 + n_timelines);
    snprintf(at, sizeof at, "lsn:%s", lsn_format(lsn, digits));
    q.database = (char *)(uintptr_t) "shop";
    q.branch = name;
    q.from_branch = from->branch;
    q.at = at;
    q.has_id = 1;
    q.id = msg_bytes16(id.b);
    q.has_deadline_ms = 1;
    q.deadline_ms = 2500;
    int rc = work_change(c, FRAME_BRANCH_CREATE, &q.base, &m);
    trace("branch %s from %s at %s: %d", name, from->branch, at, rc);
    if (rc)
        return;
    if (work_name_moved(&by_name)) {
        corallite__branched__free_unpacked(m, NULL);
        return; /* of which one it is, is not known: nobody opens it */
    }
    if (m->lsn != lsn)
        violation("branch %s was asked for at %llx and made at %llx", name, (unsigned long long)lsn,
                  (unsigned long long)m->lsn);
    while (from->parent && lsn <= from->base)
        from = from->parent;
    timeline_make(&id, name, from, lsn);
    run_stats.branches++;
    corallite__branched__free_unpacked(m, NULL);
}

void work_go_to_branch(struct conn *c)
{
    if (n_timelines < 2 || (n_timelines < 6 && below(R_WORK, 3) == 0)) {
        make_branch(c);
        return;
    }
    struct timeline *t = &timelines[1 + below(R_WORK, n_timelines - 1)];
    if (t->moving)
        return;
    struct conn other = work_other(c, t, 0);
    if (!other.db)
        return;
    if (t->sealed) {
        work_read(&other, "a read of what a restore put aside");
        probe(P_SEALED_READ);
        sqlite3_close(other.db);
        return;
    }
    t->writers++;
    for (uint32_t n = 1 + below(R_WORK, 4); n > 0; n--)
        work_some(&other);
    t->writers--;
    c->after_heal = other.after_heal;
    sqlite3_close(other.db);
}

void work_go_to_past(struct conn *c)
{
    struct timeline *t = &timelines[below(R_WORK, n_timelines)];
    lsn_t lsn = any_lsn(t);
    if (lsn < setup_lsn || t->moving)
        return;
    struct conn other = work_other(c, t, lsn);
    if (!other.db)
        return;
    work_read(&other, "a read of the past");
    probe(P_PAST_READ);
    sqlite3_close(other.db);
}
