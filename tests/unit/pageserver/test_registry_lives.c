/*
 * test_registry_lives.c - many lives of a pageserver and three safekeepers, at random: each life
 * hears two of them, is asked for branches, drops and restores, tells some of them, and is killed.
 * What was answered stays so, whatever comes, and in the end all hold the same (R11, R12).
 */
#include <stdlib.h>

#include "tests/unit/pageserver/registry_rig.h"

#define BRANCHES 4u /* names, of one database */
#define IDS      3u /* timelines that are asked for under each */
#define SAFES    3u
#define MANY     (BRANCHES * IDS)

#define CLAIM(is, timeline, what)                                                                  \
    cr_assert(is, "run %llu, timeline %u: %s", (unsigned long long)nth_run, timeline, what)

static uint64_t nth_run, seed;

static uint32_t draw(uint32_t n)
{
    return (uint32_t)((ps_random(&seed) >> 20) % n);
}

static struct ps_meta safe[SAFES][MANY]; /* version 0: lacks it */
static struct ps_meta row[MANY];         /* of the store */
static bool reached[SAFES];

/* What who asked was told, and what was ever asked. */
static struct {
    bool made, gone;      /* answered */
    bool may_go, may_end; /* a drop, or a restore in its place, was asked for */
    bool opened, at_end;  /* in this life: it could be, and one of those was asked for */
} known[MANY];

static uint32_t index_of(const struct ps_timeline *tl)
{
    return tl->meta.id.b[0] - 1u;
}

static void lives_begin(void)
{
    registry_begin(ps_id(2));
}
TestSuite(registry_lives, .init = lives_begin, .fini = teardown, .timeout = 600);

/* A safekeeper's rules (safekeeper/registry.c). False: it refuses. */
static bool take(uint32_t i, const struct ps_meta *m)
{
    struct ps_meta *have = &safe[i][m->id.b[0] - 1u];
    if (m->version <= have->version)
        return true;
    if (have->version && have->state == PS_DROPPED && m->state != PS_DROPPED)
        return false;
    if (have->version && have->state == PS_SEALED && m->state != PS_SEALED &&
        m->state != PS_DROPPED)
        return false;
    *have = *m;
    return true;
}

/* One step of what is due. False: nothing is. */
static bool step(void)
{
    uint32_t skip = reg.n ? draw(reg.n) : 0, n = 0;
    struct ps_timeline *tl = reg.all;
    while (skip--)
        tl = tl->next;
    for (; n < reg.n; n++, tl = tl->next ? tl->next : reg.all) {
        for (uint32_t k = 0, at = draw(SAFES); k < SAFES; k++) {
            uint32_t i = (at + k) % SAFES;
            if (!reached[i] || !ps_reg_lacks(&reg, tl, i) || !take(i, &tl->meta))
                continue; /* one that knows it to be SEALED waits until that is known again */
            heard(i, safe[i][index_of(tl)]);
            return true;
        }
        enum ps_next next = ps_reg_next(&reg, tl);
        if (next == PS_NEXT_STORE) {
            row[index_of(tl)] = tl->meta;
            tl->stored = tl->meta.version, tl->stored_state = tl->meta.state;
            known[index_of(tl)].made |= ps_timeline_open(tl);
            known[index_of(tl)].gone |= !ps_timeline_lives(tl);
        }
        if (next != PS_NEXT_NOTHING)
            return true;
    }
    return ps_reg_sweep(&reg) != NULL;
}

static void look(void)
{
    for (const struct ps_timeline *tl = reg.heard ? reg.all : NULL; tl; tl = tl->next) {
        uint32_t i = index_of(tl);
        if (known[i].gone)
            CLAIM(!ps_timeline_lives(tl), i, "it was dropped and is back");
        if (known[i].made && !known[i].may_go)
            CLAIM(ps_timeline_lives(tl) && ps_state_readable(tl->meta.state), i,
                  "it was made and is gone");
        if (known[i].made && !known[i].may_end && !known[i].may_go)
            CLAIM(tl->meta.state != PS_SEALED, i, "it was made and is sealed");
        known[i].opened |= ps_timeline_open(tl) && !ps_reg_restoring(&reg, tl);
        if (known[i].opened && !known[i].at_end)
            CLAIM(ps_timeline_open(tl), i, "it is taken from under who has opened it");
    }
}

static void ask_for(uint32_t place, uint32_t nth)
{
    char name[8];
    uint32_t i = place * IDS + nth;
    struct ps_timeline *tl, *has;
    struct ps_meta m = meta((uint8_t)(i + 1), "shop", PS_CREATING, 1);
    snprintf(name, sizeof name, "b%u", place);
    m.database = ps_id(200);
    snprintf(m.branch, sizeof m.branch, "%s", name);
    m.created_us = reg.life_us + draw(100);
    if (ps_reg_find(&reg, &m.id))
        return; /* it was asked for before, and is known */
    has = ps_reg_find_name(&reg, "shop", name);
    if (has) { /* then it is a restore */
        if (has->meta.state != PS_ACTIVE || !ps_timeline_open(has) || ps_reg_restoring(&reg, has))
            return;
        m.replaces = has->meta.id;
        snprintf(m.keep_as, sizeof m.keep_as, "k%u", i);
        known[index_of(has)].may_end = known[index_of(has)].at_end = true;
    }
    cr_assert_eq(ps_reg_create(&reg, &m, &tl), 0);
}

static void drop(uint32_t i)
{
    struct co_id id = ps_id((uint8_t)(i + 1));
    struct ps_timeline *tl = ps_reg_find(&reg, &id);
    if (!tl || !ps_timeline_open(tl) || ps_reg_restoring(&reg, tl))
        return;
    known[i].may_go = known[i].at_end = true;
    ps_reg_drop(&reg, tl);
}

static void reach(uint32_t i)
{
    ps_reg_list_begins(&reg, i);
    for (uint32_t t = 0; t < MANY; t++)
        if (safe[i][t].version)
            heard(i, safe[i][t]);
    ps_reg_list_done(&reg, i);
    reached[i] = true;
}

static void begin_life(uint32_t nth)
{
    bool lost = draw(4) == 0; /* the store with its disk, or its newest rows */
    struct ps_timeline *tl;
    teardown();
    registry_begin(ps_id(2));
    reg.life_us = 1000u * nth;
    memset(reached, 0, sizeof reached);
    for (uint32_t t = 0; t < MANY; t++) {
        known[t].opened = known[t].at_end = false;
        if (lost)
            row[t].version = 0;
        if (row[t].version)
            cr_assert_eq(ps_reg_load(&reg, t + 1, false, &row[t], &tl), 0);
    }
}

static void live(uint32_t nth)
{
    begin_life(nth);
    uint32_t away = draw(SAFES), acts = draw(40);
    reach((away + 1) % SAFES);
    reach((away + 2) % SAFES);
    for (uint32_t a = 0; a < acts; a++) {
        look();
        switch (draw(12)) {
        case 0:
            drop(draw(MANY));
            break;
        case 1:
        case 2:
            ask_for(draw(BRANCHES), draw(IDS));
            break;
        case 3:
            if (draw(3) == 0 && !reached[away])
                reach(away);
            break;
        default:
            step();
        }
    }
    look();
}

static void run(void)
{
    seed = nth_run * 0x9E3779B97F4A7C15u + 1;
    memset(safe, 0, sizeof safe);
    memset(row, 0, sizeof row);
    memset(known, 0, sizeof known);
    uint32_t lives = 2 + draw(6);
    for (uint32_t n = 1; n <= lives; n++)
        live(n);
    begin_life(lives + 1);
    for (uint32_t i = 0; i < SAFES; i++)
        reach(i);
    uint32_t steps = 0;
    while (step())
        CLAIM(++steps < 10000, 0, "it never ends");
    look();
    for (const struct ps_timeline *tl = reg.all; tl; tl = tl->next) {
        for (uint32_t i = 0; i < SAFES; i++) {
            const struct ps_meta *m = &safe[i][index_of(tl)];
            CLAIM(m->version == tl->meta.version && m->state == tl->meta.state, index_of(tl),
                  "a safekeeper holds another one");
        }
        CLAIM(!ps_timeline_lives(tl) || ps_reg_find_name(&reg, "shop", tl->meta.branch) == tl,
              index_of(tl), "two have one name");
    }
}

Test(registry_lives, what_was_answered_stays_and_all_hold_the_same_in_the_end)
{
    /* CORALLITE_LIVES: so many runs instead of 20,000. */
    const char *runs = getenv("CORALLITE_LIVES");
    uint64_t last = runs ? strtoull(runs, NULL, 10) : 20000;
    for (nth_run = 1; nth_run <= last; nth_run++)
        run();
}
