#include "compute-vfs/shm.h"

#include <stdlib.h>
#include <string.h>

#include "common/assert.h"

struct header {
    uint32_t version, unused, change;
    uint8_t is_init, big_endian_sums;
    uint16_t page_size;
    uint32_t max_frame, n_pages;
    uint32_t frame_sum[2], salt[2], sum[2];
};
_Static_assert(sizeof(struct header) == 48, "WalIndexHdr of wal.c");

#define SUMMED      40u
#define BACKFILL_AT 96u
#define MARKS_AT    100u
#define MARKS       5u
#define NOT_USED    0xffffffffu

static void checksum(struct header *h)
{
    uint32_t words[SUMMED / 4], a = 0, b = 0;

    memcpy(words, h, SUMMED);
    for (unsigned i = 0; i < SUMMED / 4; i += 2) {
        a += words[i] + b;
        b += words[i + 1] + a;
    }
    h->sum[0] = a;
    h->sum[1] = b;
}

static void write_header(struct cv_shm *shm, struct header *h)
{
    checksum(h);
    memcpy(shm->regions[0] + sizeof *h, h, sizeof *h);
    memcpy(shm->regions[0], h, sizeof *h);
}

static void put_word(struct cv_shm *shm, size_t at, uint32_t v)
{
    memcpy(shm->regions[0] + at, &v, sizeof v);
}

static void be_born(struct cv_shm *shm)
{
    struct header h = {.version = 3007000, .change = 1, .is_init = 1, .salt = {1, 1}};

    write_header(shm, &h);
    for (unsigned i = 1; i < MARKS; i++)
        put_word(shm, MARKS_AT + 4 * i, NOT_USED);
}

static int add_region(struct cv_shm *shm, uint32_t bytes)
{
    uint8_t *region;

    if (shm->n == CV_SHM_REGIONS_MAX)
        return co_fail(CO_ERR_FULL, "a transaction of more than %u million page writes",
                       CV_SHM_REGIONS_MAX / 256);
    if (shm->n == shm->cap) {
        uint32_t cap = shm->cap ? shm->cap * 2 : 4;
        uint8_t **grown = realloc(shm->regions, cap * sizeof *grown);

        if (!grown)
            return co_fail(CO_ERR_NOMEM, "no memory for a wal-index");
        shm->regions = grown;
        shm->cap = cap;
    }
    region = calloc(1, bytes);
    if (!region)
        return co_fail(CO_ERR_NOMEM, "no memory for a wal-index");
    shm->regions[shm->n++] = region;
    if (shm->n == 1)
        be_born(shm);
    return 0;
}

int cv_shm_map(struct cv_shm *shm, uint32_t i, uint32_t bytes, int extend, volatile void **out)
{
    int rc = 0;

    *out = NULL;
    while (!rc && shm->n <= i && (extend || i == 0))
        rc = add_region(shm, bytes);
    if (!rc && i < shm->n)
        *out = shm->regions[i];
    return rc;
}

void cv_shm_free(struct cv_shm *shm)
{
    for (uint32_t i = 0; i < shm->n; i++)
        free(shm->regions[i]);
    free(shm->regions);
    memset(shm, 0, sizeof *shm);
}

void cv_shm_rewrite(struct cv_shm *shm, uint32_t db_pages, uint32_t page_size)
{
    struct header h;

    co_assert(shm->n > 0);
    memcpy(&h, shm->regions[0], sizeof h);
    h.change++;
    h.salt[0]++;
    h.max_frame = 0;
    h.n_pages = db_pages;
    h.page_size = (uint16_t)((page_size & 0xff00) | page_size >> 16);
    put_word(shm, BACKFILL_AT, 0);
    write_header(shm, &h);
}

uint32_t cv_shm_max_frame(const struct cv_shm *shm)
{
    struct header h;

    if (shm->n == 0)
        return 0;
    memcpy(&h, shm->regions[0], sizeof h);
    return h.max_frame;
}

void cv_shm_all_backfilled(struct cv_shm *shm)
{
    if (shm->n > 0)
        put_word(shm, BACKFILL_AT, cv_shm_max_frame(shm));
}
