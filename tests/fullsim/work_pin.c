/*
 * work_pin.c - named pins, which nothing has but the pageserver's disk and the archive: one that
 * was told to be there stays, as long as that disk does, and beyond if the archive had it then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fullsim/work.h"

#define MAX_PINS 64u

static struct pin {
    char name[16];
    lsn_t lsn;
    const struct timeline *line;
    uint32_t losses; /* of disks of pageservers, when it was asked for */
    bool told, archived;
} pins[MAX_PINS];
static uint32_t n_pins;

void work_pin(struct conn *c)
{
    Corallite__Pin q = CORALLITE__PIN__INIT;
    ProtobufCMessage *answer = NULL;
    struct timeline *t = &timelines[below(R_ARCHIVE, n_timelines)];
    const struct conn by_name = {.timeline = t, .opened_us = sim.now};
    struct record *r = t->n_gold ? t->gold[below(R_ARCHIVE, t->n_gold)] : NULL;
    char at[64], digits[LSN_TEXT];
    if (!r || r->h.kind != WAL_TXN || t->moving || t->sealed || t->gone || n_pins == MAX_PINS)
        return;
    struct pin *p = &pins[n_pins];
    p->lsn = r->h.end_lsn;
    snprintf(p->name, sizeof p->name, "p%u", n_pins++);
    snprintf(at, sizeof at, "lsn:%s", lsn_format(p->lsn, digits));
    q.database = (char *)(uintptr_t) "shop";
    q.branch = t->branch;
    q.name = p->name;
    q.at = at;
    p->losses = pages_losses();
    int rc = work_ask(c, FRAME_PIN, &q.base, FRAME_PINS, &corallite__pins__descriptor, &answer);
    trace("pin %s of %s at %s: %d %s", p->name, t->branch, at, rc, rc ? co_sentence() : "");
    if (rc)
        return;
    p->told = !work_name_moved(&by_name); /* or it is another branch's, at a place of that */
    p->archived = archive_has_pin(p->name, p->lsn);
    p->line = t;
    if (p->told && work_dropped_at_once(t))
        violation("pin %s of %s was told to be there, and the branch was dropped", p->name,
                  t->branch);
    if (p->archived)
        probe(P_PIN);
    protobuf_c_message_free_unpacked(answer, NULL);
}

static bool must_be_there(const struct pin *p)
{
    return p->told && (p->archived || p->losses == pages_losses());
}

bool work_has_pin(const struct timeline *t)
{
    for (uint32_t i = 0; i < n_pins; i++)
        if (pins[i].line == t && must_be_there(&pins[i]))
            return true;
    return false;
}

static bool is_among(const struct pin *p, const Corallite__Pins *m)
{
    for (size_t i = 0; i < m->n_pins; i++)
        if (strcmp(m->pins[i]->name, p->name) == 0)
            return m->pins[i]->lsn == p->lsn;
    return false;
}

/* Those that must be there by what was told. */
static const struct pin *missing(const Corallite__Pins *m)
{
    for (uint32_t i = 0; i < n_pins; i++)
        if (must_be_there(&pins[i]) && !is_among(&pins[i], m))
            return &pins[i];
    return NULL;
}

/* A follower, which may be the one that answers, hears of them every second. */
void work_check_pins(struct conn *c)
{
    Corallite__PinList q = CORALLITE__PIN_LIST__INIT;
    uint64_t until = sim.now + 10000000;
    const struct pin *p;
    q.database = (char *)(uintptr_t) "shop";
    do {
        ProtobufCMessage *m = NULL;
        task_sleep(100000);
        p = pins;
        if (work_ask(c, FRAME_PIN_LIST, &q.base, FRAME_PINS, &corallite__pins__descriptor, &m))
            continue;
        p = missing((const Corallite__Pins *)m);
        protobuf_c_message_free_unpacked(m, NULL);
    } while (p && sim.now < until);
    if (p)
        violation("pin %s at %llx was told to be there%s, and it is not", p->name,
                  (unsigned long long)p->lsn, p->archived ? ", the archive had it" : "");
}

bool work_pins_archived(void)
{
    for (uint32_t i = 0; i < n_pins; i++)
        if (must_be_there(&pins[i]) && !archive_has_pin(pins[i].name, pins[i].lsn))
            return false;
    return true;
}
