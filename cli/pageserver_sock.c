/*
 * pageserver_sock.c - `corallite pageserver list` and `forget`: the pageservers that follow the
 * logs, as the safekeepers know them.
 *
 * Each safekeeper is asked; what they say is put together by the disk of a pageserver. A position
 * is the furthest that any of them was told, for a pageserver streams a log from one of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/json.h"
#include "cli/members.h"
#include "cli/text.h"
#include "common/clock_file.h"

#define CALL_MS     10000u
#define FOLLOWS_MAX 16u

struct position {
    struct co_id timeline;
    lsn_t durable;
};

struct follower {
    struct co_id disk;
    char address[CO_HOST_MAX_BYTES + 16];
    uint32_t known, connected; /* by so many safekeepers */
    uint64_t heard_us;
    struct position *at;
    uint32_t n_at;
};

struct followers {
    struct members m;
    struct member_timelines all;
    struct follower e[FOLLOWS_MAX];
    uint32_t n, asked;
    struct co_id owner; /* zero: there is no timeline yet */
};

static struct follower *find(struct followers *f, const struct co_id *disk)
{
    uint32_t i = 0;
    while (i < f->n && !co_id_eq(&f->e[i].disk, disk))
        i++;
    if (i == f->n && f->n < FOLLOWS_MAX)
        f->e[f->n++].disk = *disk;
    return i < FOLLOWS_MAX ? &f->e[i] : NULL;
}

static int take_position(struct follower *of, const Corallite__Pageservers__One__Position *p)
{
    struct co_id id;
    uint32_t i = 0;
    int rc = msg_get16("timeline", p->has_timeline, &p->timeline, id.b);
    if (rc)
        return rc;
    while (i < of->n_at && !co_id_eq(&of->at[i].timeline, &id))
        i++;
    if (i == of->n_at) {
        struct position *at = realloc(of->at, (i + 1) * sizeof *at);
        if (!at)
            return co_fail(CO_ERR_NOMEM, "no memory for a list of positions");
        of->at = at;
        of->at[of->n_at++] = (struct position){.timeline = id};
    }
    if (p->durable_lsn > of->at[i].durable)
        of->at[i].durable = p->durable_lsn;
    return 0;
}

static int take(struct followers *f, const Corallite__Pageservers *m)
{
    int rc = 0;
    for (size_t i = 0; i < m->n_pageservers && !rc; i++) {
        const Corallite__Pageservers__One *one = m->pageservers[i];
        struct co_id disk;
        rc = msg_get16("disk", one->has_disk, &one->disk, disk.b);
        struct follower *of = rc ? NULL : find(f, &disk);
        if (!of)
            continue;
        of->known++;
        of->connected += one->connected != 0;
        if (one->heard_us >= of->heard_us) {
            of->heard_us = one->heard_us;
            snprintf(of->address, sizeof of->address, "%s", one->address ? one->address : "");
        }
        for (size_t k = 0; k < one->n_positions && !rc; k++)
            rc = take_position(of, one->positions[k]);
    }
    return rc;
}

/* Every safekeeper; `forget` (may be NULL) goes first. */
static int ask_all(struct followers *f, const struct co_id *forget)
{
    int rc = 0;
    for (uint32_t i = 0; i < f->m.n && !rc; i++) {
        Corallite__Pageservers ask = CORALLITE__PAGESERVERS__INIT, *answer = NULL;
        if (!f->m.at[i].up)
            continue;
        ask.has_forget = forget != NULL;
        if (forget)
            ask.forget = msg_bytes16(forget->b);
        rc = client_call(&f->m.at[i].admin, FRAME_PAGESERVERS, &ask.base, FRAME_PAGESERVERS_OK,
                         &corallite__pageservers__descriptor, CALL_MS, &answer);
        if (rc)
            continue;
        f->asked++;
        rc = take(f, answer);
        corallite__pageservers__free_unpacked(answer, NULL);
    }
    return rc;
}

static int gather(struct followers *f, const struct cli_args *args, const struct co_id *forget)
{
    int rc = members_open(&f->m, args);
    if (!rc)
        rc = members_list_all(&f->m, &f->all);
    if (!rc)
        rc = ask_all(f, forget);
    for (uint32_t i = 0; i < f->all.n && !rc && co_id_is_zero(&f->owner); i++)
        if (f->all.e[i].state != CORALLITE__TIMELINE_STATE__TIMELINE_DROPPED)
            rc = msg_get16("pageserver", f->all.e[i].wire->has_pageserver,
                           &f->all.e[i].wire->pageserver, f->owner.b);
    return rc;
}

static void let_go(struct followers *f)
{
    for (uint32_t i = 0; i < f->n; i++)
        free(f->e[i].at);
    member_timelines_free(&f->all);
    members_close(&f->m);
}

static const char *role_of(const struct followers *f, const struct follower *of)
{
    if (co_id_is_zero(&f->owner))
        return "-";
    return co_id_eq(&f->owner, &of->disk) ? "owner" : "follower";
}

static const char *name_of(const struct followers *f, const struct co_id *timeline)
{
    for (uint32_t i = 0; i < f->all.n; i++)
        if (co_id_eq(&f->all.e[i].id, timeline))
            return f->all.e[i].name;
    return "";
}

static int print_json(const struct followers *f)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < f->n; i++) {
        const struct follower *of = &f->e[i];
        char id[CO_ID_TEXT];
        json_t *at = json_array();
        for (uint32_t k = 0; k < of->n_at; k++)
            json_array_append_new(at, json_pack("{s:s,s:s,s:o}", "timeline",
                                                co_id_format(&of->at[k].timeline, id), "name",
                                                name_of(f, &of->at[k].timeline), "durable_lsn",
                                                answer_lsn(of->at[k].durable)));
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:i,s:i,s:o,s:o}", "disk",
                                              co_id_format(&of->disk, id), "address", of->address,
                                              "role", role_of(f, of), "known_by", (int)of->known,
                                              "connected_to", (int)of->connected, "heard",
                                              answer_moment(of->heard_us), "positions", at));
    }
    return cli_print_json(
        json_pack("{s:i,s:o}", "safekeepers_asked", (int)f->asked, "pageservers", list));
}

static void print_text(const struct followers *f)
{
    printf("%-32s  %-22s  %-8s  %-9s  %s\n", "DISK", "ADDRESS", "ROLE", "CONNECTED", "HEARD");
    for (uint32_t i = 0; i < f->n; i++) {
        const struct follower *of = &f->e[i];
        char id[CO_ID_TEXT], at[WHEN_TEXT];
        printf("%-32s  %-22s  %-8s  %u of %u     %s\n", co_id_format(&of->disk, id), of->address,
               role_of(f, of), of->connected, f->asked, answer_time(of->heard_us, at));
    }
}

int cli_pageserver_list(const struct cli_args *args)
{
    static struct followers f;
    int rc = gather(&f, args, NULL);
    if (!rc && cli_has(args, "--json"))
        rc = print_json(&f);
    else if (!rc)
        print_text(&f);
    let_go(&f);
    return cli_report(rc);
}

int cli_pageserver_forget(const struct cli_args *args)
{
    static struct followers f;
    struct co_id disk;
    int rc = co_id_parse(args->words[0], &disk);
    if (!rc)
        rc = gather(&f, args, &disk);
    if (!rc && f.asked < f.m.n)
        rc = co_fail(CO_ERR_NO_QUORUM,
                     "%u of %u safekeepers know now that it does not follow any more; give the "
                     "same command again when the others are back",
                     f.asked, f.m.n);
    if (!rc && cli_has(args, "--json"))
        rc = print_json(&f);
    else if (!rc)
        printf("the pageserver with disk %s does not follow any more\n", args->words[0]);
    let_go(&f);
    return cli_report(rc);
}
