/*
 * atlas.c - the faults of a disk that the other two copies have to make good: it goes back to an
 * older image, it lied about what it had synced, it is lost. The product says so, and the operator
 * gives `corallite safekeeper replace` (member.c); the sooner or later, at the latest when all is
 * healed.
 *
 * The atlas, as at level A (tests/sim/image.c): such a disk is that of one member at a time, and
 * the next one falls only when that one was replaced. Never in a seed in which a byte rots, never
 * while members change, and meanwhile nobody else is replaced. An image is put back, and a lie
 * comes out, only where each of the other two is whole and knows what that disk forgets: the
 * registry's entries, the list of safekeepers, the term of each log, and all that is committed,
 * either in its own log or as the word of a leader, durable (decision 51). Where one has neither,
 * and it alone is left with the victim, nobody is left who knows. And the host is off for longer
 * than a lease.
 *
 * So a lost commit is always a bug, and nothing in the oracle is looser than without these faults.
 * A disk that is lost needs no such condition: it says nothing any more. An empty one in its place,
 * under the same name, has another identity, and nobody speaks to it.
 */
#include <stdio.h>

#include "common/error.h"
#include "safekeeper/control_file.h"
#include "safekeeper/server.h"
#include "safekeeper/witness_file.h"
#include "tests/fullsim/fullsim.h"
#include "tests/fullsim/oracle.h"

#define TRY_US      40000u
#define PATIENCE    20000000u /* so long a disk that may not fall yet is watched */
#define OFF_US      (CO_LEASE_US + CO_LEASE_US / 32)
#define HEARD_US    3000000u /* after that each leader is connected with whoever is up */
#define OPERATOR_US 15000000u

static struct {
    enum fault kind;
    uint32_t victim;  /* its host; 0: nobody */
    bool planned;     /* the image was taken; the disk has not gone back */
    bool told;        /* it said so, or is lost: it is to be replaced */
    bool empty;       /* lost, and started with an empty directory under its old name */
    uint32_t starved; /* its disk is full, so that it has the word of a leader alone; 0: nobody */
    uint64_t begun_us, fall_us;
    uint64_t up_us;           /* all is healed, and it serves, since then; 0: not yet */
    lsn_t end[MAX_TIMELINES]; /* of each log a while later: what comes now it is told of */
    uint32_t n_end;
    bool fell[MAX_KEEPERS + 1];    /* that of this host went back, once */
    bool lied[MAX_KEEPERS + 1];    /*   and may be damaged for good */
    bool refused[MAX_KEEPERS + 1]; /* it says that it takes no part, and its disk says so */
} a;

uint32_t atlas_victim(void)
{
    return a.planned ? 0 : a.victim;
}

bool atlas_may_be_damaged(uint32_t host)
{
    return a.lied[host];
}

static void forget_plan(void)
{
    if (a.starved)
        disk_full(a.starved, false);
    a.starved = 0;
    if (!a.planned)
        return;
    trace("the disk of safekeeper %u stays as it is", a.victim);
    a.planned = false;
    a.victim = 0;
}

void atlas_members_change(void)
{
    forget_plan();
}

/* What it had said was synced is there after all; what survives that is synced. */
void atlas_power_lost(uint32_t host)
{
    if (a.planned && a.kind == F_LYING && a.victim == host)
        forget_plan();
}

/* ---- what the others know ----------------------------------------------------------------------
 */

/* How far a safekeeper is in one timeline. */
struct stand {
    lsn_t flush, commit, suspect;
    term_t term, log_term; /* log_term 0: not known, it is at rest */
};

static void path_of(const struct sk_server *s, const struct sk_entry *e, const char *file,
                    char out[200])
{
    char id[CO_ID_TEXT];
    snprintf(out, 200, "%s/timelines/%s/%s", s->options.dir, co_id_format(&e->id, id), file);
}

static struct sk_timeline *open_one(const struct sk_server *s, const struct co_id *id)
{
    for (uint32_t i = 0; i < s->n_open; i++)
        if (co_id_eq(sk_timeline_id(s->open[i].t), id))
            return s->open[i].t;
    return NULL;
}

static bool stand_of(const struct sk_server *s, const struct sk_entry *e, struct stand *out)
{
    struct sk_timeline *t = open_one(s, &e->id);
    struct sk_control control;
    struct sk_view v;
    if (t && sk_timeline_view(t, &v)) {
        *out = (struct stand){v.flush_lsn, v.commit_lsn, v.suspect_lsn, v.term, v.last_log_term};
        return !v.halted;
    }
    if (t || !sk_server_peek(s, e, &control))
        return false;
    *out = (struct stand){control.sealed_lsn, control.commit_lsn, control.suspect_lsn, control.term,
                          0};
    return true;
}

/* As its disk has it now. */
static bool durable_term(const struct sk_server *s, const struct sk_entry *e, term_t *out)
{
    struct sk_birth birth = sk_birth_of(s, e);
    struct sk_control_file file;
    struct sk_control control;
    char path[200];
    path_of(s, e, "control", path);
    if (!disk_is_settled(path) || sk_control_open(path, &birth.owner, &file, &control))
        return false;
    sk_control_close(&file);
    *out = control.term;
    return true;
}

static bool has_word(const struct sk_server *s, const struct sk_entry *e, lsn_t committed)
{
    struct sk_witness_file w;
    char path[200], dir[200];
    path_of(s, e, "witness", path);
    path_of(s, e, "", dir);
    dir[strlen(dir) - 1] = 0;
    return disk_is_settled(path) && !sk_witness_read(dir, &e->id, &w) &&
           q_known_commit(w.known, w.n) >= committed;
}

/* Does `o` know of this timeline what v, whose disk goes back, may forget? *word: that is the word
 * of a leader, not the records. */
static bool knows(const struct sk_server *o, const struct sk_entry *e, const struct stand *v,
                  lsn_t committed, bool *word)
{
    const struct sk_entry *same = sk_registry_find(&o->registry, &e->id);
    struct stand s;
    term_t term;
    if (!same || same->version < e->version)
        return false;
    if (e->state == CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
        return true;
    if (!stand_of(o, same, &s) || s.suspect || !durable_term(o, same, &term) || term < v->term)
        return false;
    bool has = s.flush >= committed &&
               (s.commit >= committed ||
                (s.log_term && s.log_term == v->log_term && v->flush >= committed));
    *word |= !has;
    return has || has_word(o, same, committed);
}

/* `word` of a host: of some record it has nothing but that. */
static bool covered(bool word[MAX_KEEPERS + 1])
{
    const struct sk_server *v = daemon_server(a.victim - 1);
    for (uint32_t host = 1; host <= daemon_keepers(); host++) {
        const struct sk_server *o = daemon_server(host - 1);
        word[host] = false;
        if (host == a.victim || !member_is(host))
            continue;
        if (!o || !v || o->nodes.config.version < v->nodes.config.version)
            return false;
        for (uint32_t i = 0; i < v->registry.n; i++) {
            const struct sk_entry *e = &v->registry.e[i];
            const struct timeline *t = timeline_of(&e->id);
            struct stand s;
            if (!stand_of(v, e, &s) || s.suspect)
                return false;
            lsn_t committed = t && t->end > s.commit ? t->end : s.commit;
            if (s.flush > committed || !knows(o, e, &s, committed, &word[host]))
                return false;
        }
    }
    return true;
}

/* ---- a disk goes back --------------------------------------------------------------------------
 */

static void watch(void *unused, uint64_t b);

/* Who has more than a word is away for a while; who has only that is to have it from its disk, in
 * half the cases. */
static void hide_the_knowing(const bool word[MAX_KEEPERS + 1])
{
    for (uint32_t host = 1; host <= daemon_keepers(); host++) {
        if (host == a.victim || !member_is(host))
            continue;
        if (!word[host])
            daemon_keeper_away(host - 1, OFF_US + CO_LEASE_US + below(R_NEMESIS, 6000000));
        else if (below(R_NEMESIS, 2))
            daemon_keeper_end(host - 1, below(R_NEMESIS, 2));
    }
}

static void fall(const bool word[MAX_KEEPERS + 1])
{
    bool any = false;
    for (uint32_t host = 1; host <= daemon_keepers(); host++)
        any |= word[host];
    a.planned = false;
    trace("the disk of safekeeper %u goes back%s", a.victim, any ? ", by word" : "");
    daemon_keeper_off(a.victim - 1, sim.now + OFF_US + below(R_NEMESIS, 1000000));
    if (a.kind == F_IMAGE || below(R_NEMESIS, 3) == 0)
        disk_image_back(a.victim);
    else
        disk_image_mix(a.victim);
    a.fell[a.victim] = true;
    a.lied[a.victim] = a.kind == F_LYING;
    probe(a.kind == F_IMAGE ? P_IMAGE : P_LIE);
    if (any)
        probe(P_BY_WORD);
    if (any && below(R_NEMESIS, 4))
        hide_the_knowing(word);
    forget_plan();
    after(TRY_US, watch, NULL, 0);
}

static void try_to_fall(void *unused, uint64_t number)
{
    bool word[MAX_KEEPERS + 1], any = false;
    (void)unused;
    if (!a.planned || a.begun_us != number)
        return;
    if (sim.now - a.begun_us > PATIENCE) {
        forget_plan();
        return;
    }
    after(1 + below(R_NEMESIS, TRY_US), try_to_fall, NULL, number);
    if (a.starved && sim.now - a.begun_us < PATIENCE / 2)
        disk_full(a.starved, true);
    if (sim.now < a.fall_us || work_duel_is_on() || !covered(word))
        return;
    for (uint32_t host = 1; host <= daemon_keepers(); host++)
        any |= word[host];
    if (!any && a.starved && sim.now - a.begun_us < PATIENCE / 2)
        return;
    if (fault_now(a.kind))
        fall(word);
    else
        forget_plan();
}

/* The other member whose disk is full has of what comes nothing but the word. */
static void starve_one(void)
{
    uint32_t others[MAX_KEEPERS], n = 0;
    for (uint32_t host = 1; host <= daemon_keepers(); host++)
        if (member_is(host) && host != a.victim)
            others[n++] = host;
    a.starved = others[below(R_NEMESIS, n)];
}

static void plan(void)
{
    a.planned = true;
    trace("an image is taken of the disk of safekeeper %u", a.victim);
    disk_image_take(a.victim);
    a.fall_us = sim.now + below(R_NEMESIS, 2) * below(R_NEMESIS, PATIENCE / 4);
    if (below(R_NEMESIS, 2))
        starve_one();
    after(1 + below(R_NEMESIS, TRY_US), try_to_fall, NULL, a.begun_us);
}

/* ---- what is done about it ---------------------------------------------------------------------
 */

static void operate(void *unused, uint64_t host)
{
    (void)unused;
    if (a.victim != host)
        return; /* it was replaced meanwhile */
    if (member_busy() || member_tool())
        after(200000, operate, NULL, host);
    else
        member_replace_one((uint32_t)host);
}

static void tell(void)
{
    a.told = true;
    after(10000 + below(R_NEMESIS, sim.healed ? 200000 : OPERATOR_US), operate, NULL, a.victim);
}

void atlas_stroke(enum fault f)
{
    uint32_t host = 1 + below(R_NEMESIS, daemon_keepers());
    if (a.victim || member_busy() || member_tool() || daemon_keepers() == MAX_KEEPERS ||
        !member_is(host) || !daemon_server(host - 1) || (f == F_LOST && !fault_now(f)))
        return;
    a.kind = f;
    a.victim = host;
    a.planned = a.told = a.empty = false;
    a.up_us = 0;
    a.n_end = 0;
    a.begun_us = sim.now;
    if (f != F_LOST) {
        plan();
        return;
    }
    a.empty = below(R_NEMESIS, 2);
    trace("the disk of safekeeper %u is lost%s", host, a.empty ? ", it gets an empty one" : "");
    daemon_keeper_lose(host - 1, a.empty ? sim.now + below(R_NEMESIS, OFF_US) : NEVER);
    a.fell[host] = true;
    probe(P_LOST);
    tell();
}

/* Somebody looks at what they say, as `corallite status` shows it. */
void atlas_look(void)
{
    for (uint32_t host = 1; host <= daemon_keepers(); host++) {
        const char *sentence = daemon_lives(host - 1)->regressed;
        char path[64];
        if (!daemon_server(host - 1))
            continue;
        if (sentence[0] && daemon_is_rotten(host))
            probe(P_ROT_FOUND);
        else if (sentence[0] && host != atlas_victim() && member_is(host))
            violation("safekeeper %u refuses itself, and its disk never went back: %s", host,
                      sentence);
        if (!sentence[0] && a.refused[host])
            violation("safekeeper %u takes part again, and its disk went back in time", host);
        if (a.empty && host == a.victim)
            probe(P_EMPTY);
        snprintf(path, sizeof path, "/sim/keeper%u/regressed", host);
        a.refused[host] |= sentence[0] && disk_is_settled(path);
    }
}

/* It takes no part in anything any more. */
static bool is_out(uint32_t host)
{
    return daemon_lives(host - 1)->regressed[0] != 0;
}

/* It says that it takes no part, in one timeline or at all. */
static bool says_so(uint32_t host)
{
    const struct sk_server *s = daemon_server(host - 1);
    if (daemon_keeper_is_hopeless(host - 1))
        return true;
    for (uint32_t i = 0; s && i < s->n_open; i++)
        if (sk_timeline_state(s->open[i].t) == SK_HALTED)
            return true;
    if (!s || !is_out(host))
        return false;
    trace("safekeeper %u: %s", host, daemon_lives(host - 1)->regressed);
    probe(P_REGRESSED);
    return true;
}

static void watch(void *unused, uint64_t b)
{
    (void)unused;
    (void)b;
    if (!a.victim || a.planned || a.told)
        return;
    atlas_look();
    if (says_so(a.victim)) {
        tell();
        return;
    }
    after(TRY_US, watch, NULL, 0);
    if (!sim.healed || !daemon_server(a.victim - 1))
        a.up_us = 0;
    else if (!a.up_us)
        a.up_us = sim.now;
    if (!a.up_us || sim.now - a.up_us < HEARD_US)
        a.n_end = 0;
    else if (!a.n_end)
        for (; a.n_end < n_timelines; a.n_end++)
            a.end[a.n_end] = timelines[a.n_end].end;
}

void atlas_replaced(uint32_t host)
{
    if (host != a.victim)
        return;
    probe(P_ANEW);
    a.victim = 0;
}

void atlas_heal(void)
{
    if (a.planned)
        forget_plan();
}

/* Who has not said anything is told of new commits for a while. */
bool atlas_settled(void)
{
    return !a.victim || (!a.told && a.up_us && sim.now - a.up_us > 2 * HEARD_US);
}

/* ---- what is said of them ----------------------------------------------------------------------
 */

/* More than it has, that is. */
static bool denies(const struct q_known_list *known, uint32_t host, const struct stand *s)
{
    const struct sk_lives *lives = daemon_lives(host - 1);
    const struct q_known *e = q_known_of(known->e, known->n, host);
    const struct q_stand now = {.starts = lives->starts,
                                .start_id = lives->start_id,
                                .term = s->term,
                                /* at rest, or in doubt: not known here */
                                .log_term = s->log_term && !s->suspect ? s->log_term : UINT64_MAX,
                                .reach = s->flush > s->suspect ? s->flush : s->suspect};
    return e && q_known_denies(e, &now);
}

/* Whoever is told that it said more than it has takes no part from this moment on; and of a disk
 * that never went back nobody says that. */
int __real_sk_step(struct sk_acceptor *sk, const struct sk_event *event, struct sk_actions *out);
int __wrap_sk_step(struct sk_acceptor *sk, const struct sk_event *event, struct sk_actions *out);
int __wrap_sk_step(struct sk_acceptor *sk, const struct sk_event *event, struct sk_actions *out)
{
    uint32_t host = here()->host;
    struct sk_view v;
    sk_view(sk, event->now_us, &v);
    const struct stand s = {v.flush_lsn, v.commit_lsn, v.suspect_lsn, v.term, v.last_log_term};
    bool more = !v.halted && event->kind == SK_EV_MSG && denies(&event->msg->known, host, &s);
    int rc = __real_sk_step(sk, event, out);
    if (rc)
        return rc;
    sk_view(sk, event->now_us, &v);
    if (event->kind == SK_EV_MSG)
        sealed_step(host, &event->msg->timeline, &v);
    if (!more)
        return 0;
    /* A byte of the tail that is not sealed yet may rot, which is taken for a tear (decision 24).
     */
    if (!a.fell[host] && !daemon_is_rotten(host))
        violation("safekeeper %u is told that it said more than it ever had", host);
    if (!v.regressed)
        violation("safekeeper %u is told that it said more than it has, and goes on", host);
    return 0;
}

/* ---- the end -----------------------------------------------------------------------------------
 */

/* An image is found out where somebody writes (docs/damage.md). */
static bool is_written(const struct co_id *id)
{
    const struct timeline *t = timeline_of(id);
    size_t i = t ? (size_t)(t - timelines) : MAX_TIMELINES;
    return i < a.n_end && t->end > a.end[i];
}

static void check_known(uint32_t host, const struct sk_server *by)
{
    const struct sk_server *s = daemon_server(host - 1);
    for (uint32_t i = 0; s && i < by->n_open; i++) {
        struct sk_view v;
        struct sk_timeline *t = by->open[i].t;
        const struct sk_entry *e = sk_registry_find(&s->registry, sk_timeline_id(t));
        struct stand stand;
        if (!sk_timeline_view(t, &v) || !e || !stand_of(s, e, &stand))
            continue;
        if (denies(&v.known, host, &stand) && (host != a.victim || is_written(&e->id)))
            violation("safekeeper %u has less of %s than it once said, and does not say so", host,
                      e->name);
    }
}

/* What each safekeeper keeps of the others fits them, where it came to them. */
void atlas_end(void)
{
    for (uint32_t host = 1; host <= daemon_keepers(); host++)
        for (uint32_t by = 1; by <= daemon_keepers(); by++)
            if (by != host && member_is(host) && !is_out(host) && daemon_server(by - 1))
                check_known(host, daemon_server(by - 1));
}
