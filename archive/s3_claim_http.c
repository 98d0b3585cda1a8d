/*
 * s3_claim_http.c - one alone gets a name, where a store has no conditional writes.
 *
 * Whoever wants a name puts a claim below .corallite/claims/NAME/.of/, then lists the claims of
 * that name. Who finds no other claim than the own one has the name to themselves: looks whether it
 * is taken, puts it if not, and takes the claim back. Two can never both be alone, since each put
 * its claim before it looked; that needs a store whose lists show what was put before, as all known
 * ones do. Of several the one whose claim sorts first waits and looks again, the others take theirs
 * back and come again after a while: so somebody gets on. A claim that is older than CLAIM_OLD_S is
 * what somebody left who died, and is removed; a call ends long before that.
 */
#include <stdio.h>
#include <stdlib.h>

#include "archive/s3_int_http.h"
#include "common/clock_file.h"

#define CLAIM_OLD_S 900

struct claims {
    const char *own; /* the part behind the last '/' */
    bool others, first;
    uint64_t now_s;
    char old[S3_NAME_MAX]; /* one that somebody left; "" none */
};

static int on_claim(void *arg, const char *name, uint64_t size)
{
    struct claims *c = arg;
    const char *slash = strrchr(name, '/'), *part = slash ? slash + 1 : name;
    (void)size;
    if (strcmp(part, c->own) == 0)
        return 0;
    if (strtoull(part, NULL, 10) + CLAIM_OLD_S < c->now_s) {
        snprintf(c->old, sizeof c->old, "%s", name);
        return 0;
    }
    c->others = true;
    c->first = c->first && strcmp(c->own, part) < 0;
    return 0;
}

static int put_plain(struct s3_store *s, const char *name, struct co_span bytes,
                     const struct s3_new *of)
{
    struct s3_new n = *of;
    n.name = name;
    n.bytes = bytes;
    n.conditional = false;
    if (bytes.len == 0)
        snprintf(n.sha256, sizeof n.sha256, "%s", S3_EMPTY_PAYLOAD);
    return s3_put_whole(s, &n);
}

static int put_alone(struct s3_store *s, const struct s3_new *n)
{
    struct s3_seen seen;
    int rc = s3_look(s, n->name, &seen);
    if (rc)
        return rc;
    if (seen.there)
        return strcmp(seen.id, n->id) == 0 ? 0 : S3_TAKEN;
    return put_plain(s, n->name, n->bytes, n);
}

/* Lists the claims of the name, and removes what is left over. */
static int look_round(struct s3_store *s, const char *prefix, const char *own, struct claims *out)
{
    *out = (struct claims){.own = own, .first = true, .now_s = co_wall_us() / 1000000};
    int rc = s3_keys_each(s, prefix, NULL, on_claim, out, false);
    if (!rc && out->old[0])
        rc = s3_delete(s, out->old);
    return rc;
}

int s3_put_claimed(struct s3_store *s, struct s3_new *n)
{
    char prefix[S3_NAME_MAX], own[64], claim[S3_NAME_MAX + 64];
    snprintf(prefix, sizeof prefix, S3_CLAIM "%s/.of/", n->name);
    for (unsigned tries = 0;; tries++) {
        struct claims claims = {.others = true};
        struct s3_seen seen;
        /* Most often it is taken already, or nobody else wants it. */
        int rc = s3_look(s, n->name, &seen);
        if (rc || seen.there)
            return rc ? rc : S3_TAKEN;
        snprintf(own, sizeof own, "%llu-%s", (unsigned long long)(co_wall_us() / 1000000), n->id);
        snprintf(claim, sizeof claim, "%s%s", prefix, own);
        rc = put_plain(s, claim, co_span_of("", 0), n);
        unsigned looks = 0;
        do {
            rc = rc ? rc : look_round(s, prefix, own, &claims);
            if (!rc && claims.others && claims.first)
                rc = s3_pause(s->client, looks, "claim a name");
        } while (!rc && claims.others && claims.first && ++looks < S3_TRIES);
        if (!rc && !claims.others)
            rc = put_alone(s, n);
        char why[CO_SENTENCE_MAX];
        snprintf(why, sizeof why, "%s", co_sentence());
        int removed = s3_delete(s, claim); /* else it grows old */
        if (rc < 0)
            return co_fail(rc, "%s", why);
        if (!claims.others)
            return rc;
        rc = removed ? removed : s3_pause(s->client, tries, "claim a name");

        if (rc)
            return rc;
    }
}
