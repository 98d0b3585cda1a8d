/*
 * page_tier_file.c - reading and writing the file of page_tier.h.
 *
 * A page is written first and then its slot. Between the two, and if only one of them survives, the
 * CRC is wrong. Several processes that write one slot may mix it: the same.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/clock_file.h"
#include "compute-vfs/errors.h"
#include "compute-vfs/page_dir.h"
#include "compute-vfs/page_tier.h"

#define ALL_FILES   8u /* files of all timelines together: so many times the size of one */
#define CODE_NOTICE 28 /* SQLITE_WARNING */

struct cv_tier {
    char path[CV_PAGE_FILE_PATH];
    struct co_id timeline;
    int fd;
    uint64_t bytes; /* of a file that is made */
    atomic_bool off;
    uint64_t session;
    pthread_mutex_t lock; /* of the next three */
    struct cv_slots shape;
    struct cv_proofs proofs;
    uint32_t questions;
    uint64_t counted; /* changes up to where the base moved last */
    atomic_ullong hits, misses, bytes_read, bytes_written;
};

static void *give_up(const char *path, const char *what, const char *why)
{
    cv_report(CODE_NOTICE,
              "cache_dir: %s %s: %s; this process goes on without the pages that are kept there",
              what, path, why);
    return NULL;
}

static void switch_off(struct cv_tier *t, const char *what)
{
    int error = errno;

    if (!atomic_exchange(&t->off, true))
        (void)give_up(t->path, what, error ? strerror(error) : "it is cut short");
}

static bool put(struct cv_tier *t, const void *data, size_t n, uint64_t at)
{
    ssize_t done;

    errno = 0;
    done = pwrite(t->fd, data, n, (off_t)at);
    if (done == (ssize_t)n) {
        atomic_fetch_add(&t->bytes_written, n);
        return true;
    }
    switch_off(t, "cannot write");
    return false;
}

static bool get(struct cv_tier *t, void *out, size_t n, uint64_t at)
{
    ssize_t done;

    errno = 0;
    done = pread(t->fd, out, n, (off_t)at);
    if (done == (ssize_t)n) {
        atomic_fetch_add(&t->bytes_read, n);
        return true;
    }
    switch_off(t, "cannot read");
    return false;
}

/* -- opening -------------------------------------------------------------------------------------
 */

static const char *open_file(struct cv_tier *t, const char *dir)
{
    const char *why = cv_page_file_limit(t->bytes);
    struct stat st;
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;

    if (why)
        return why;
    t->fd = open(t->path, flags, 0600);
    if (t->fd < 0 && errno == ENOENT) {
        cv_page_dir_make_room(dir, t->bytes * ALL_FILES);
        t->fd = open(t->path, flags | O_CREAT, 0600);
    }
    if (t->fd < 0 || fstat(t->fd, &st))
        return strerror(errno);
    if (!S_ISREG(st.st_mode))
        return "it is no file";
    return cv_page_file_own(&st);
}

/* Writing the head says when the file was used last, too. */
static void put_shape(struct cv_tier *t)
{
    uint8_t head[CV_SLOTS_HEAD];

    cv_slots_put(&t->shape, &t->timeline, head);
    (void)put(t, head, sizeof head, 0);
}

static bool is_shorter(struct cv_tier *t)
{
    struct stat st;

    return fstat(t->fd, &st) || (uint64_t)st.st_size < cv_slots_bytes(&t->shape);
}

static void read_shape(struct cv_tier *t)
{
    uint8_t head[CV_SLOTS_HEAD];

    if (pread(t->fd, head, sizeof head, 0) != (ssize_t)sizeof head ||
        !cv_slots_get(head, &t->timeline, &t->shape) ||
        cv_page_file_limit(cv_slots_bytes(&t->shape)) || is_shorter(t))
        t->shape = (struct cv_slots){0};
    else
        put_shape(t);
}

static uint64_t new_session(void)
{
    struct co_id id = co_id_random();

    return co_get64(id.b);
}

struct cv_tier *cv_tier_open(const char *dir, uint32_t mb, const struct co_id *timeline)
{
    struct cv_tier *t;
    const char *why = cv_page_dir_ready(dir);

    if (why)
        return give_up(dir, "cannot use", why);
    t = calloc(1, sizeof *t);
    if (!t)
        return give_up(dir, "cannot use", "no memory");
    cv_page_file_path(dir, timeline, t->path);
    t->timeline = *timeline;
    t->bytes = (uint64_t)mb << 20;
    t->fd = -1;
    t->session = new_session();
    pthread_mutex_init(&t->lock, NULL);
    why = open_file(t, dir);
    if (why) {
        (void)give_up(t->path, "cannot open", why);
        cv_tier_close(t);
        return NULL;
    }
    read_shape(t);
    return t;
}

void cv_tier_close(struct cv_tier *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* -- the shape -----------------------------------------------------------------------------------
 */

static struct cv_slots shape_of(struct cv_tier *t)
{
    struct cv_slots shape;

    pthread_mutex_lock(&t->lock);
    shape = t->shape;
    pthread_mutex_unlock(&t->lock);
    return shape;
}

const struct co_id *cv_tier_timeline(const struct cv_tier *t)
{
    return &t->timeline;
}

lsn_t cv_tier_base(struct cv_tier *t)
{
    return atomic_load(&t->off) ? LSN_NONE : shape_of(t).base;
}

void cv_tier_learned(struct cv_tier *t, uint32_t page_size, lsn_t lsn, uint64_t changes, bool all)
{
    if (page_size == 0 || atomic_load(&t->off))
        return;
    pthread_mutex_lock(&t->lock);
    if (t->shape.page_size != page_size) {
        t->shape = cv_slots_shape(t->bytes, page_size);
        if (is_shorter(t) && ftruncate(t->fd, (off_t)cv_slots_bytes(&t->shape)))
            switch_off(t, "cannot make");
    }
    if (cv_slots_advance(&t->shape, lsn, changes - (changes < t->counted ? 0 : t->counted), all)) {
        t->counted = changes;
        if (!atomic_load(&t->off))
            put_shape(t);
    }
    pthread_mutex_unlock(&t->lock);
}

/* -- pages ---------------------------------------------------------------------------------------
 */

/* false: there are none of that size, or it is off. */
static bool get_set(struct cv_tier *t, pgno_t pgno, uint32_t page_size, struct cv_slots *shape,
                    struct cv_slot set[CV_SLOT_WAYS])
{
    uint8_t bytes[CV_SLOTS_SET_BYTES];

    *shape = shape_of(t);
    if (atomic_load(&t->off) || shape->page_size != page_size ||
        !get(t, bytes, sizeof bytes, cv_slots_set_at(shape, pgno)))
        return false;
    for (uint32_t way = 0; way < CV_SLOT_WAYS; way++)
        cv_slot_get(bytes + (size_t)way * CV_SLOT_BYTES, &set[way]);
    return true;
}

static void put_slot(struct cv_tier *t, const struct cv_slots *shape, pgno_t pgno, uint32_t way,
                     const struct cv_slot *slot)
{
    uint8_t bytes[CV_SLOT_BYTES];

    cv_slot_put(slot, bytes);
    (void)put(t, bytes, sizeof bytes, cv_slots_set_at(shape, pgno) + (uint64_t)way * CV_SLOT_BYTES);
}

/* Of its history. The newest commit that the reader knows proves it without a question. *ask: there
 * may be one. */
static enum cv_proven proven(struct cv_tier *t, const struct cv_slot *slot,
                             const struct cv_want *want, bool *ask)
{
    enum cv_proven found = CV_PROVEN;

    pthread_mutex_lock(&t->lock);
    if (slot->session != t->session) {
        if (slot->known_to == want->known)
            cv_proofs_note(&t->proofs, slot, slot->known_us == want->known_us);
        found = cv_proofs_find(&t->proofs, slot);
        *ask = t->questions < CV_TIER_QUESTIONS;
    }
    pthread_mutex_unlock(&t->lock);
    return found;
}

void cv_tier_prove(struct cv_tier *t, const struct cv_slot *slot, bool good)
{
    pthread_mutex_lock(&t->lock);
    t->questions++;
    cv_proofs_note(&t->proofs, slot, good);
    pthread_mutex_unlock(&t->lock);
}

/* It would be worth nothing once the base moves on, or have to be asked for again by the next
 * process. */
static bool is_old(const struct cv_tier *t, const struct cv_slots *shape,
                   const struct cv_slot *slot, const struct cv_want *want)
{
    return want->newest <= slot->known_to &&
           (slot->known_to < shape->next ||
            (slot->session != t->session && slot->known_to < want->known));
}

/* It is good up to what is known now. */
static void renew(struct cv_tier *t, const struct cv_slots *shape, uint32_t way,
                  const struct cv_slot *slot, const struct cv_want *want, const uint8_t *page)
{
    struct cv_slot now = *slot;

    now.known_to = want->known;
    now.known_us = want->known_us;
    now.session = t->session;
    now.crc = cv_slot_crc(&now, &t->timeline, page);
    put_slot(t, shape, slot->pgno, way, &now);
}

/* The page of a slot that serves: sound and of this history, or the slot is emptied. */
static enum cv_found take(struct cv_tier *t, const struct cv_slots *shape, uint32_t way,
                          const struct cv_slot *slot, const struct cv_want *want, uint8_t *out)
{
    enum cv_proven history;
    bool ask = false;

    if (!get(t, out, slot->page_size, cv_slots_page_at(shape, slot->pgno, way)))
        return CV_NOT_FOUND;
    history = cv_slot_crc(slot, &t->timeline, out) == slot->crc ? proven(t, slot, want, &ask)
                                                                : CV_REFUTED;
    if (history == CV_REFUTED) {
        put_slot(t, shape, slot->pgno, way, &(struct cv_slot){0});
        return CV_NOT_FOUND;
    }
    if (history == CV_UNPROVEN)
        return ask ? CV_FOUND_UNPROVEN : CV_NOT_FOUND;
    if (is_old(t, shape, slot, want))
        renew(t, shape, way, slot, want, out);
    return CV_FOUND;
}

enum cv_found cv_tier_find(struct cv_tier *t, const struct cv_want *want, uint8_t *out,
                           uint32_t page_size, struct cv_slot *slot)
{
    struct cv_slot set[CV_SLOT_WAYS];
    struct cv_slots shape;
    enum cv_found found = CV_NOT_FOUND;

    if (get_set(t, want->pgno, page_size, &shape, set)) {
        for (uint32_t way = 0; found == CV_NOT_FOUND && way < CV_SLOT_WAYS; way++) {
            *slot = set[way];
            if (cv_slot_serves(slot, want, page_size))
                found = take(t, &shape, way, slot, want, out);
        }
    }
    if (found != CV_FOUND_UNPROVEN)
        atomic_fetch_add(found == CV_FOUND ? &t->hits : &t->misses, 1);
    return found;
}

/* -- writing -------------------------------------------------------------------------------------
 */

/* How many of them lie side by side in the file. */
static uint32_t run_of(const struct cv_slots *shape, const struct cv_kept *kept, uint32_t n)
{
    uint32_t i = 1;

    while (i < n && kept[i].slot.pgno == kept[0].slot.pgno + i &&
           kept[i].slot.pgno % shape->n_sets != 0)
        i++;
    return i;
}

/* Decides on a way, and puts the new slot into the set's bytes. */
static uint32_t place(struct cv_tier *t, const struct cv_slots *shape, struct cv_kept *kept,
                      uint8_t bytes[CV_SLOTS_SET_BYTES])
{
    struct cv_slot set[CV_SLOT_WAYS];
    uint32_t way;

    for (way = 0; way < CV_SLOT_WAYS; way++)
        cv_slot_get(bytes + (size_t)way * CV_SLOT_BYTES, &set[way]);
    way = cv_slots_choose(shape, set, &kept->slot);
    kept->slot.session = t->session;
    kept->slot.crc = cv_slot_crc(&kept->slot, &t->timeline, kept->page);
    cv_slot_put(&kept->slot, bytes + (size_t)way * CV_SLOT_BYTES);
    return way;
}

/* The pages [0, n) that go to one way, so to one stretch of the file. */
static bool put_pages(struct cv_tier *t, const struct cv_slots *shape, const struct cv_kept *kept,
                      uint32_t n, uint32_t way, uint8_t *room)
{
    uint32_t size = shape->page_size;
    uint64_t at = cv_slots_page_at(shape, kept->slot.pgno, way);

    if (n == 1)
        return put(t, kept->page, size, at);
    for (uint32_t i = 0; i < n; i++)
        memcpy(room + (size_t)i * size, kept[i].page, size);
    return put(t, room, (size_t)n * size, at);
}

/* First the pages, then all slots of their sets: what another process has put into one of these
 * meanwhile is lost by that, and its page a miss. */
static bool put_run(struct cv_tier *t, const struct cv_slots *shape, struct cv_kept *kept,
                    uint32_t n, uint8_t *room)
{
    uint8_t sets[CV_KEEP_MAX * CV_SLOTS_SET_BYTES];
    size_t bytes = (size_t)n * CV_SLOTS_SET_BYTES;
    uint64_t at = cv_slots_set_at(shape, kept->slot.pgno);
    uint32_t way[CV_KEEP_MAX], first = 0;

    if (!get(t, sets, bytes, at))
        return false;
    for (uint32_t i = 0; i < n; i++)
        way[i] = place(t, shape, &kept[i], sets + (size_t)i * CV_SLOTS_SET_BYTES);
    for (uint32_t i = 1; i <= n; i++) {
        if (i < n && way[i] == way[first])
            continue;
        if (!put_pages(t, shape, &kept[first], i - first, way[first], room))
            return false;
        first = i;
    }
    return put(t, sets, bytes, at);
}

void cv_tier_keep(struct cv_tier *t, struct cv_kept *kept, uint32_t n)
{
    struct cv_slots shape = shape_of(t);
    uint8_t *room = n > 1 ? malloc((size_t)n * kept->slot.page_size) : NULL;

    if (n && shape.page_size == 0) { /* the database was empty when it was opened */
        cv_tier_learned(t, kept->slot.page_size, kept->slot.known_to, 0, false);
        shape = shape_of(t);
    }
    for (uint32_t i = 0, more; i < n; i += more) {
        more = room ? run_of(&shape, &kept[i], n - i) : 1;
        if (atomic_load(&t->off) || shape.page_size != kept->slot.page_size ||
            !put_run(t, &shape, &kept[i], more, room))
            break;
    }
    free(room);
}

bool cv_tier_has(struct cv_tier *t, const struct cv_slot *slot)
{
    const struct cv_want now = {.known = slot->known_to, .known_us = slot->known_us};
    struct cv_slot set[CV_SLOT_WAYS];
    struct cv_slots shape;
    bool ask;

    if (!get_set(t, slot->pgno, slot->page_size, &shape, set))
        return false;
    for (uint32_t way = 0; way < CV_SLOT_WAYS; way++)
        if (set[way].pgno == slot->pgno && set[way].from == slot->from &&
            set[way].known_to >= shape.next && set[way].known_to <= slot->known_to)
            return proven(t, &set[way], &now, &ask) == CV_PROVEN;
    return false;
}

void cv_tier_stats(struct cv_tier *t, struct cv_tier_stats *out)
{
    *out = (struct cv_tier_stats){.hits = atomic_load(&t->hits),
                                  .misses = atomic_load(&t->misses),
                                  .bytes_read = atomic_load(&t->bytes_read),
                                  .bytes_written = atomic_load(&t->bytes_written)};
}
