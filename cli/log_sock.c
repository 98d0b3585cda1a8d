/*
 * log_sock.c - `corallite log`: the commits of a branch, newest first.
 *
 * What is known is printed at once and the next commits are asked for then, so that a log of any
 * length begins immediately and takes no memory. A reader that has seen enough (a pager) closes the
 * pipe, and that ends the command.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cli/answer.h"
#include "cli/cli.h"
#include "cli/client_sock.h"
#include "cli/ref.h"
#include "cli/text.h"
#include "common/clock_file.h"

#define FIRST_PAGE 100u /* is on the screen at once */
#define NEXT_PAGES 1000u

struct log_out {
    bool json;
    uint64_t printed;
};

static int print_commit(struct log_out *o, const Corallite__Logged__Commit *c, uint32_t page_size)
{
    char time[WHEN_TEXT], lsn[LSN_TEXT], size[TEXT_MAX];
    const char *branch = c->branch && c->branch[0] ? c->branch : NULL; /* NULL: it was dropped */
    if (o->json) {
        json_t *j = json_pack("{s:o,s:o,s:I,s:I,s:I,s:s?}", "lsn", answer_lsn(c->lsn), "time",
                              answer_moment(c->time_us), "pages_changed",
                              (json_int_t)c->pages_changed, "pages", (json_int_t)c->db_pages,
                              "page_size", (json_int_t)page_size, "branch", branch);
        if (!j)
            return co_fail(CO_ERR_NOMEM, "there is no memory for the answer");
        fputs(o->printed ? ",\n  " : "[\n  ", stdout);
        json_dumpf(j, stdout, 0);
        json_decref(j);
    } else {
        if (!o->printed)
            printf("%-16s  %-27s  %7s  %9s  %s\n", "LSN", "TIME", "CHANGED", "SIZE", "BRANCH");
        printf("%-16s  %-27s  %7u  %9s  %s\n", lsn_format(c->lsn, lsn),
               answer_time(c->time_us, time), (unsigned)c->pages_changed,
               text_bytes((uint64_t)c->db_pages * page_size, size), branch ? branch : "(dropped)");
    }
    o->printed++;
    return 0;
}

static int print_page(struct log_out *o, const Corallite__Logged *m, uint64_t *before)
{
    for (size_t i = 0; i < m->n_commits; i++) {
        const Corallite__Logged__Commit *c = m->commits[i];
        if (*before && c->lsn >= *before)
            return co_fail(CO_ERR_PROTOCOL, "the pageserver's log does not go back in time");
        *before = c->lsn;
        int rc = print_commit(o, c, m->page_size);
        if (rc)
            return rc;
    }
    if (fflush(stdout) != 0)
        return co_fail(CO_ERR_IO, "the output cannot be written");
    return 0;
}

static int print_log(struct client *c, const struct ref *r, uint64_t wanted, struct log_out *o)
{
    bool more = true;
    uint64_t before = 0;
    while (more && o->printed < wanted) {
        uint64_t page = o->printed == 0 ? FIRST_PAGE : NEXT_PAGES, left = wanted - o->printed;
        Corallite__Log q = CORALLITE__LOG__INIT;
        Corallite__Logged *m = NULL;
        q.database = (char *)r->db;
        q.branch = (char *)r->branch;
        q.at = (char *)r->at;
        q.has_before_lsn = before != 0;
        q.before_lsn = before;
        q.has_limit = 1;
        q.limit = (uint32_t)(left < page ? left : page);
        int rc = client_call(c, FRAME_LOG, &q.base, FRAME_LOGGED, &corallite__logged__descriptor,
                             CLIENT_CHANGE_TIMEOUT_MS, &m);
        if (rc)
            return rc;
        more = m->more && m->n_commits > 0;
        rc = print_page(o, m, &before);
        corallite__logged__free_unpacked(m, NULL);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_count(const char *text, uint64_t *out)
{
    char *end;
    *out = UINT64_MAX;
    if (!text)
        return 0;
    long long n = strtoll(text, &end, 10);
    if (n < 1 || *end || end == text || n == INT64_MAX)
        return co_fail(CO_ERR_INVAL, "'%s' is no number of commits: -n wants 1 or more", text);
    *out = (uint64_t)n;
    return 0;
}

int cli_log(const struct cli_args *args)
{
    struct ref r;
    struct client c;
    uint64_t wanted;
    struct log_out o = {.json = cli_has(args, "--json")};
    int rc = ref_parse(args->words[0], co_wall_us(), &r);
    if (!rc)
        rc = read_count(cli_value(args, "--lines"), &wanted);
    if (!rc)
        rc = client_open_args(&c, args);
    if (rc)
        return cli_report(rc);
    rc = print_log(&c, &r, wanted, &o);
    client_close(&c);
    if (!rc && o.json)
        puts(o.printed ? "\n]" : "[]");
    else if (!rc && !o.printed)
        puts("there is no commit yet");
    return cli_report(rc);
}
