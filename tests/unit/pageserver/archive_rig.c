#include "tests/unit/pageserver/archive_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pageserver/registry.h"

struct rig rig = {.line = {.no = 1}};

void rig_process_begins(void)
{
    static uint8_t processes;
    rig.a = (struct ps_archiver){
        .url = rig.url, .cluster = ps_id(1), .pages = rig.store, .task = &rig.task};
    rig.a.by_id = calloc(4096, sizeof *rig.a.by_id);
    rig.a.snapshot_every = 100 * 1024;
    rig.a.nonce = ps_id(++processes);
    rig.a.sock.fd = -1;
}

void rig_process_ends(void)
{
    ar_close(rig.a.store);
    ps_snaps_free(&rig.a);
    ps_archived_forget(&rig.a);
    free(rig.a.by_id);
}

void rig_begin(void)
{
    struct ps_archive_line *l = &rig.tline;
    ps_tmp(rig.dir);
    struct ps_store_options o = ps_test_store(rig.dir, rig.path);
    cr_assert_eq(ps_store_open(&o, &rig.store), 0, "%s", co_sentence());
    cr_assert_eq(ps_write_new(rig.store, &rig.wr), 0);
    ps_scribe_init(&rig.scribe, 4096, RIG_PAGES);
    rig.chain = ps_scribe_chain(&rig.scribe);
    rig.line.id = rig.chain.timeline;
    snprintf(rig.archive, sizeof rig.archive, "%s/archive", rig.dir);
    snprintf(rig.url, sizeof rig.url, "dir:%s", rig.archive);
    cr_assert_eq(mkdir(rig.archive, 0700), 0);
    *l = (struct ps_archive_line){.no = 1, .last = LSN_FIRST, .known = LSN_FIRST};
    l->meta.id = rig.line.id;
    l->meta.state = PS_ACTIVE;
    l->meta.start_lsn = LSN_FIRST;
    l->meta.database = ps_id(9);
    snprintf(l->meta.database_name, sizeof l->meta.database_name, "shop");
    snprintf(l->meta.branch, sizeof l->meta.branch, "main");
    rig.task = (struct ps_archive_task){.lines = l, .n_lines = 1};
    rig_process_begins();
}

void rig_end(void)
{
    rig_process_ends();
    ps_partial_free(&rig.partial);
    ps_scribe_free(&rig.scribe);
    ps_write_free(rig.wr);
    ps_store_close(rig.store);
    ps_tmp_remove(rig.dir);
}

struct ps_archived *rig_archived(void)
{
    return ps_archived_find(&rig.a, &rig.line.id, true);
}

void rig_write(uint32_t n, struct co_buf *records)
{
    pgno_t pgnos[RIG_PAGES];
    uint32_t taken;
    n = rig.seed ? n : RIG_PAGES;
    for (uint32_t i = 0; i < n; i++)
        pgnos[i] = rig.seed ? 1 + i * 4 + rig.seed % 4 : 1 + i;
    ps_scribe_txn(&rig.scribe, records, pgnos, n, FILL_NOISE, rig.seed);
    if (rig.seed++ % 3 == 1)
        ps_scribe_config(&rig.scribe, records);
    cr_assert_eq(
        ps_ingest_store(rig.wr, &rig.line, &rig.chain, &rig.partial, co_buf_span(records), &taken),
        0, "%s", co_sentence());
}

void rig_reached(void)
{
    struct ps_archived *t = rig_archived();
    rig.tline.last = rig.tline.known = t->end = rig.chain.last_lsn;
    t->digest = rig.chain.digest;
}

void rig_put_snap(const struct co_id *timeline, const struct ar_snap_name *of, const char *text)
{
    char name[AR_NAME_TEXT];
    (void)ar_name_snap(&rig.a.cluster, timeline, of, name);
    cr_assert_eq(ar_put(rig.a.store, name, co_span_of(text, strlen(text))), 0, "%s", co_sentence());
}

void rig_expect_snapshot(struct ar_store *s, const struct ar_snap *snap)
{
    Corallite__ArchiveSnapshot *index;
    struct co_buf rows = {0};
    const struct co_id *id = &rig.line.id;
    cr_assert_eq(ar_snap_index_get(s, &rig.a.cluster, id, snap, &index), 0, "%s", co_sentence());
    for (uint32_t i = 0; i < index->n_parts; i++)
        cr_assert_eq(ar_snap_part_get(s, &rig.a.cluster, id, snap, index, i, &rows), 0, "%s",
                     co_sentence());
    cr_assert_eq(rows.len, index->raw_bytes);
    cr_assert_eq(memcmp(index->digest.data, rig.chain.digest.b, 16) == 0,
                 snap->lsn == rig.chain.last_lsn);
    corallite__archive_snapshot__free_unpacked(index, NULL);
    co_buf_free(&rows);
}
