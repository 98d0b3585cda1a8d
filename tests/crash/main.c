/* main.c - lives, their crash points, and the command line; see README.md. */
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/assert.h"
#include "common/log.h"
#include "common/mutation.h"
#include "tests/crash/life.h"

#ifdef CO_MUTATIONS
enum co_mutation co_mutation;
#endif

#define U(x)      ((unsigned long long)(x))
#define STEPS_MAX 40
#define POINTS    4096u /* of one life */

static const struct mistake {
    enum co_mutation m;
    const char *name, *text;
    uint64_t points;
} mistakes[] = {
#define CO_X(name, text, points) {CO_MUTATION_##name, #name, text, points},
    CO_STORAGE_MUTATION_LIST(CO_X)
#undef CO_X
};
#define N_MISTAKES (sizeof mistakes / sizeof mistakes[0])

struct point {
    struct disk *disk;
    struct expect x;
};

/* Where a seed or an enumeration stands. */
struct hunt {
    struct life life;
    enum step steps[STEPS_MAX];
    uint32_t n_steps;
    struct point *points;
    uint32_t n_points;
    struct expect *now; /* what holds while something runs */
    uint64_t rng;
    uint32_t exhaustive; /* so many atoms are tried in every subset */
    uint32_t samples;    /* of more atoms so many subsets */
    uint32_t nested_ppm; /* so often the start is crashed too */
    bool follow;         /* and the next one surely */
    /* counts */
    uint64_t lives, crash_points, nested, kills, deep, io_errors, atoms_max, all_subsets, sampled;
    struct flips flips;
    char why[2000];
    bool failed;
};

static struct hunt h;

static uint64_t draw(uint64_t n)
{
    h.rng = h.rng * 6364136223846793005u + 1442695040888963407u;
    return (h.rng >> 33) % n;
}

/* -- Recording -----------------------------------------------------------------------------------
 */

static void record(void)
{
    if (h.n_points == POINTS)
        return;
    struct disk *copy = disk_copy(the_disk);
    copy->fail_sync = copy->fail_write = 0;
    h.points[h.n_points].disk = copy;
    h.points[h.n_points++].x = *h.now;
}

static void drop_points(uint32_t from)
{
    while (h.n_points > from)
        disk_free(h.points[--h.n_points].disk);
}

/* -- Crash points --------------------------------------------------------------------------------
 */

static bool explore(uint32_t from, uint32_t depth);

static bool fail(const char *what, const char *why)
{
    char steps[STEPS_MAX + 1];
    for (uint32_t i = 0; i < h.n_steps; i++)
        steps[i] = step_letter[h.steps[i]];
    steps[h.n_steps] = 0;
    snprintf(h.why, sizeof h.why, "life '%s' (start LSN %llx), %s: %s", steps, U(h.life.start),
             what, why);
    h.failed = true;
    return false;
}

/* Life goes on a little: what such a start has read is relied on, and written over. */
static const char *know_more(struct expect *at, struct sk_files *files)
{
    struct q_known known[KNOWN_OF];
    life_known(++at->known_hi, known);
    if (sk_files_witness(files, &(struct q_known_list){KNOWN_OF, known}))
        return co_sentence();
    at->known_lo = at->known_hi;
    record();
    return NULL;
}

/* A start on the_disk, with what this crash left; the_disk is consumed. */
static bool start_there(const struct expect *x, uint32_t depth, const char *what)
{
    struct expect at = *x;
    struct sk_files *files = NULL;
    uint32_t mark = h.n_points;
    bool nested = depth < 2 && (h.follow || draw(1000000) < h.nested_ppm);
    h.follow = false; /* of this start, not of those within it */
    bool fine = true;
    h.now = &at;
    disk_changed = nested ? record : NULL;
    const char *bad = check_start(&h.life, &at, &files, NULL);
    if (!bad && nested) {
        record();
        bad = know_more(&at, files);
    }
    disk_changed = NULL;
    if (!bad && draw(16) == 0) {
        bad = check_deep(&h.life, files, &at);
        h.deep++;
    }
    sk_files_close(files);
    wrap_forget();
    disk_free(the_disk);
    the_disk = NULL;
    h.crash_points++;
    h.nested += depth > 0;
    if (bad)
        fine = fail(what, bad);
    if (fine && nested)
        fine = explore(mark, depth + 1);
    drop_points(mark);
    return fine;
}

static bool power_off(const struct point *p, const bool *keep, bool tear, uint32_t depth)
{
    char what[200];
    uint32_t n = p->disk->n_atoms, torn = UINT32_MAX, bytes = 0, kept = 0;
    for (uint32_t i = 0; i < n; i++)
        kept += keep[i];
    if (tear && n) {
        torn = (uint32_t)draw(n);
        bytes = (uint32_t)draw(SECTOR);
    }
    the_disk = disk_copy(p->disk);
    disk_power_off(the_disk, keep, torn, bytes);
    snprintf(what, sizeof what, "power lost at operation %llu%s, %u of %u atoms on the disk%s",
             U(p->disk->ops), depth ? " of a start after another crash" : "", kept, n,
             torn == UINT32_MAX ? "" : ", one torn");
    return start_there(&p->x, depth, what);
}

/* Killed: the kernel keeps everything, and the rest of the atoms stay undecided. */
static bool kill_there(const struct point *p, uint32_t depth)
{
    the_disk = disk_copy(p->disk);
    h.kills++;
    return start_there(&p->x, depth, "killed");
}

/* The subsets of a point: every one, or those that are most telling and some by chance. */
static bool subsets(const struct point *p, uint32_t depth)
{
    bool keep[1024];
    uint32_t n = p->disk->n_atoms;
    if (n > sizeof keep / sizeof *keep)
        return true;
    if (n > h.atoms_max)
        h.atoms_max = n;
    if (n <= h.exhaustive && depth == 0) {
        h.all_subsets++;
        for (uint32_t set = 0; set < 1u << n; set++) {
            for (uint32_t i = 0; i < n; i++)
                keep[i] = set >> i & 1;
            if (!power_off(p, keep, false, depth))
                return false;
        }
        return !n || power_off(p, keep, true, depth);
    }
    h.sampled++;
    for (uint32_t k = 0; k < h.samples; k++) {
        uint32_t one = n ? (uint32_t)draw(n) : 0;
        switch (draw(6)) {
        case 0: /* all but one */
            for (uint32_t i = 0; i < n; i++)
                keep[i] = i != one;
            break;
        case 1: /* only one */
            for (uint32_t i = 0; i < n; i++)
                keep[i] = i == one;
            break;
        case 2: /* a beginning */
            for (uint32_t i = 0; i < n; i++)
                keep[i] = i < one;
            break;
        case 3: /* an end */
            for (uint32_t i = 0; i < n; i++)
                keep[i] = i >= one;
            break;
        default:
            for (uint32_t i = 0; i < n; i++)
                keep[i] = draw(2);
        }
        if (!power_off(p, keep, draw(4) == 0, depth))
            return false;
    }
    return true;
}

/* Every point from `from` on. Those that a nested start records lie behind. */
static bool explore(uint32_t from, uint32_t depth)
{
    uint32_t to = h.n_points;
    for (uint32_t i = from; i < to; i++) {
        struct point *p = &h.points[i];
        if (i > from && depth == 0 && !p->disk->n_atoms && !h.points[i - 1].disk->n_atoms &&
            draw(4))
            continue;                       /* nothing is undecided: few are enough */
        if (depth && i + 1 < to && draw(4)) /* what the start has promised is always tried */
            continue;
        if (!subsets(p, depth) || (draw(4) == 0 && !kill_there(p, depth)))
            return false;
    }
    return true;
}

/* -- Lives ---------------------------------------------------------------------------------------
 */

/* An injected error ended the process: what it leaves must be as good as any crash. */
static bool after_error(int rc)
{
    struct point *p = &h.points[h.n_points];
    if (h.life.wrong)
        return fail("a start within the life", h.life.wrong);
    if (rc != CO_ERR_IO && rc != CO_ERR_FULL)
        return fail("a step failed", co_sentence());
    if (h.n_points == POINTS)
        return true;
    h.io_errors++;
    the_disk->fail_sync = the_disk->fail_write = 0;
    p->disk = the_disk;
    p->x = h.life.x;
    the_disk = NULL;
    h.n_points++;
    h.follow = true; /* it starts, and then the power goes: was everything written again? */
    return kill_there(&h.points[h.n_points - 1], 0);
}

/* Lives the steps; crash points of the last `explored` steps. false: something is wrong. */
static bool live(uint64_t seed, lsn_t start, uint32_t explored, bool faults, bool flips)
{
    bool fine = true;
    life_begin(&h.life, seed, start);
    the_disk = disk_new();
    the_disk->luck = seed;
    h.now = &h.life.x;
    h.lives++;
    disk_changed = explored > h.n_steps ? record : NULL;
    int rc = life_birth(&h.life);
    for (uint32_t i = 0; i < h.n_steps && rc >= 0; i++) {
        disk_changed = i + explored >= h.n_steps ? record : NULL;
        if (faults && i + 1 == h.n_steps)
            *(draw(3) ? &the_disk->fail_sync : &the_disk->fail_write) =
                draw(2) ? 1 : 1 + (uint32_t)draw(4);
        rc = life_step(&h.life, h.steps[i]);
        if (disk_changed && rc >= 0)
            record();
    }
    disk_changed = NULL;
    if (rc < 0) {
        fine = after_error(rc);
    } else {
        the_disk->fail_sync = the_disk->fail_write = 0;
    }
    bool at_rest = h.life.files != NULL;
    if (at_rest)
        life_kill(&h.life);
    struct disk *end = the_disk;
    the_disk = NULL;
    if (fine)
        fine = explore(0, 0);
    if (fine && flips && at_rest) {
        const char *bad = flip_all(&h.life, end, &h.flips);
        if (bad)
            fine = fail("rot", bad);
    }
    drop_points(0);
    wrap_forget();
    disk_free(end);
    life_end(&h.life);
    return fine;
}

/* Near the end of a segment, so that a few records cross into the next; or at the first. */
static lsn_t start_of(uint64_t n)
{
    return n & 1 ? LSN_FIRST : 5ull * SK_SEGMENT_DATA - 640;
}

/* Every life of at most `depth` steps behind a first election: its last step's crash points. */
static bool enumerate(uint32_t depth)
{
    static const enum step first[] = {STEP_ELECT, STEP_APPEND};
    uint64_t n = 1;
    for (uint32_t len = 0; len <= depth; len++, n *= N_STEPS)
        for (uint64_t code = 0; code < n; code++) {
            uint64_t c = code;
            h.n_steps = 0;
            for (unsigned i = 0; i < sizeof first / sizeof *first; i++)
                h.steps[h.n_steps++] = first[i];
            for (uint32_t i = 0; i < len; i++, c /= N_STEPS)
                h.steps[h.n_steps++] = (enum step)(c % N_STEPS);
            if (!live(code + 1, start_of(code), len ? 1 : 99, false, false))
                return false;
        }
    return true;
}

/* A longer life by chance. */
static bool by_chance(uint64_t seed)
{
    h.rng = seed;
    h.n_steps = 0;
    h.steps[h.n_steps++] = draw(8) ? STEP_ELECT : STEP_VOTE;
    uint64_t len = 3 + draw(20);
    for (uint64_t i = 0; i < len; i++) {
        uint64_t d = draw(10);
        enum step s = (enum step)draw(N_STEPS - 1); /* HALT ends everything: seldom */
        if (d < 3)
            s = STEP_APPEND + (enum step)draw(4);
        else if (d < 5)
            s = STEP_SYNC + (enum step)draw(2);
        if (h.steps[h.n_steps - 1] == STEP_VOTE && draw(2))
            s = draw(2) ? STEP_CUT : STEP_ELECT; /* it was elected */
        h.steps[h.n_steps++] = draw(60) ? s : STEP_HALT;
    }
    bool faults = draw(4) == 0;
    if (faults && draw(2))
        h.steps[h.n_steps++] = STEP_SYNC;
    return live(seed, start_of(draw(2)), 1 + (uint32_t)draw(4), faults, false);
}

/* A life that is spelt out. */
static void spell(const char *text)
{
    h.n_steps = 0;
    for (; *text && h.n_steps < STEPS_MAX; text++)
        for (unsigned s = 0; s < N_STEPS; s++)
            if (step_letter[s] == *text)
                h.steps[h.n_steps++] = (enum step)s;
}

/* Rot: a life that is at rest, and one whose last records are not sealed. */
static bool flips(uint64_t seed, uint32_t lives)
{
    static const char *const texts[] = {"eaasciibsiivpiiw", "eabcatwiiiabws",
                                        "eaAscweatwscaiiiipppww"};
    for (uint32_t k = 0; k < lives; k++) {
        spell(texts[k % 3]);
        if (!live(seed + k, start_of(k), 0, false, true))
            return false;
    }
    return true;
}

/* -- Mistakes ------------------------------------------------------------------------------------
 */

#ifdef CO_MUTATIONS
static sigjmp_buf aborted;
static void on_abort(int sig)
{
    (void)sig;
    siglongjmp(aborted, 1);
}

/* Crash points until it is found from this seed; 0: not within the limit. */
static uint64_t hunt_from(uint64_t seed, uint64_t limit)
{
    uint64_t before = h.crash_points + h.flips.bytes;
    h.failed = false;
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort); /* a torn record that is believed leads anywhere */
    if (sigsetjmp(aborted, 1)) {
        snprintf(h.why, sizeof h.why, "the product aborted");
        h.failed = true;
    } else {
        for (uint64_t i = 0; !h.failed && h.crash_points + h.flips.bytes - before < limit; i++)
            if (by_chance(seed + i) && i == 15)
                (void)flips(seed + i, 1);
    }
    signal(SIGABRT, SIG_DFL);
    signal(SIGSEGV, SIG_DFL);
    drop_points(0);
    wrap_forget();
    return h.failed ? h.crash_points + h.flips.bytes - before + 1 : 0;
}
#endif

static int mutations(uint64_t seed, const char *only)
{
#ifndef CO_MUTATIONS
    (void)seed;
    (void)only;
    fprintf(
        stderr,
        "simc: this build has no mistakes in it; make simc-mutations builds the one that has\n");
    return 2;
#else
    unsigned found = 0, tried = 0;
    if (!freopen("/dev/null", "w", stderr)) /* assertions that fail on purpose */
        return 1;
    printf("drawn start: %llu\n", U(seed));
    for (size_t i = 0; i < N_MISTAKES; i++) {
        const struct mistake *m = &mistakes[i];
        uint64_t need[3], limit = 16ull * m->points;
        bool all = true;
        if (only && strcmp(only, m->name))
            continue;
        for (unsigned k = 0; k < 3; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            co_mutation = m->m;
            need[k] = hunt_from(seed >> 20, limit);
            co_mutation = CO_MUTATION_NONE;
            all &= need[k] != 0;
        }
        tried++;
        found += all;
        printf("%-6s %-22s %7llu %7llu %7llu of %7llu  %s\n       %s\n", all ? "found" : "MISSED",
               m->name, U(need[0]), U(need[1]), U(need[2]), U(limit), m->text, all ? h.why : "");
        fflush(stdout);
    }
    printf("simc mutations: %s %u of %u mistakes of storage found, each from three starts\n",
           found == tried && tried ? "PASS" : "FAIL", found, tried);
    return found != tried || !tried;
#endif
}

/* -- Command line --------------------------------------------------------------------------------
 */

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static double clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int usage(int rc)
{
    fprintf(rc ? stderr : stdout,
            "usage: simc [--seed N] [--seconds S | --lives N] [--depth D] [--flips LIVES]\n"
            "            [--life LETTERS] [--mutations] [--mutation NAME] [--list]\n"
            "steps:\n");
#define X(name, letter, text) fprintf(rc ? stderr : stdout, "  %c  %s\n", letter, text);
    STEPS(X)
#undef X
    return rc;
}

static int list(void)
{
    for (size_t i = 0; i < N_MISTAKES; i++)
        printf("%-22s %7llu  %s\n", mistakes[i].name, U(mistakes[i].points), mistakes[i].text);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = 1, lives = 0;
    uint32_t depth = 0, rot = 3;
    double seconds = 0, begin;
    const char *mutation = NULL, *text = NULL;
    bool mutate = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--mutations"))
            mutate = true;
        else if (!strcmp(a, "--list"))
            return list();
        else if (v && !strcmp(a, "--seed"))
            seed = strtoull(v, NULL, 10), i++;
        else if (v && !strcmp(a, "--lives"))
            lives = strtoull(v, NULL, 10), i++;
        else if (v && !strcmp(a, "--seconds"))
            seconds = strtod(v, NULL), i++;
        else if (v && !strcmp(a, "--life"))
            text = v, i++;
        else if (v && !strcmp(a, "--depth"))
            depth = (uint32_t)strtoul(v, NULL, 10), i++;
        else if (v && !strcmp(a, "--flips"))
            rot = (uint32_t)strtoul(v, NULL, 10), i++;
        else if (v && !strcmp(a, "--mutation"))
            mutation = v, i++;
        else
            return usage(strcmp(a, "--help") ? 2 : 0);
    }
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    co_log_set_level(CO_LOG_OFF);
    h.points = calloc(POINTS, sizeof *h.points);
    co_assert(h.points);
    h.exhaustive = 5;
    h.samples = 6;
    h.nested_ppm = 20000;
    h.rng = seed;
    if (mutate || (mutation && !lives && !text && seconds <= 0))
        return mutations(seed, mutation);
    if (mutation) {
#ifdef CO_MUTATIONS
        for (size_t i = 0; i < N_MISTAKES; i++)
            if (!strcmp(mistakes[i].name, mutation))
                co_mutation = mistakes[i].m;
#endif
    }
    double cpu = cpu_s();
    bool fine = flips(seed, rot);
    if (fine && depth)
        fine = enumerate(depth);
    if (fine && text) {
        spell(text);
        for (lives = 1; fine && lives <= 2; lives++)
            fine = live(seed, start_of(lives), STEPS_MAX, false, false);
        lives = 0;
        seconds = -1;
    }
    uint64_t n = 0;
    begin = clock_s();
    if (!lives && seconds == 0 && !depth)
        lives = 1000;
    while (fine && (lives ? n < lives : clock_s() - begin < seconds))
        fine = by_chance(seed + n++);
    if (!fine)
        printf("FAIL seed %llu: %s\n", U(n ? seed + n - 1 : seed), h.why);
    cpu = cpu_s() - cpu;
    printf(
        "simc: %s lives=%llu crash-points=%llu in-starts=%llu kills=%llu io-errors=%llu deep=%llu "
        "points-with-every-subset=%llu sampled=%llu most-atoms=%llu flips=%llu strays=%llu "
        "refused=%llu "
        "same=%llu "
        "above-seal=%llu one-write-before=%llu points/h/core=%.0f\n",
        fine ? "PASS" : "FAIL", U(h.lives), U(h.crash_points), U(h.nested), U(h.kills),
        U(h.io_errors), U(h.deep), U(h.all_subsets), U(h.sampled), U(h.atoms_max), U(h.flips.bytes),
        U(h.flips.strays), U(h.flips.refused), U(h.flips.same), U(h.flips.residual),
        U(h.flips.older), (double)(h.crash_points + h.flips.bytes) / cpu * 3600);
    return !fine || !h.crash_points;
}
