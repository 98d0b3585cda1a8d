/* fixture.h - temporary directories and records for the tests of the safekeeper's storage. Header
 * only: every test file gets its own copy, every test its own process. */
#ifndef CORALLITE_TESTS_SAFEKEEPER_FIXTURE_H
#define CORALLITE_TESTS_SAFEKEEPER_FIXTURE_H

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock_file.h"
#include "common/log.h"
#include "safekeeper/timeline_file.h"

/* Freed at the end of its block. */
#define AUTO_BUF __attribute__((cleanup(co_buf_free))) struct co_buf

struct fixture {
    char dir[64]; /* data directory with an empty timelines/ */
    struct sk_owner owner;
    struct wal_builder *builder;
};

static inline struct fixture *fixture(void)
{
    static struct fixture f;
    return &f;
}

static inline void fixture_setup(void)
{
    struct fixture *f = fixture();
    char path[SK_PATH_MAX];
    co_log_set_level(CO_LOG_OFF);
    strcpy(f->dir, "/tmp/corallite-sk-XXXXXX");
    cr_assert(mkdtemp(f->dir));
    snprintf(path, sizeof path, "%s/timelines", f->dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    f->owner = (struct sk_owner){.cluster = {{1}}, .timeline = {{2}}, .disk = {{3}}, .node = 1};
    cr_assert_eq(wal_builder_new(&f->builder), 0);
}

static inline void fixture_teardown(void)
{
    char command[256];
    wal_builder_free(fixture()->builder);
    snprintf(command, sizeof command, "rm -rf '%s'", fixture()->dir);
    cr_assert_eq(system(command), 0);
}

/* Where a log stands, for making the next record. */
struct tip {
    term_t term;
    lsn_t lsn, sealed;
    struct wal_digest digest;
    uint32_t n;
};

static inline struct tip tip_first(void)
{
    return (struct tip){.term = 1, .lsn = LSN_FIRST, .sealed = LSN_FIRST};
}

/* Appends a record of `pages` pages of random content and moves the tip. */
static inline void make_record(struct tip *tip, uint32_t pages, struct co_buf *out)
{
    struct fixture *f = fixture();
    uint8_t page[4096];
    AUTO_BUF record = {0};
    wal_builder_reset(f->builder, sizeof page);
    for (uint32_t i = 1; i <= pages; i++) {
        co_random_bytes(page, sizeof page);
        cr_assert_eq(wal_builder_page(f->builder, i, page, NULL, 0), 0);
    }
    struct wal_stamp stamp = {.cluster = f->owner.cluster,
                              .timeline = f->owner.timeline,
                              .term = tip->term,
                              .begin_lsn = tip->lsn,
                              .sealed_lsn = tip->sealed,
                              .time_us = 1000000 + tip->n,
                              .commit_uuid = co_id_random(),
                              .prev_digest = tip->digest,
                              .db_pages = pages};
    wal_builder_seal(f->builder, &stamp, &record, &tip->digest);
    cr_assert_eq(co_buf_append(out, record.data, record.len), 0);
    tip->lsn += record.len;
    tip->n++;
}

static inline void make_config(struct tip *tip, uint32_t version, struct co_buf *out)
{
    struct fixture *f = fixture();
    AUTO_BUF record = {0};
    struct wal_config config = {.version = version, .n = 3};
    for (uint32_t i = 0; i < 3; i++)
        config.members[i].node_id = i + 1;
    struct wal_stamp stamp = {.cluster = f->owner.cluster,
                              .timeline = f->owner.timeline,
                              .term = tip->term,
                              .begin_lsn = tip->lsn,
                              .sealed_lsn = tip->sealed,
                              .time_us = 1000000 + tip->n,
                              .commit_uuid = co_id_random(),
                              .prev_digest = tip->digest};
    cr_assert_eq(wal_build_config(&config, &stamp, &record, &tip->digest), 0);
    cr_assert_eq(co_buf_append(out, record.data, record.len), 0);
    tip->lsn += record.len;
    tip->n++;
}

static inline struct sk_birth fixture_birth(void)
{
    return (struct sk_birth){.owner = fixture()->owner, .start_lsn = LSN_FIRST};
}

/* A new timeline with term 1 and a history that covers it. */
static inline struct sk_files *fixture_timeline(void)
{
    static const struct q_term terms[] = {{1, LSN_FIRST}};
    struct sk_birth birth = fixture_birth();
    struct sk_files *files;
    cr_assert_eq(sk_files_create(fixture()->dir, &birth), 0, "%s", co_sentence());
    cr_assert_eq(sk_files_open(fixture()->dir, &birth, &files), 0, "%s", co_sentence());
    struct sk_durable d = {.term = 1,
                           .voted_nonce = {{7}},
                           .commit_lsn = LSN_FIRST,
                           .floor_lsn = LSN_FIRST,
                           .history = (struct q_term *)(uintptr_t)terms,
                           .n_history = 1};
    cr_assert_eq(sk_files_persist(files, &d, true, 0), 0, "%s", co_sentence());
    return files;
}

static inline int fixture_reopen(struct sk_files **files)
{
    struct sk_birth birth = fixture_birth();
    return sk_files_open(fixture()->dir, &birth, files);
}

static inline void timeline_path(char path[SK_PATH_MAX], const char *name)
{
    char id[CO_ID_TEXT];
    snprintf(path, SK_PATH_MAX, "%s/timelines/%s/%s", fixture()->dir,
             co_id_format(&fixture()->owner.timeline, id), name);
}

static inline void segment_path(char path[SK_PATH_MAX], lsn_t lsn)
{
    char name[64];
    snprintf(name, sizeof name, "log/%016llx.seg",
             (unsigned long long)(lsn / SK_SEGMENT_DATA * SK_SEGMENT_DATA));
    timeline_path(path, name);
}

static inline uint64_t segment_offset(lsn_t lsn)
{
    return SK_SEGMENT_HEADER + lsn % SK_SEGMENT_DATA;
}

static inline void read_at(const char *path, uint64_t offset, void *out, size_t len)
{
    int fd = open(path, O_RDONLY);
    cr_assert(fd >= 0, "%s", path);
    cr_assert_eq(pread(fd, out, len, (off_t)offset), (ssize_t)len);
    close(fd);
}

static inline void write_at(const char *path, uint64_t offset, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY);
    cr_assert(fd >= 0, "%s", path);
    cr_assert_eq(pwrite(fd, bytes, len, (off_t)offset), (ssize_t)len);
    close(fd);
}

static inline void flip(const char *path, uint64_t offset)
{
    uint8_t b;
    read_at(path, offset, &b, 1);
    b ^= 0x10;
    write_at(path, offset, &b, 1);
}

static inline void flip_lsn(lsn_t lsn)
{
    char path[SK_PATH_MAX];
    segment_path(path, lsn);
    flip(path, segment_offset(lsn));
}

#endif
