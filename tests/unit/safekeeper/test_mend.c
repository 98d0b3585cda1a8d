/* test_mend.c - --mend: what another member has comes back, what is not proven to be what was here
 * is not written. The other member is a real daemon; the directory that is mended belongs to
 * node 2. */
#include "archive/state.h"
#include "safekeeper/mend.h"
#include "safekeeper/registry_file.h"
#include "tests/unit/safekeeper/daemon_fixture.h"

static void setup(void)
{
    fixture_setup();
    fixture()->owner.cluster = cluster_id();
}

TestSuite(mend, .init = setup, .fini = fixture_teardown, .timeout = 60);

static const char *const fresh[] = {"--cluster", CLUSTER_TEXT, NULL};
static const struct q_term terms[] = {{1, LSN_FIRST}};
static const struct q_history history = {.n = 1, .e = terms};

static struct sk_process peer;
static struct co_identity identity;
static char victim[128];
static lsn_t begins[64]; /* of the records */

/* Records of the one log that there is; begins[i] is where the i-th begins, begins[n] the end. */
static void make_log(struct tip *tip, int from, int n, struct co_buf *out)
{
    for (int i = from; i < n; i++) {
        begins[i] = tip->lsn;
        if (i == 0)
            make_config(tip, 1, out);
        else
            make_record(tip, 1 + (uint32_t)i % 3, out);
    }
    begins[n] = tip->lsn;
}

/* The other member: has these records, and knows them to be committed. */
static void start_peer(const struct co_buf *records, lsn_t end)
{
    struct sk_talk t;
    struct q_msg m;
    AUTO_BUF none = {0};
    daemon_start(&peer, fresh);
    talk_open(&t, &peer);
    cr_assert_eq(talk_put(&t, 1, CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE), 0);
    talk_lead(&t, 1, &history, LSN_FIRST);
    talk_append(&t, 1, LSN_FIRST, LSN_FIRST, records);
    do
        talk_expect(&t, FRAME_ACK, &m);
    while (m.flush_lsn < end);
    talk_append(&t, 1, end, end, &none);
    do
        talk_expect(&t, FRAME_ACK, &m);
    while (m.commit_lsn < end);
    talk_close(&t);
}

static void write_registry(void)
{
    struct sk_registry registry = {0};
    struct sk_entry entry;
    struct wal_config config = {.version = 1, .n = 3};
    struct msg_config wire;
    struct sk_registry_bytes bytes = {0};
    Corallite__Timeline tl = CORALLITE__TIMELINE__INIT;
    for (uint32_t i = 0; i < 3; i++)
        config.members[i].node_id = i + 1;
    msg_config_fill(&config, &wire);
    tl.has_id = tl.has_start_lsn = tl.has_state = tl.has_version = 1;
    tl.id = msg_bytes16(fixture()->owner.timeline.b);
    tl.database_name = (char[]){"shop"};
    tl.branch = (char[]){"main"};
    tl.start_lsn = LSN_FIRST;
    tl.state = CORALLITE__TIMELINE_STATE__TIMELINE_ACTIVE;
    tl.version = 1;
    tl.config = &wire.pb;
    cr_assert_eq(sk_entry_parse(&tl, &entry), 0, "%s", co_sentence());
    cr_assert_eq(sk_registry_encode(&registry, &entry, &bytes), 0);
    cr_assert_eq(sk_registry_write(victim, &bytes), 0);
    co_buf_free(&bytes.buf);
    sk_entry_release(&entry);
}

/* Node 2, stopped, everything sealed. */
static void make_victim(const struct co_buf *records, struct q_term *history_terms, uint32_t n)
{
    struct sk_files *files;
    char root[SK_PATH_MAX];
    snprintf(victim, sizeof victim, "%.60s/victim", fixture()->dir);
    struct co_id cluster = cluster_id();
    cr_assert_eq(co_identity_open(victim, "safekeeper", 2, &cluster, &identity), 0, "%s",
                 co_sentence());
    cr_assert_eq(sk_files_root(victim, root), 0);
    cr_assert_eq(mkdir(root, 0700), 0);
    write_registry();
    struct sk_birth birth = fixture_birth();
    birth.owner.node = 2;
    birth.owner.disk = identity.disk;
    cr_assert_eq(sk_files_create(victim, &birth), 0, "%s", co_sentence());
    cr_assert_eq(sk_files_open(victim, &birth, &files), 0, "%s", co_sentence());
    struct sk_durable d = {.term = history_terms[n - 1].term,
                           .voted_nonce = {{7}},
                           .commit_lsn = LSN_FIRST,
                           .floor_lsn = LSN_FIRST,
                           .history = history_terms,
                           .n_history = n};
    cr_assert_eq(sk_files_persist(files, &d, true, 0), 0, "%s", co_sentence());
    cr_assert_eq(sk_log_append(&files->log, LSN_FIRST, co_buf_span(records)), 0);
    cr_assert_eq(sk_log_sync(&files->log), 0);
    cr_assert_eq(sk_files_seal(files), 0);
    cr_assert_eq(sk_files_settle(files), 0);
    sk_files_close(files);
}

static void victim_segment(char path[SK_PATH_MAX])
{
    char id[CO_ID_TEXT];
    cr_assert_eq(sk_io_path(path, "%s/timelines/%s/log/%016x.seg", victim,
                            co_id_format(&fixture()->owner.timeline, id), 0),
                 0);
}

static void rot(lsn_t lsn)
{
    char path[SK_PATH_MAX];
    victim_segment(path);
    flip(path, segment_offset(lsn) + 200);
}

static void segment_bytes(struct co_buf *out)
{
    char path[SK_PATH_MAX];
    victim_segment(path);
    out->len = 0;
    cr_assert_eq(sk_io_read_all(path, CO_SEGMENT_BYTES, out), 0);
}

static int mend(void)
{
    struct sk_mend_peer one = {.node = 1, .port = peer.port};
    snprintf(one.host, sizeof one.host, "127.0.0.1");
    return sk_mend(victim, &identity, &one, 1, NULL);
}

/* It cannot be mended, and the segment stays as it is. */
static void nothing_is_written(void)
{
    AUTO_BUF before = {0};
    AUTO_BUF after = {0};
    segment_bytes(&before);
    cr_assert_eq(mend(), CO_ERR_CORRUPT);
    segment_bytes(&after);
    cr_assert_eq(memcmp(before.data, after.data, before.len), 0, "something was written");
}

static void end(void)
{
    co_identity_close(&identity);
    cr_assert_eq(daemon_stop(&peer, SIGTERM), 0);
}

/* Is every record there, byte for byte? */
static void expect_log(const struct co_buf *records)
{
    AUTO_BUF now = {0};
    segment_bytes(&now);
    cr_assert_eq(memcmp(now.data + segment_offset(LSN_FIRST), records->data, records->len), 0);
}

Test(mend, what_is_damaged_comes_back_and_the_rest_stays)
{
    struct tip tip = tip_first();
    struct q_term one[] = {{1, LSN_FIRST}};
    AUTO_BUF records = {0};
    char kept[SK_PATH_MAX], id[CO_ID_TEXT];
    make_log(&tip, 0, 40, &records);
    start_peer(&records, begins[40]);
    make_victim(&records, one, 1);
    rot(begins[7]);
    rot(begins[31]);
    cr_assert_eq(mend(), 0, "%s", co_sentence());
    expect_log(&records);
    cr_assert_eq(sk_io_path(kept, "%s/aside/%s-%016x.seg", victim,
                            co_id_format(&fixture()->owner.timeline, id), 0),
                 0);
    cr_assert(sk_io_exists(kept), "what was overwritten is not kept");
    cr_assert_eq(mend(), 0, "nothing is left to do");
    end();
}

Test(mend, a_version_that_is_damaged_comes_back_and_a_newer_format_stays)
{
    /* Which of the two it is another member knows (level B, seed 14031151). */
    struct tip tip = tip_first();
    struct q_term one[] = {{1, LSN_FIRST}};
    char path[SK_PATH_MAX];
    AUTO_BUF records = {0};
    make_log(&tip, 0, 20, &records);
    start_peer(&records, begins[20]);
    make_log(&tip, 20, 30, &records);
    make_victim(&records, one, 1);
    victim_segment(path);
    flip(path, segment_offset(begins[7]) + 5);
    cr_assert_eq(mend(), 0, "%s", co_sentence());
    expect_log(&records);
    flip(path, segment_offset(begins[25]) + 5);
    nothing_is_written();
    end();
}

Test(mend, a_record_of_a_term_that_did_not_write_here_is_not_taken)
{
    /* N1. From record 20 on node 2 has what term 2 wrote, by its own history; the member has what
     * term 1 did. */
    struct tip tip = tip_first();
    AUTO_BUF common = {0};
    AUTO_BUF theirs = {0};
    AUTO_BUF ours = {0};
    make_log(&tip, 0, 20, &common);
    struct tip other = tip;
    lsn_t part = tip.lsn;
    cr_assert_eq(co_buf_append(&theirs, common.data, common.len), 0);
    cr_assert_eq(co_buf_append(&ours, common.data, common.len), 0);
    make_log(&other, 20, 40, &theirs);
    start_peer(&theirs, begins[40]);
    tip.term = 2;
    make_log(&tip, 20, 40, &ours);
    struct q_term two[] = {{1, LSN_FIRST}, {2, part}};
    make_victim(&ours, two, 2);
    rot(begins[20]);
    nothing_is_written();
    end();
}

Test(mend, a_record_that_does_not_chain_to_what_is_here_is_not_taken)
{
    /* N1. The same term, the same places, another content before: only the chain tells. */
    struct tip a = tip_first(), b = tip_first();
    struct q_term one[] = {{1, LSN_FIRST}};
    AUTO_BUF theirs = {0};
    AUTO_BUF ours = {0};
    make_log(&a, 0, 12, &theirs);
    make_log(&b, 0, 12, &ours);
    cr_assert_eq(a.lsn, b.lsn, "noise is stored as it is, so the places are the same");
    start_peer(&theirs, begins[12]);
    make_victim(&ours, one, 1);
    rot(begins[9]);
    nothing_is_written();
    end();
}

Test(mend, what_no_member_has_committed_is_not_made_up)
{
    struct tip tip = tip_first();
    struct q_term one[] = {{1, LSN_FIRST}};
    AUTO_BUF records = {0};
    make_log(&tip, 0, 10, &records);
    start_peer(&records, begins[10]);
    make_log(&tip, 10, 30, &records);
    make_victim(&records, one, 1);
    rot(begins[20]);
    nothing_is_written();
    end();
}

/* -- From an archive -----------------------------------------------------------------------------
 */

static char archive_url[140];

/* The log in objects of `step` bytes, whose borders are not those of records, and a manifest that
 * tells of it up to `end`. */
static void make_archive(const struct co_buf *records, size_t step, lsn_t end)
{
    struct ar_store *store;
    char name[AR_NAME_TEXT];
    struct co_id cluster = cluster_id(), id = fixture()->owner.timeline;
    struct wal_digest zero = {{0}};
    struct ar_place place = {cluster, 1, 1};
    Corallite__ArchiveState head = CORALLITE__ARCHIVE_STATE__INIT;
    Corallite__ArchiveState__Line line = CORALLITE__ARCHIVE_STATE__LINE__INIT;
    Corallite__Timeline t = CORALLITE__TIMELINE__INIT;
    AUTO_BUF state = {0};
    snprintf(archive_url, sizeof archive_url, "dir:%.60s/archive", fixture()->dir);
    cr_assert_eq(ar_open(archive_url, &(struct ar_options){.make = true}, &store), 0);
    for (size_t at = 0; at < records->len; at += step) {
        size_t n = records->len - at < step ? records->len - at : step;
        struct ar_chunk chunk = {.begin = LSN_FIRST + at, .end = LSN_FIRST + at + n};
        ar_sum(co_span_of(records->data + at, n), &chunk.sum);
        cr_assert_eq(ar_put(store, ar_name_log(&cluster, &id, &chunk, name),
                            co_span_of(records->data + at, n)),
                     0, "%s", co_sentence());
    }
    head.has_cluster = head.has_generation = head.has_sequence = 1;
    head.cluster = msg_bytes16(cluster.b);
    head.generation = head.sequence = 1;
    t.has_id = t.has_base_digest = 1;
    t.id = msg_bytes16(id.b);
    t.base_digest = msg_bytes16(zero.b);
    t.database_name = (char[]){"shop"};
    t.branch = (char[]){"main"};
    line.timeline = &t;
    line.has_end_lsn = line.has_digest = 1;
    line.end_lsn = end;
    line.digest = msg_bytes16(zero.b);
    cr_assert_eq(ar_state_begin(&head, &state), 0);
    cr_assert_eq(ar_state_add_line(&line, &state), 0);
    cr_assert_eq(ar_state_seal(&state, false), 0);
    cr_assert_eq(ar_put(store, ar_name_state(&place, name), co_buf_span(&state)), 0);
    ar_close(store);
}

/* No other member can be asked. */
static int mend_from_archive(void)
{
    struct sk_mend_peer gone = {.node = 1, .host = "127.0.0.1", .port = 1};
    return sk_mend(victim, &identity, &gone, 1, archive_url);
}

Test(mend, what_no_member_gives_comes_back_from_an_archive)
{
    /* Small records, and one that is larger than an answer, cut anywhere. */
    struct tip tip = tip_first();
    struct q_term one[] = {{1, LSN_FIRST}};
    AUTO_BUF records = {0};
    make_log(&tip, 0, 12, &records);
    lsn_t large = tip.lsn;
    make_record(&tip, 300, &records);
    lsn_t behind = tip.lsn;
    make_record(&tip, 2, &records);
    cr_assert_gt(behind - large, CO_BATCH_BYTES);
    make_victim(&records, one, 1);
    make_archive(&records, 70001, tip.lsn);
    rot(begins[3]);
    rot(begins[9]);
    rot(large + 500000);
    cr_assert_eq(mend_from_archive(), 0, "%s", co_sentence());
    expect_log(&records);
    co_identity_close(&identity);
}

Test(mend, an_archive_that_is_damaged_or_too_old_gives_nothing)
{
    /* The object is named; what a manifest does not tell of is not taken. Nothing is written. */
    struct tip tip = tip_first();
    struct q_term one[] = {{1, LSN_FIRST}};
    AUTO_BUF records = {0};
    AUTO_BUF before = {0};
    AUTO_BUF after = {0};
    make_log(&tip, 0, 12, &records);
    make_victim(&records, one, 1);
    make_archive(&records, CO_MIB, begins[3]);
    rot(begins[3]);
    segment_bytes(&before);
    cr_assert_eq(mend_from_archive(), CO_ERR_CORRUPT);
    segment_bytes(&after);
    cr_assert_eq(memcmp(before.data, after.data, before.len), 0, "something was written");
    records.data[begins[3] - LSN_FIRST + 100] ^= 1; /* sound as an object, and not as a log */
    char command[300];
    snprintf(command, sizeof command, "rm -rf '%s'", archive_url + 4);
    cr_assert_eq(system(command), 0);
    make_archive(&records, CO_MIB, tip.lsn);
    cr_assert_eq(mend_from_archive(), CO_ERR_CORRUPT);
    co_identity_close(&identity);
}
