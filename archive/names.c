#define OPENSSL_SUPPRESS_DEPRECATED /* as proto/wal_digest.c says */
#include "archive/names.h"

#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>

#include "common/assert.h"

void ar_sum(struct co_span bytes, struct wal_digest *out)
{
    uint8_t full[SHA256_DIGEST_LENGTH];
    SHA256_CTX sha;
    SHA256_Init(&sha);
    SHA256_Update(&sha, bytes.data, bytes.len);
    SHA256_Final(full, &sha);
    memcpy(out->b, full, sizeof out->b);
}

char *ar_name_log(const struct co_id *cluster, const struct co_id *timeline,
                  const struct ar_chunk *chunk, char name[AR_NAME_TEXT])
{
    char c[CO_ID_TEXT], t[CO_ID_TEXT], s[CO_ID_TEXT];
    struct co_id sum;
    memcpy(sum.b, chunk->sum.b, sizeof sum.b);
    snprintf(name, AR_NAME_TEXT, "%s/log/%s/%016" PRIx64 "-%016" PRIx64 "-%s",
             co_id_format(cluster, c), co_id_format(timeline, t), chunk->begin, chunk->end,
             co_id_format(&sum, s));
    return name;
}

char *ar_name_logs(const struct co_id *cluster, const struct co_id *timeline,
                   char name[AR_NAME_TEXT])
{
    char c[CO_ID_TEXT], t[CO_ID_TEXT];
    snprintf(name, AR_NAME_TEXT, "%s/log/%s/", co_id_format(cluster, c), co_id_format(timeline, t));
    return name;
}

char *ar_name_snap(const struct co_id *cluster, const struct co_id *timeline,
                   const struct ar_snap_name *snap, char name[AR_NAME_TEXT])
{
    char c[CO_ID_TEXT], t[CO_ID_TEXT], s[CO_ID_TEXT];
    struct co_id sum;
    memcpy(sum.b, snap->sum.b, sizeof sum.b);
    snprintf(name, AR_NAME_TEXT, "%s/snap/%s/%016" PRIx64 "-%016" PRIx64 "-%08" PRIx32 "-%s",
             co_id_format(cluster, c), co_id_format(timeline, t), snap->lsn, snap->generation,
             snap->number, co_id_format(&sum, s));
    return name;
}

char *ar_name_snaps(const struct co_id *cluster, const struct co_id *timeline,
                    char name[AR_NAME_TEXT])
{
    char c[CO_ID_TEXT], t[CO_ID_TEXT];
    snprintf(name, AR_NAME_TEXT, "%s/snap/%s/", co_id_format(cluster, c),
             co_id_format(timeline, t));
    return name;
}

char *ar_name_states(const struct co_id *cluster, char name[AR_NAME_TEXT])
{
    char c[CO_ID_TEXT];
    snprintf(name, AR_NAME_TEXT, "%s/state/", co_id_format(cluster, c));
    return name;
}

char *ar_name_writers(const struct co_id *cluster, char name[AR_NAME_TEXT])
{
    char c[CO_ID_TEXT];
    snprintf(name, AR_NAME_TEXT, "%s/writer/", co_id_format(cluster, c));
    return name;
}

char *ar_name_state(const struct ar_place *place, char name[AR_NAME_TEXT])
{
    char c[CO_ID_TEXT];
    snprintf(name, AR_NAME_TEXT, "%s/state/%016" PRIx64 "-%016" PRIx64,
             co_id_format(&place->cluster, c), place->generation, place->sequence);
    return name;
}

char *ar_name_writer(const struct co_id *cluster, uint64_t generation, char name[AR_NAME_TEXT])
{
    char c[CO_ID_TEXT];
    snprintf(name, AR_NAME_TEXT, "%s/writer/%016" PRIx64, co_id_format(cluster, c), generation);
    return name;
}

/* -- Reading ----------------------------------------------------------------------------------- */

static bool take(const char **at, const char *text)
{
    size_t n = strlen(text);
    if (strncmp(*at, text, n) != 0)
        return false;
    *at += n;
    return true;
}

static bool take_digits(const char **at, int n, uint64_t *out)
{
    *out = 0;
    for (int i = 0; i < n; i++) {
        int digit = co_hex_digit((*at)[i]);
        if (digit < 0)
            return false;
        *out = *out << 4 | (unsigned)digit;
    }
    *at += n;
    return true;
}

static bool take_number(const char **at, uint64_t *out)
{
    return take_digits(at, 16, out);
}

static bool take_id(const char **at, struct co_id *out)
{
    char text[CO_ID_TEXT];
    if (strlen(*at) < CO_ID_TEXT - 1)
        return false;
    memcpy(text, *at, CO_ID_TEXT - 1);
    text[CO_ID_TEXT - 1] = 0;
    *at += CO_ID_TEXT - 1;
    return co_id_parse(text, out) == 0;
}

bool ar_parse_log(const char *name, struct co_id *timeline, struct ar_chunk *out)
{
    struct co_id cluster, sum;
    bool good = take_id(&name, &cluster) && take(&name, "/log/") && take_id(&name, timeline) &&
                take(&name, "/") && take_number(&name, &out->begin) && take(&name, "-") &&
                take_number(&name, &out->end) && take(&name, "-") && take_id(&name, &sum) && !*name;
    if (!good || out->begin >= out->end || out->end - out->begin > AR_OBJECT_MAX_BYTES)
        return false;
    memcpy(out->sum.b, sum.b, sizeof out->sum.b);
    return true;
}

bool ar_parse_snap(const char *name, struct co_id *timeline, struct ar_snap_name *out)
{
    struct co_id cluster, sum;
    uint64_t number;
    bool good = take_id(&name, &cluster) && take(&name, "/snap/") && take_id(&name, timeline) &&
                take(&name, "/") && take_number(&name, &out->lsn) && take(&name, "-") &&
                take_number(&name, &out->generation) && take(&name, "-") &&
                take_digits(&name, 8, &number) && take(&name, "-") && take_id(&name, &sum) &&
                !*name;
    if (!good)
        return false;
    out->number = (uint32_t)number;
    memcpy(out->sum.b, sum.b, sizeof out->sum.b);
    return true;
}

bool ar_parse_state(const char *name, struct ar_place *out)
{
    return take_id(&name, &out->cluster) && take(&name, "/state/") &&
           take_number(&name, &out->generation) && take(&name, "-") &&
           take_number(&name, &out->sequence) && !*name;
}

bool ar_parse_writer(const char *name, uint64_t *generation)
{
    struct co_id cluster;
    return take_id(&name, &cluster) && take(&name, "/writer/") && take_number(&name, generation) &&
           !*name;
}

bool ar_parse_cluster(const char *name, struct co_id *cluster)
{
    return take_id(&name, cluster) && take(&name, "/");
}
