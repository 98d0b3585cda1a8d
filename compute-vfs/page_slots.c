#include "compute-vfs/page_slots.h"

#include <string.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/mutation.h"
#include "proto/limits.h"

#define ALIGN 4096u

static const uint8_t magic[8] = "coraPAGE";

static uint64_t pages_begin(const struct cv_slots *s)
{
    uint64_t end = ALIGN + (uint64_t)s->n_sets * CV_SLOTS_SET_BYTES;

    return (end + ALIGN - 1) / ALIGN * ALIGN;
}

struct cv_slots cv_slots_shape(uint64_t bytes, uint32_t page_size)
{
    uint64_t set = (uint64_t)CV_SLOT_WAYS * (page_size + CV_SLOT_BYTES);
    uint64_t n = bytes > 2 * ALIGN ? (bytes - 2 * ALIGN) / set : 0;

    return (struct cv_slots){.page_size = page_size,
                             .n_sets = n < 1           ? 1
                                       : n > INT32_MAX ? INT32_MAX
                                                       : (uint32_t)n};
}

uint64_t cv_slots_bytes(const struct cv_slots *s)
{
    return pages_begin(s) + (uint64_t)s->n_sets * CV_SLOT_WAYS * s->page_size;
}

uint64_t cv_slots_set_at(const struct cv_slots *s, pgno_t pgno)
{
    return ALIGN + (uint64_t)(pgno % s->n_sets) * CV_SLOTS_SET_BYTES;
}

uint64_t cv_slots_page_at(const struct cv_slots *s, pgno_t pgno, uint32_t way)
{
    return pages_begin(s) + ((uint64_t)way * s->n_sets + pgno % s->n_sets) * s->page_size;
}

/* -- the head ------------------------------------------------------------------------------------
 */

void cv_slots_put(const struct cv_slots *s, const struct co_id *timeline,
                  uint8_t out[CV_SLOTS_HEAD])
{
    memset(out, 0, CV_SLOTS_HEAD);
    memcpy(out, magic, sizeof magic);
    co_put32(out + 8, CV_SLOTS_FORMAT);
    co_put32(out + 12, s->page_size);
    co_put32(out + 16, s->n_sets);
    co_put64(out + 24, s->base);
    co_put64(out + 32, s->next);
    memcpy(out + 40, timeline->b, sizeof timeline->b);
    co_put32(out + 56, co_crc32c(0, out, 56));
}

bool cv_slots_get(const uint8_t in[CV_SLOTS_HEAD], const struct co_id *timeline,
                  struct cv_slots *out)
{
    *out = (struct cv_slots){.page_size = co_get32(in + 12),
                             .n_sets = co_get32(in + 16),
                             .base = co_get64(in + 24),
                             .next = co_get64(in + 32)};
    return memcmp(in, magic, sizeof magic) == 0 && co_get32(in + 8) == CV_SLOTS_FORMAT &&
           memcmp(in + 40, timeline->b, sizeof timeline->b) == 0 &&
           co_get32(in + 56) == co_crc32c(0, in, 56) && out->page_size >= CO_PAGE_SIZE_MIN &&
           out->page_size <= CO_PAGE_SIZE_MAX && out->n_sets > 0 && out->n_sets <= INT32_MAX &&
           out->base <= out->next;
}

bool cv_slots_advance(struct cv_slots *s, lsn_t lsn, uint64_t changes, bool all)
{
    uint64_t most = (uint64_t)s->n_sets * CV_SLOT_WAYS / 4;

    if (most > CV_SLOTS_CHANGES)
        most = CV_SLOTS_CHANGES;
    if (s->base == LSN_NONE || all) {
        s->base = s->next = lsn;
        return true;
    }
    if (changes <= most || lsn <= s->next)
        return false;
    s->base = s->next;
    s->next = lsn;
    return true;
}

/* -- slots ---------------------------------------------------------------------------------------
 */

void cv_slot_put(const struct cv_slot *slot, uint8_t out[CV_SLOT_BYTES])
{
    memset(out, 0, CV_SLOT_BYTES);
    co_put32(out, slot->pgno);
    co_put32(out + 4, slot->page_size);
    co_put64(out + 8, slot->from);
    co_put64(out + 16, slot->known_to);
    co_put64(out + 24, slot->known_us);
    co_put64(out + 32, slot->session);
    co_put32(out + 40, slot->crc);
}

void cv_slot_get(const uint8_t in[CV_SLOT_BYTES], struct cv_slot *out)
{
    *out = (struct cv_slot){.pgno = co_get32(in),
                            .page_size = co_get32(in + 4),
                            .from = co_get64(in + 8),
                            .known_to = co_get64(in + 16),
                            .known_us = co_get64(in + 24),
                            .session = co_get64(in + 32),
                            .crc = co_get32(in + 40)};
}

uint32_t cv_slot_crc(const struct cv_slot *slot, const struct co_id *timeline, const uint8_t *page)
{
    uint8_t head[4 + sizeof timeline->b + CV_SLOT_BYTES];
    struct cv_slot plain = *slot;

    plain.crc = 0;
    co_put32(head, CV_SLOTS_FORMAT);
    memcpy(head + 4, timeline->b, sizeof timeline->b);
    cv_slot_put(&plain, head + 4 + sizeof timeline->b);
    return co_crc32c(co_crc32c(0, head, sizeof head), page, slot->page_size);
}

bool cv_slot_serves(const struct cv_slot *slot, const struct cv_want *want, uint32_t page_size)
{
    if (slot->pgno != want->pgno || slot->page_size != page_size || slot->from > want->lsn ||
        slot->from > slot->known_to || slot->known_to > want->known)
        return false;
    return want->lsn <= slot->known_to || want->newest <= slot->known_to || co_mutated(DISK_STALE);
}

uint32_t cv_slots_choose(const struct cv_slots *s, const struct cv_slot set[CV_SLOT_WAYS],
                         const struct cv_slot *fresh)
{
    uint32_t own = fresh->pgno / s->n_sets % CV_SLOT_WAYS, found = own;
    lsn_t least = UINT64_MAX;

    for (uint32_t i = 0; i < CV_SLOT_WAYS; i++) {
        uint32_t way = (own + i) % CV_SLOT_WAYS;
        const struct cv_slot *slot = &set[way];
        lsn_t used = slot->pgno && slot->known_to <= fresh->known_to ? slot->known_to : 0;

        if (slot->pgno == fresh->pgno && slot->from <= fresh->from)
            return way;
        if (used < least) {
            least = used;
            found = way;
        }
    }
    return found;
}

/* -- histories -----------------------------------------------------------------------------------
 */

static const struct cv_proof *proof_of(const struct cv_proofs *p, uint64_t session)
{
    for (uint32_t i = 0; i < CV_PROOFS && i < p->n; i++)
        if (p->of[i].session == session)
            return &p->of[i];
    return NULL;
}

void cv_proofs_note(struct cv_proofs *p, const struct cv_slot *slot, bool good)
{
    struct cv_proof *proof = (struct cv_proof *)proof_of(p, slot->session);

    if (!proof) {
        proof = &p->of[p->n++ % CV_PROOFS];
        *proof = (struct cv_proof){.session = slot->session};
    }
    if (good && slot->known_to > proof->good_to)
        proof->good_to = slot->known_to;
    if (!good && (!proof->bad_from || slot->known_to < proof->bad_from))
        proof->bad_from = slot->known_to;
}

enum cv_proven cv_proofs_find(const struct cv_proofs *p, const struct cv_slot *slot)
{
    const struct cv_proof *proof = proof_of(p, slot->session);

    if (proof && slot->known_to <= proof->good_to)
        return CV_PROVEN;
    return proof && proof->bad_from && slot->known_to >= proof->bad_from ? CV_REFUTED : CV_UNPROVEN;
}
