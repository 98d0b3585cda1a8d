/*
 * check_pair_sock.c - the other pageservers of the cluster: has each the pages that the first one
 * has? They make them of the same log, each by itself, so a difference is a fault of one of them.
 */
#include <stdlib.h>
#include <string.h>

#include "cli/check_sock.h"
#include "cli/sqlite_file.h"

#define ASK_TIMEOUT_MS 10000u

/* Names the pages that differ. */
static void compare(struct check_branch *b, const struct check_branch *there, struct check_pair *p)
{
    for (uint32_t i = 0; i < b->pages; i++) {
        if (!b->crc || !b->crc[i] || !there->crc[i]) /* damaged in one: told already */
            continue;
        if (b->crc[i] != there->crc[i])
            check_problem(b, "page %u is another one at the pageserver %s", (unsigned)i + 1,
                          p->address);
        else
            p->pages++;
    }
    p->branches++;
}

/* Its pages at the same LSN. What is wrong with them there is the branch's problem too. */
static int look_at(struct client *c, struct check_report *r, struct check_branch *b,
                   struct check_pair *p, struct progress *bar)
{
    struct check_branch there = *b;
    there.crc = NULL;
    there.problems = json_array();
    there.n_problems = there.pages_read = 0;
    int rc = there.problems ? check_pages(c, &there, bar)
                            : co_fail(CO_ERR_NOMEM, "there is no memory for a report");
    for (size_t i = 0; there.problems && i < json_array_size(there.problems); i++)
        check_problem(b, "pageserver %s: %s", p->address,
                      json_string_value(json_array_get(there.problems, i)));
    if (!rc)
        compare(b, &there, p);
    else if (rc != CO_ERR_CANCELED && rc != CO_ERR_NOMEM && c->sock.fd >= 0) {
        check_say(r->notes, "%s/%s was not compared with the pageserver %s: %s", b->database,
                  b->branch, p->address, co_sentence());
        rc = 0;
    }
    json_decref(there.problems);
    free(there.crc);
    return rc;
}

static int compare_all(struct check_report *r, struct check_pair *p, const struct co_id *cluster)
{
    char host[256], what[CO_HOST_MAX_BYTES + 60];
    uint16_t port;
    struct client c = {.sock.fd = -1};
    struct progress bar;
    int rc = psock_split_address(p->address, CLUSTER_PORT_BASE, host, &port);
    if (!rc)
        rc = client_connect(&c, host, port, cluster, 0, ASK_TIMEOUT_MS);
    snprintf(what, sizeof what, "pages of the pageserver %s", p->address);
    progress_begin(&bar, what);
    p->answered = rc == 0;
    for (uint32_t i = 0; i < r->n_branches && !rc; i++)
        if (r->branches[i].lsn)
            rc = look_at(&c, r, &r->branches[i], p, &bar);
    progress_end(&bar);
    client_close(&c);
    if (!rc || rc == CO_ERR_CANCELED || rc == CO_ERR_NOMEM)
        return rc;
    check_say(r->notes, "the pageserver %s was not looked at%s: %s", p->address,
              p->answered ? " to the end" : "", co_sentence());
    return 0;
}

int check_pairs(struct client *c, struct check_report *r)
{
    Corallite__Pageservers *known = check_pageservers(r);
    int rc = 0;
    for (size_t i = 0; known && i < known->n_pageservers && !rc; i++) {
        const Corallite__Pageservers__One *one = known->pageservers[i];
        struct check_pair *p = &r->pairs[r->n_pairs];
        bool mine = one->has_disk && one->disk.len == sizeof c->disk.b &&
                    memcmp(one->disk.data, c->disk.b, sizeof c->disk.b) == 0;
        bool seen = !one->address || !*one->address || strcmp(one->address, c->sock.address) == 0;
        for (uint32_t k = 0; k < r->n_pairs && !seen; k++)
            seen = strcmp(r->pairs[k].address, one->address) == 0;
        if (mine || seen || r->n_pairs == CHECK_PAIRS_MAX)
            continue;
        r->n_pairs++;
        snprintf(p->address, sizeof p->address, "%s", one->address);
        rc = compare_all(r, p, &c->cluster);
    }
    if (known)
        corallite__pageservers__free_unpacked(known, NULL);
    return rc;
}
