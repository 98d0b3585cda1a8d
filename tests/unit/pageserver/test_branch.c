/* test_branch.c - moments and branches of a whole pageserver, against three fake safekeepers. */
#include "tests/unit/pageserver/daemon_fixture.h"
#include "tests/unit/slower.h"

TestSuite(branch, .init = setup, .fini = teardown, .timeout = 60);

/* -- Calls ------------------------------------------------------------------------------------- */

struct moment {
    struct ps_meta tl;
    lsn_t lsn, head;
    uint64_t time_us;
    uint32_t db_pages;
    bool rounded;
};

static int resolve_in(const char *branch, const char *at, uint32_t deadline_ms, struct moment *out)
{
    Corallite__Resolve m = CORALLITE__RESOLVE__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.branch = TEXT(branch);
    m.at = TEXT(at);
    m.has_deadline_ms = 1;
    m.deadline_ms = deadline_ms;
    int rc = call(FRAME_RESOLVE, &m.base, &r);
    if (!rc) {
        Corallite__Resolved *a = message_of(&corallite__resolved__descriptor, &r);
        *out = (struct moment){.lsn = a->lsn, .head = a->head_lsn, .time_us = a->time_us};
        out->db_pages = a->db_pages;
        out->rounded = a->rounded;
        cr_assert_eq(ps_meta_from_wire(a->timeline, &out->tl), 0);
        protobuf_c_message_free_unpacked(&a->base, NULL);
    }
    reply_free(&r);
    return rc;
}

static struct moment at(const char *branch, const char *when)
{
    struct moment m;
    cr_assert_eq(resolve_in(branch, when, 10000, &m), 0, "%s@%s: %s", branch, when, co_sentence());
    return m;
}

static struct moment at_time(const char *branch, uint64_t us)
{
    char text[WHEN_TEXT];
    return at(branch, when_format(us, text));
}

static struct moment at_lsn(const char *branch, lsn_t lsn)
{
    char text[40] = "lsn:";
    lsn_format(lsn, text + 4);
    return at(branch, text);
}

struct made {
    struct ps_meta tl;
    lsn_t lsn;
    char kept_as[CO_NAME_MAX_BYTES + 1];
};

static int branched(unsigned type, const ProtobufCMessage *m, struct made *out)
{
    struct reply r;
    int rc = call(type, m, &r);
    if (!rc) {
        Corallite__Branched *b = message_of(&corallite__branched__descriptor, &r);
        *out = (struct made){.lsn = b->lsn};
        snprintf(out->kept_as, sizeof out->kept_as, "%s", b->kept_as ? b->kept_as : "");
        cr_assert_eq(ps_meta_from_wire(b->timeline, &out->tl), 0);
        protobuf_c_message_free_unpacked(&b->base, NULL);
    }
    reply_free(&r);
    return rc;
}

static int try_branch(const char *name, const char *from, const char *when, const struct co_id *id,
                      struct made *out)
{
    Corallite__BranchCreate m = CORALLITE__BRANCH_CREATE__INIT;
    m.database = TEXT("shop");
    m.branch = TEXT(name);
    m.from_branch = TEXT(from);
    m.at = TEXT(when);
    m.has_id = id != NULL;
    if (id)
        m.id = msg_bytes16(id->b);
    return branched(FRAME_BRANCH_CREATE, &m.base, out);
}

static struct made branch(const char *name, const char *from, const char *when)
{
    struct made out;
    cr_assert_eq(try_branch(name, from, when, NULL, &out), 0, "%s", co_sentence());
    return out;
}

static int change(const char *name, const char *rename_to, int protect, uint64_t expires_us,
                  bool drop_it)
{
    Corallite__BranchChange m = CORALLITE__BRANCH_CHANGE__INIT;
    struct made out;
    m.database = TEXT("shop");
    m.branch = TEXT(name);
    m.rename_to = TEXT(rename_to);
    m.has_protect = protect >= 0;
    m.protect = protect > 0;
    m.has_expires_us = expires_us != 0;
    m.expires_us = expires_us;
    m.has_drop = m.drop = drop_it;
    return branched(FRAME_BRANCH_CHANGE, &m.base, &out);
}

static int drop_branch(const char *name)
{
    return change(name, NULL, -1, 0, true);
}

static int try_restore(const char *name, const char *to, const char *when, const char *keep_as,
                       const struct co_id *id, struct made *out)
{
    Corallite__Restore m = CORALLITE__RESTORE__INIT;
    m.database = TEXT("shop");
    m.branch = TEXT(name);
    m.to_branch = TEXT(to);
    m.at = TEXT(when);
    m.keep_as = TEXT(keep_as);
    m.has_id = id != NULL;
    if (id)
        m.id = msg_bytes16(id->b);
    return branched(FRAME_RESTORE, &m.base, out);
}

/* "a,b,c": the branches of shop, sorted; those sealed in (). */
static char *branches(char text[500])
{
    Corallite__BranchList m = CORALLITE__BRANCH_LIST__INIT;
    struct reply r;
    char names[40][70];
    size_t n;
    m.database = TEXT("shop");
    cr_assert_eq(call(FRAME_BRANCH_LIST, &m.base, &r), 0, "%s", co_sentence());
    Corallite__BranchListed *l = message_of(&corallite__branch_listed__descriptor, &r);
    n = l->n_branches;
    cr_assert_lt(n, 40);
    for (size_t i = 0; i < n; i++) {
        bool sealed = l->branches[i]->timeline->state == CORALLITE__TIMELINE_STATE__TIMELINE_SEALED;
        snprintf(names[i], 70, sealed ? "(%s)" : "%s", l->branches[i]->timeline->branch);
    }
    qsort(names, n, 70, (int (*)(const void *, const void *))strcmp);
    text[0] = 0;
    for (size_t i = 0; i < n; i++)
        snprintf(text + strlen(text), 500 - strlen(text), "%s%s", i ? "," : "", names[i]);
    protobuf_c_message_free_unpacked(&l->base, NULL);
    reply_free(&r);
    return text;
}

static void expect_branches(const char *wanted)
{
    char text[500];
    cr_assert_str_eq(branches(text), wanted);
}

static int open_branch(const char *name, struct ps_meta *out)
{
    Corallite__Open m = CORALLITE__OPEN__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.branch = TEXT(name);
    int rc = call(FRAME_OPEN, &m.base, &r);
    if (!rc) {
        Corallite__Opened *o = message_of(&corallite__opened__descriptor, &r);
        rc = o->timeline ? ps_meta_from_wire(o->timeline, out) : CO_ERR_NOT_FOUND;
        cr_assert_eq(o->n_ancestors > 0, !rc && !co_id_is_zero(&out->ancestor));
        if (!rc && o->n_ancestors > 0)
            cr_assert(o->ancestors[0]->lsn == out->ancestor_lsn &&
                      memcmp(o->ancestors[0]->timeline.data, out->ancestor.b, 16) == 0);
        protobuf_c_message_free_unpacked(&o->base, NULL);
    }
    reply_free(&r);
    return rc;
}

/* The seed that page 1 of this timeline was filled with last, at that LSN (see write_page). */
static uint64_t seen(const struct co_id *tl, lsn_t lsn)
{
    int status;
    cr_assert_eq(get_pages(tl, lsn, 0, 10000, 1, 1, &status, NULL), 0, "%s", co_sentence());
    cr_assert_eq(status, 0);
    return co_get64(pages + 64);
}

/* One commit that page 1 tells by its seed. */
static lsn_t write_page(const struct co_id *tl, uint64_t seed)
{
    pgno_t p = 1;
    co_put64(ps_scribe_page(&scribe, 1) + 64, seed);
    ps_scribe_images(&scribe, &records, &p, 1);
    fake_append(&fake, tl, &records);
    records.len = 0;
    return scribe.lsn;
}

/* shop with commits 1 to n; their LSNs in lsn[1..n], times in us[1..n]. */
static struct ps_meta shop(uint64_t n, lsn_t *lsn, uint64_t *us)
{
    struct ps_meta m = create("shop");
    begin_log(&m, 4096);
    for (uint64_t i = 1; i <= n; i++) {
        lsn[i] = write_page(&m.id, i);
        us[i] = scribe.time_us;
    }
    return m;
}

/* -- Moments ----------------------------------------------------------------------------------- */

Test(branch, a_time_is_the_newest_commit_at_or_before_it)
{
    /* Exact: before the first, at one, between two, after the last. */
    lsn_t lsn[11];
    uint64_t us[11];
    struct ps_meta m = shop(10, lsn, us);
    cr_assert_eq(at_time("main", us[1] - 1).lsn, 0, "the database was empty");
    for (int i = 1; i <= 10; i++) {
        cr_assert_eq(at_time("main", us[i]).lsn, lsn[i]);
        cr_assert_eq(at_time("main", us[i] + 999).lsn, lsn[i]);
        cr_assert_eq(at_time("main", us[i] - 1).lsn, i > 1 ? lsn[i - 1] : 0);
        cr_assert_eq(seen(&m.id, lsn[i]), (uint64_t)i);
    }
    struct moment head = at("main", "");
    cr_assert(head.lsn == lsn[10] && head.head == lsn[10] && head.time_us == us[10]);
    cr_assert(head.db_pages == 1 && !head.rounded && co_id_eq(&head.tl.id, &m.id));
    cr_assert_eq(at("main", "-1s").lsn, lsn[10]);
}

Test(branch, an_lsn_within_a_record_is_rounded_down_and_one_beyond_the_head_is_refused)
{
    /* S3 */
    lsn_t lsn[4];
    uint64_t us[4];
    char text[40], have[LSN_TEXT];
    struct moment m;
    shop(3, lsn, us);
    m = at_lsn("main", lsn[2]);
    cr_assert(m.lsn == lsn[2] && !m.rounded);
    m = at_lsn("main", lsn[3] - 8);
    cr_assert(m.lsn == lsn[2] && m.rounded);
    m = at_lsn("main", LSN_FIRST);
    cr_assert_eq(m.lsn, 0, "before the first commit it was empty");
    snprintf(text, sizeof text, "lsn:%llx", (unsigned long long)lsn[3] + 8);
    cr_assert_eq(resolve_in("main", text, 5000, &m), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), lsn_format(lsn[3], have)), "%s", co_sentence());
    cr_assert(strstr(co_sentence(), lsn_format(lsn[3] + 8, have)), "%s", co_sentence());
    cr_assert_eq(resolve_in("main", "12345", 5000, &m), CO_ERR_INVAL);
    cr_assert_eq(resolve_in("main", "2126-01-01", 5000, &m), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "future"), "%s", co_sentence());
    cr_assert_eq(resolve_in("dev", "", 5000, &m), CO_ERR_NOT_FOUND);
    cr_assert(strstr(co_sentence(), "it has main"), "%s", co_sentence());
    cr_assert_eq(resolve_in("main", "pin:x", 5000, &m), CO_ERR_NOT_FOUND);
}

Test(branch, the_head_is_what_was_acknowledged_when_the_question_came)
{
    /* S3: strict, whatever the pageserver has ingested; an open tail is waited for, not for ever.
     */
    lsn_t lsn[2];
    uint64_t us[2];
    struct moment m;
    struct ps_meta tl = shop(1, lsn, us);
    for (uint64_t i = 0; i < 50; i++) {
        lsn_t last = write_page(&tl.id, i);
        cr_assert_eq(at("main", "").lsn, last);
    }
    fake_set_tail(&fake, &tl.id, 800);
    uint64_t begin = co_now_us();
    cr_assert_eq(at("main", "").lsn, scribe.lsn, "what nobody acknowledged is not the head");
    cr_assert_lt(co_now_us() - begin, 5000000 * slower());
    fake_set_up(&fake, 0, false);
    cr_assert_eq(at("main", "").lsn, scribe.lsn, "two of three are enough");
    fake_set_up(&fake, 1, false);
    usleep(50000);
    cr_assert_eq(resolve_in("main", "", 300, &m), CO_ERR_NO_QUORUM);
    cr_assert(strstr(co_sentence(), "of 3 safekeepers"), "%s", co_sentence());
    cr_assert_eq(at_lsn("main", lsn[1]).lsn, lsn[1], "what is here needs nobody");
    cr_assert_eq(at_time("main", us[1]).lsn, lsn[1]);
}

/* -- Branches ---------------------------------------------------------------------------------- */

Test(branch, a_branch_sees_its_parent_up_to_the_branch_point_and_then_itself)
{
    /* And neither sees what the other does. */
    lsn_t lsn[6];
    uint64_t us[6];
    char when[WHEN_TEXT];
    struct ps_meta tl = shop(5, lsn, us);
    struct made dev = branch("dev", "main", when_format(us[3], when));
    cr_assert(dev.lsn == lsn[3] && dev.tl.start_lsn == lsn[3] && dev.tl.ancestor_lsn == lsn[3]);
    cr_assert(co_id_eq(&dev.tl.ancestor, &tl.id) && co_id_eq(&dev.tl.database, &tl.database));
    struct ps_meta held;
    uint32_t on = 0;
    for (uint32_t i = 0; i < 3; i++)
        on += fake_holds_id(&fake, i, &dev.tl.id, &held) && held.state == PS_ACTIVE;
    cr_assert_geq(on, 2, "durable on a majority");
    cr_assert_eq(seen(&dev.tl.id, lsn[3]), 3);
    cr_assert_eq(seen(&dev.tl.id, lsn[1]), 1, "below the branch point through the ancestor");
    ps_scribe_branch(&scribe, &dev.tl.id, lsn[3], &dev.tl.base_digest);
    ps_scribe_config(&scribe, &records);
    lsn_t own = write_page(&dev.tl.id, 77);
    cr_assert_eq(seen(&dev.tl.id, own), 77);
    cr_assert_eq(at("dev", "").lsn, own);
    cr_assert_eq(seen(&tl.id, lsn[5]), 5);
    cr_assert_eq(at("main", "").lsn, lsn[5]);
    cr_assert_eq(at_time("dev", us[5]).lsn, lsn[3], "the parent's later commits are not its own");
    cr_assert_eq(at_time("dev", us[2]).lsn, lsn[2]);
    expect_branches("dev,main");
}

Test(branch, asking_again_makes_nothing_twice)
{
    /* Idempotent by id; another name or id is another branch; a taken name is refused. */
    lsn_t lsn[2];
    uint64_t us[2];
    struct co_id id = ps_id(0x42);
    struct made a, b;
    shop(1, lsn, us);
    cr_assert_eq(try_branch("dev", NULL, "", &id, &a), 0, "%s", co_sentence());
    cr_assert_eq(try_branch("dev", NULL, "", &id, &b), 0, "%s", co_sentence());
    cr_assert(co_id_eq(&a.tl.id, &id) && co_id_eq(&b.tl.id, &id) && a.lsn == b.lsn);
    cr_assert_eq(try_branch("dev", NULL, "", NULL, &b), CO_ERR_EXISTS);
    cr_assert(strstr(co_sentence(), "'dev' already"), "%s", co_sentence());
    cr_assert_eq(try_branch("my dev", NULL, "", NULL, &b), CO_ERR_NAME);
    cr_assert_eq(try_branch("x", "nothing", "", NULL, &b), CO_ERR_NOT_FOUND);
    cr_assert_eq(drop_branch("dev"), 0, "%s", co_sentence());
    cr_assert_eq(try_branch("dev", NULL, "", &id, &b), CO_ERR_EXISTS);
    cr_assert(strstr(co_sentence(), "dropped"), "%s", co_sentence());
    branch("dev", NULL, "");
}

Test(branch, a_branch_of_an_empty_database_and_of_the_time_before_it_had_content)
{
    /* The branch point is the begin of the log; the branch is empty and can be written to. */
    struct ps_meta m = create("shop");
    struct made a = branch("a", NULL, "");
    cr_assert(a.lsn == 0 && a.tl.start_lsn == LSN_FIRST);
    begin_log(&m, 4096);
    write_page(&m.id, 1);
    struct made b = branch("b", NULL, "lsn:1000");
    cr_assert(b.lsn == 0 && b.tl.start_lsn == LSN_FIRST);
    cr_assert_eq(at("b", "").lsn, 0);
    ps_scribe_branch(&scribe, &b.tl.id, LSN_FIRST, &b.tl.base_digest);
    lsn_t own = write_page(&b.tl.id, 9);
    cr_assert_eq(seen(&b.tl.id, own), 9);
}

Test(branch, branches_of_branches_to_depth_64_and_no_further)
{
    /* The limit has a sentence; the deepest reads the root's page. */
    lsn_t lsn[2];
    uint64_t us[2];
    struct made last, refused;
    char name[20], from[20] = "main";
    struct ps_meta tl = shop(1, lsn, us);
    for (int i = 1; i <= 64; i++) {
        snprintf(name, sizeof name, "b%d", i);
        last = branch(name, from, "");
        snprintf(from, sizeof from, "%s", name);
    }
    cr_assert_eq(seen(&last.tl.id, lsn[1]), 1);
    cr_assert_eq(try_branch("b65", "b64", "", NULL, &refused), CO_ERR_TOO_LARGE);
    cr_assert(strstr(co_sentence(), "64 ancestors"), "%s", co_sentence());
    cr_assert_eq(stop_daemon(SIGKILL) & 0x7f, SIGKILL);
    start_daemon();
    cr_assert_eq(seen(&last.tl.id, lsn[1]), 1);
    cr_assert_eq(at("b64", "").lsn, lsn[1]);
    cr_assert_eq(seen(&tl.id, lsn[1]), 1);
}

Test(branch, dropping_a_parent_leaves_its_children_what_they_see)
{
    /* Also after a restart, and on an empty pageserver; the name is free, nobody opens it. */
    lsn_t lsn[4];
    uint64_t us[4];
    struct reply r;
    struct ps_meta tl = shop(3, lsn, us), out;
    struct made dev = branch("dev", NULL, ""), deep;
    ps_scribe_branch(&scribe, &dev.tl.id, lsn[3], &dev.tl.base_digest);
    lsn_t own = write_page(&dev.tl.id, 50);
    deep = branch("deep", "dev", "");
    cr_assert_eq(drop_branch("main"), 0, "%s", co_sentence());
    cr_assert_eq(drop_branch("dev"), 0, "%s", co_sentence());
    expect_branches("deep");
    cr_assert_eq(open_branch("main", &out), CO_ERR_NOT_FOUND);
    cr_assert(strstr(co_sentence(), "it has deep"), "%s", co_sentence());
    cr_assert_eq(name_call(FRAME_CREATE, "shop", &out), CO_ERR_NOT_FOUND, "no second 'shop'");
    cr_assert_eq(get_pages(&tl.id, lsn[1], 0, 0, 1, 1, NULL, &r), CO_ERR_DROPPED);
    reply_free(&r);
    cr_assert_eq(seen(&deep.tl.id, own), 50);
    cr_assert_eq(seen(&deep.tl.id, lsn[2]), 2);
    stop_daemon(SIGKILL);
    start_daemon();
    cr_assert_eq(seen(&deep.tl.id, own), 50);
    cr_assert_eq(seen(&deep.tl.id, lsn[2]), 2);
    stop_daemon(SIGKILL);
    port = free_port();
    daemon_pid = spawn("second", port, true);
    reach(&client, port);
    cr_assert_eq(open_branch("deep", &out), 0, "%s", co_sentence());
    cr_assert_eq(seen(&deep.tl.id, own), 50, "everything comes from the safekeepers");
    cr_assert_eq(seen(&deep.tl.id, lsn[1]), 1);
    expect_branches("deep");
    cr_assert_eq(drop_branch("deep"), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "only branch"), "%s", co_sentence());
    branch("main", "deep", "");
    expect_branches("deep,main");
    cr_assert_eq(drop("shop"), 0, "%s", co_sentence());
    cr_assert_eq(name_call(FRAME_OPEN, "shop", &out), CO_ERR_NOT_FOUND);
    struct ps_meta held;
    for (uint32_t i = 0; i < 3; i++)
        if (fake_holds_id(&fake, i, &tl.id, &held))
            cr_assert_eq(held.state, PS_DROPPED, "the hidden ones go with it");
}

Test(branch, what_was_hidden_goes_with_its_last_descendant)
{
    /* Its pages are deleted, and the safekeepers have a tombstone. */
    lsn_t lsn[2];
    uint64_t us[2];
    struct ps_meta tl = shop(1, lsn, us), held;
    struct made dev = branch("dev", NULL, "");
    struct made other = branch("other", NULL, "lsn:0");
    cr_assert_eq(other.lsn, 0);
    cr_assert_eq(drop_branch("main"), 0);
    cr_assert(fake_holds_id(&fake, 0, &tl.id, &held) && held.state == PS_SEALED && held.hidden);
    cr_assert_eq(drop_branch("dev"), 0);
    cr_assert(fake_holds_id(&fake, 0, &tl.id, &held));
    cr_assert_eq(held.state, PS_SEALED, "other grew from it too");
    (void)dev;
    branch("root", "other", "");
    cr_assert_eq(drop_branch("other"), 0);
    expect_branches("root");
}

Test(branch, rename_protect_and_what_they_refuse)
{
    /* A protected branch is neither dropped nor restored, nor is its database. */
    lsn_t lsn[3];
    uint64_t us[3];
    struct made out;
    struct ps_meta meta;
    shop(2, lsn, us);
    branch("dev", NULL, "");
    cr_assert_eq(change("dev", "main", -1, 0, false), CO_ERR_EXISTS);
    cr_assert_eq(change("dev", "te st", -1, 0, false), CO_ERR_NAME);
    cr_assert_eq(change("dev", NULL, -1, 0, false), CO_ERR_INVAL, "nothing is asked for");
    cr_assert_eq(change("dev", "test", 1, 0, false), 0, "%s", co_sentence());
    expect_branches("main,test");
    cr_assert_eq(open_branch("test", &meta), 0);
    cr_assert(meta.is_protected);
    cr_assert_eq(drop_branch("test"), CO_ERR_READONLY);
    cr_assert(strstr(co_sentence(), "protect --off shop/test"), "%s", co_sentence());
    cr_assert_eq(try_restore("test", NULL, "lsn:0", NULL, NULL, &out), CO_ERR_READONLY);
    cr_assert_eq(drop("shop"), CO_ERR_READONLY);
    stop_daemon(SIGKILL);
    start_daemon();
    cr_assert_eq(drop_branch("test"), CO_ERR_READONLY, "survives a restart");
    cr_assert_eq(change("test", NULL, 0, 0, false), 0, "%s", co_sentence());
    cr_assert_eq(drop_branch("test"), 0);
    cr_assert_eq(drop_branch("test"), CO_ERR_NOT_FOUND);
    expect_branches("main");
}

Test(branch, an_expired_branch_is_dropped_unless_it_is_protected)
{
    /* The wall clock decides. */
    lsn_t lsn[2];
    uint64_t us[2];
    shop(1, lsn, us);
    branch("short", NULL, "");
    branch("kept", NULL, "");
    cr_assert_eq(change("short", NULL, -1, co_wall_us() - 1, false), CO_ERR_INVAL);
    cr_assert_eq(change("short", NULL, -1, co_wall_us() + 300000, false), 0, "%s", co_sentence());
    cr_assert_eq(change("kept", NULL, 1, co_wall_us() + 300000, false), 0, "%s", co_sentence());
    char text[500];
    for (int i = 0; i < 1000 * (int)slower() && strcmp(branches(text), "kept,main") != 0; i++)
        usleep(10000);
    expect_branches("kept,main");
}

/* -- Restore ----------------------------------------------------------------------------------- */

Test(branch, a_restore_makes_a_moment_the_head_and_keeps_what_was)
{
    /* The old timeline is sealed under the kept name; the undo is a restore to its head. */
    lsn_t lsn[6];
    uint64_t us[6];
    char when[40];
    struct ps_meta old = shop(5, lsn, us), now, kept, held;
    struct made r, undo;
    struct co_id id = ps_id(0x55);
    snprintf(when, sizeof when, "lsn:%llx", (unsigned long long)lsn[2]);
    cr_assert_eq(try_restore("main", NULL, when, NULL, &id, &r), 0, "%s", co_sentence());
    cr_assert(strncmp(r.kept_as, "main-before-20", 14) == 0 && strlen(r.kept_as) == 28, "%s",
              r.kept_as);
    cr_assert(r.lsn == lsn[2] && co_id_eq(&r.tl.id, &id));
    cr_assert_eq(open_branch("main", &now), 0);
    cr_assert(co_id_eq(&now.id, &id));
    cr_assert_eq(open_branch(r.kept_as, &kept), 0);
    cr_assert(co_id_eq(&kept.id, &old.id) && kept.state == PS_SEALED);
    uint32_t sealed = 0;
    for (uint32_t i = 0; i < 3; i++)
        sealed += fake_holds_id(&fake, i, &old.id, &held) && held.state == PS_SEALED;
    cr_assert_geq(sealed, 2, "a majority refuses its writers");
    cr_assert_eq(seen(&now.id, lsn[2]), 2);
    cr_assert_eq(seen(&old.id, lsn[5]), 5, "open handles go on reading");
    cr_assert_eq(at("main", "").lsn, lsn[2]);
    cr_assert_eq(at(r.kept_as, "").lsn, lsn[5]);
    struct made again;
    cr_assert_eq(try_restore("main", NULL, when, NULL, &id, &again), 0, "asked again: made once");
    cr_assert_str_eq(again.kept_as, r.kept_as);
    cr_assert_eq(try_restore(r.kept_as, NULL, when, NULL, NULL, &again), CO_ERR_READONLY);
    cr_assert_eq(try_restore("main", r.kept_as, "", "redo", NULL, &undo), 0, "%s", co_sentence());
    cr_assert_str_eq(undo.kept_as, "redo");
    cr_assert_eq(at("main", "").lsn, lsn[5]);
    cr_assert_eq(seen(&undo.tl.id, lsn[5]), 5);
    char list[200];
    snprintf(list, sizeof list, "(%s),(redo),main", r.kept_as);
    expect_branches(list);
    cr_assert_eq(drop_branch("redo"), 0, "%s", co_sentence());
    cr_assert_eq(drop_branch(r.kept_as), 0, "%s", co_sentence());
    cr_assert_eq(seen(&undo.tl.id, lsn[5]), 5, "main grew from what was dropped");
}

Test(branch, a_restore_says_what_it_cannot_do)
{
    /* Each with a sentence; nothing has changed then. */
    lsn_t lsn[4];
    uint64_t us[4];
    struct made r;
    shop(3, lsn, us);
    branch("dev", NULL, "");
    cr_assert_eq(try_restore("main", NULL, "", NULL, NULL, &r), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "its own present"), "%s", co_sentence());
    cr_assert_eq(try_restore("main", NULL, "lsn:0", "dev", NULL, &r), CO_ERR_EXISTS);
    cr_assert_eq(try_restore("main", NULL, "lsn:0", "a b", NULL, &r), CO_ERR_NAME);
    cr_assert_eq(try_restore("main", "none", "", NULL, NULL, &r), CO_ERR_NOT_FOUND);
    cr_assert_eq(try_restore("none", NULL, "lsn:0", NULL, NULL, &r), CO_ERR_NOT_FOUND);
    cr_assert_eq(try_restore("main", NULL, "tomorrow", NULL, NULL, &r), CO_ERR_INVAL);
    expect_branches("dev,main");
    cr_assert_eq(at("main", "").lsn, lsn[3]);
}

Test(branch, a_restore_that_a_crash_cut_off_is_driven_to_its_end)
{
    /* The intent is on a majority, nothing else has happened yet. */
    lsn_t lsn[4];
    uint64_t us[4];
    struct ps_meta old = shop(3, lsn, us), now;
    struct moment m = at("main", "");
    struct made probe = branch("probe", NULL, "");
    stop_daemon(SIGKILL);
    struct ps_meta intent = probe.tl;
    intent.id = ps_id(0x61), intent.replaces = old.id;
    intent.state = PS_CREATING, intent.version = 1;
    snprintf(intent.branch, sizeof intent.branch, "main");
    snprintf(intent.keep_as, sizeof intent.keep_as, "was");
    fake_put(&fake, 0, &intent);
    fake_put(&fake, 1, &intent);
    start_daemon();
    char text[500];
    for (int i = 0; i < 1000 * (int)slower() && strcmp(branches(text), "(was),main,probe") != 0;
         i++)
        usleep(5000);
    expect_branches("(was),main,probe");
    cr_assert_eq(open_branch("main", &now), 0);
    cr_assert(co_id_eq(&now.id, &intent.id));
    cr_assert_eq(at("main", "").lsn, m.lsn);
    cr_assert_eq(at("was", "").lsn, lsn[3]);
}

Test(branch, an_empty_pageserver_comes_back_with_all_branches)
{
    /* Everything durable is with the safekeepers; ancestors are fetched before their branches. */
    lsn_t lsn[31];
    uint64_t us[31];
    char when[40];
    struct made r, dev;
    shop(30, lsn, us);
    dev = branch("dev", NULL, "");
    ps_scribe_branch(&scribe, &dev.tl.id, lsn[30], &dev.tl.base_digest);
    ps_scribe_config(&scribe, &records);
    write_page(&dev.tl.id, 40);
    /* A delta against a page that only the ancestor has. */
    scribe.versions[1] = lsn[30];
    co_put64(ps_scribe_page(&scribe, 1) + 64, 30);
    scribe.versions[1] = scribe.lsn;
    co_put64(ps_scribe_page(&scribe, 1) + 64, 40);
    pgno_t p[] = {1};
    ps_scribe_txn(&scribe, &records, p, 1, FILL_TEXT, 98);
    fake_append(&fake, &dev.tl.id, &records);
    records.len = 0;
    lsn_t own = scribe.lsn;
    snprintf(when, sizeof when, "lsn:%llx", (unsigned long long)lsn[7]);
    cr_assert_eq(try_restore("main", NULL, when, "was", NULL, &r), 0, "%s", co_sentence());
    stop_daemon(SIGKILL);
    port = free_port();
    daemon_pid = spawn("second", port, true);
    reach(&client, port);
    cr_assert_eq(at("main", "").lsn, lsn[7]);
    cr_assert_eq(at("was", "").lsn, lsn[30]);
    cr_assert_eq(at("dev", "").lsn, own);
    cr_assert_eq(seen(&dev.tl.id, own), 99);
    cr_assert_eq(seen(&dev.tl.id, lsn[12]), 12);
    cr_assert_eq(seen(&r.tl.id, lsn[7]), 7);
    expect_branches("(was),dev,main");
}

/* -- Log and pins ------------------------------------------------------------------------------ */

static uint32_t log_page(const char *name, lsn_t before, uint32_t limit, lsn_t *lsns, bool *more)
{
    Corallite__Log m = CORALLITE__LOG__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.branch = TEXT(name);
    m.has_before_lsn = before != 0;
    m.before_lsn = before;
    m.has_limit = 1;
    m.limit = limit;
    cr_assert_eq(call(FRAME_LOG, &m.base, &r), 0, "%s", co_sentence());
    Corallite__Logged *l = message_of(&corallite__logged__descriptor, &r);
    uint32_t n = (uint32_t)l->n_commits;
    cr_assert_leq(n, limit);
    for (uint32_t i = 0; i < n; i++) {
        lsns[i] = l->commits[i]->lsn;
        cr_assert_eq(l->commits[i]->pages_changed, 1);
    }
    *more = l->more;
    protobuf_c_message_free_unpacked(&l->base, NULL);
    reply_free(&r);
    return n;
}

Test(branch, a_log_of_10000_commits_is_told_page_by_page_across_a_branch_point)
{
    /* Newest first, none twice, none left out; a page costs the same wherever it lies. */
    static lsn_t lsn[10001], got[10001];
    struct ps_meta m = create("shop");
    pgno_t p[] = {1};
    begin_log(&m, 512);
    for (uint32_t i = 1; i <= 9000; i++) {
        ps_scribe_txn(&scribe, &records, p, 1, FILL_TEXT, i);
        lsn[i] = scribe.lsn;
    }
    fake_append(&fake, &m.id, &records);
    records.len = 0;
    struct made dev = branch("dev", NULL, "");
    cr_assert_eq(dev.lsn, lsn[9000]);
    write_page(&m.id, 5); /* of main: not in dev's log */
    ps_scribe_branch(&scribe, &dev.tl.id, dev.lsn, &dev.tl.base_digest);
    for (uint32_t i = 9001; i <= 10000; i++) {
        ps_scribe_images(&scribe, &records, p, 1);
        lsn[i] = scribe.lsn;
    }
    fake_append(&fake, &dev.tl.id, &records);
    records.len = 0;
    uint32_t n = 0;
    bool more = true;
    uint64_t worst = 0;
    for (lsn_t before = 0; more; before = got[n - 1]) {
        uint64_t begin = co_now_us();
        n += log_page("dev", before, 700, got + n, &more);
        if (before && co_now_us() - begin > worst)
            worst = co_now_us() - begin;
    }
    cr_assert_eq(n, 10000);
    for (uint32_t i = 0; i < n; i++)
        cr_assert_eq(got[i], lsn[10000 - i], "commit %u", i);
    fprintf(stderr, "a page of 700 of 10,000 commits: at most %llu us\n",
            (unsigned long long)worst);
    cr_assert_lt(worst, 1000000 * slower());
    Corallite__Log bad = CORALLITE__LOG__INIT;
    struct reply r;
    bad.database = TEXT("shop");
    bad.has_limit = 1;
    bad.limit = 1001;
    cr_assert_eq(call(FRAME_LOG, &bad.base, &r), CO_ERR_INVAL);
    reply_free(&r);
}

static int pin(const char *branch_name, const char *name, const char *when, bool drop_it,
               lsn_t *lsn)
{
    Corallite__Pin m = CORALLITE__PIN__INIT;
    struct reply r;
    m.database = TEXT("shop");
    m.branch = TEXT(branch_name);
    m.name = TEXT(name);
    m.at = TEXT(when);
    m.has_drop = m.drop = drop_it;
    int rc = call(FRAME_PIN, &m.base, &r);
    if (!rc) {
        Corallite__Pins *l = message_of(&corallite__pins__descriptor, &r);
        cr_assert_eq(l->n_pins, drop_it ? 0 : 1);
        if (lsn)
            *lsn = l->pins[0]->lsn;
        protobuf_c_message_free_unpacked(&l->base, NULL);
    }
    reply_free(&r);
    return rc;
}

static size_t count_pins(void)
{
    Corallite__PinList m = CORALLITE__PIN_LIST__INIT;
    struct reply r;
    m.database = TEXT("shop");
    cr_assert_eq(call(FRAME_PIN_LIST, &m.base, &r), 0, "%s", co_sentence());
    Corallite__Pins *l = message_of(&corallite__pins__descriptor, &r);
    size_t n = l->n_pins;
    protobuf_c_message_free_unpacked(&l->base, NULL);
    reply_free(&r);
    return n;
}

Test(branch, a_pin_names_a_moment_survives_a_restart_and_protects_its_branch)
{
    /* Dropped with the database, or by hand. */
    lsn_t lsn[6], got;
    uint64_t us[6];
    char when[40];
    struct moment m;
    shop(5, lsn, us);
    branch("dev", NULL, "");
    branch("old", NULL, "lsn:0");
    snprintf(when, sizeof when, "lsn:%llx", (unsigned long long)lsn[2]);
    cr_assert_eq(pin("main", "v2", when, false, &got), 0, "%s", co_sentence());
    cr_assert_eq(got, lsn[2]);
    cr_assert_eq(pin("main", "v2", when, false, &got), 0, "the same again changes nothing");
    cr_assert_eq(pin("main", "v2", "", false, NULL), CO_ERR_EXISTS);
    cr_assert_eq(pin("dev", "head", "", false, NULL), 0, "%s", co_sentence());
    cr_assert_eq(pin("main", "bad name", "", false, NULL), CO_ERR_NAME);
    stop_daemon(SIGKILL);
    start_daemon();
    cr_assert_eq(count_pins(), 2);
    cr_assert_eq(at("main", "pin:v2").lsn, lsn[2]);
    cr_assert_eq(at("dev", "pin:v2").lsn, lsn[2], "dev sees it");
    cr_assert_eq(at("main", "pin:head").lsn, lsn[5]);
    cr_assert_eq(resolve_in("old", "pin:v2", 5000, &m), CO_ERR_INVAL, "old does not");
    cr_assert_eq(drop_branch("dev"), CO_ERR_BUSY);
    cr_assert(strstr(co_sentence(), "'head'"), "%s", co_sentence());
    struct made b = branch("from-pin", NULL, "pin:v2");
    cr_assert_eq(b.lsn, lsn[2]);
    cr_assert_eq(pin("main", "head", NULL, true, NULL), 0, "%s", co_sentence());
    cr_assert_eq(pin("main", "head", NULL, true, NULL), CO_ERR_NOT_FOUND);
    cr_assert_eq(drop_branch("dev"), 0, "%s", co_sentence());
    cr_assert_eq(drop("shop"), 0, "%s", co_sentence());
    create("shop");
    cr_assert_eq(count_pins(), 0);
}

struct question {
    enum frame_type type;
    const ProtobufCMessage *message;
};

/* Two requests that arrive together: the second is read while the first is on its way to the disk.
 */
static void ask_both(const struct question q[2], int rc[2])
{
    struct co_buf both = {0};
    uint64_t first = client.next_request, until = co_now_us() + 20000000ull * slower();
    rc[0] = rc[1] = CO_ERR_TIMEOUT;
    for (int i = 0; i < 2; i++) {
        uint8_t packed[500];
        cr_assert_lt(protobuf_c_message_get_packed_size(q[i].message), sizeof packed);
        struct co_span message = co_span_of(packed, protobuf_c_message_pack(q[i].message, packed));
        cr_assert_eq(frame_append(&both, q[i].type, client.next_request++, message, NOTHING), 0);
    }
    cr_assert_eq(psock_queue(&client, co_buf_span(&both)), 0);
    co_buf_free(&both);
    for (int n = 0; n < 2 && co_now_us() < until; usleep(1000)) {
        struct frame_header frame;
        struct co_span body;
        cr_assert_eq(psock_pump_in(&client), 0);
        while (psock_next(&client, &frame, &body) == 0) {
            if (frame.request_id < first || frame.request_id > first + 1)
                continue;
            Corallite__Error *error = frame.type == FRAME_ERROR
                                          ? message_unpack(&corallite__error__descriptor, body)
                                          : NULL;
            rc[frame.request_id - first] = error ? error->code : 0;
            if (error)
                corallite__error__free_unpacked(error, NULL);
            n++;
        }
    }
}

Test(branch, a_pin_on_its_way_to_the_disk_counts)
{
    /* Who was told of a pin can go to it. */
    lsn_t lsn[6];
    uint64_t us[6], looked_at;
    char second[40], fifth[40];
    int rc[2];
    shop(5, lsn, us);
    branch("dev", NULL, "");
    snprintf(second, sizeof second, "lsn:%llx", (unsigned long long)lsn[2]);
    snprintf(fifth, sizeof fifth, "lsn:%llx", (unsigned long long)lsn[5]);
    Corallite__Pin here = CORALLITE__PIN__INIT, there = CORALLITE__PIN__INIT;
    here.database = there.database = TEXT("shop");
    here.branch = there.branch = TEXT("dev");
    here.name = there.name = TEXT("v2");
    here.at = second;
    there.at = fifth;
    ask_both((struct question[]){{FRAME_PIN, &here.base}, {FRAME_PIN, &there.base}}, rc);
    cr_assert_eq(rc[0], 0);
    cr_assert_eq(rc[1], CO_ERR_EXISTS, "the name is given: %d", rc[1]);
    cr_assert_eq(at("dev", "pin:v2").lsn, lsn[2]);

    branch("gone", NULL, "");
    Corallite__BranchChange change_it = CORALLITE__BRANCH_CHANGE__INIT;
    change_it.database = TEXT("shop");
    change_it.branch = here.branch = TEXT("gone");
    here.name = TEXT("kept");
    change_it.has_drop = change_it.drop = 1;
    ask_both((struct question[]){{FRAME_PIN, &here.base}, {FRAME_BRANCH_CHANGE, &change_it.base}},
             rc);
    cr_assert_eq(rc[0], 0);
    cr_assert_eq(rc[1], CO_ERR_BUSY, "the branch has a pin: %d", rc[1]);
    cr_assert_eq(at("gone", "pin:kept").lsn, lsn[2]);

    Corallite__Drop all = CORALLITE__DROP__INIT;
    all.database = TEXT("shop");
    here.name = TEXT("last");
    ask_both((struct question[]){{FRAME_PIN, &here.base}, {FRAME_DROP, &all.base}}, rc);
    cr_assert_eq(rc[0], 0);
    cr_assert_eq(rc[1], 0);
    cr_assert_eq(verify(&looked_at), 0, "nothing is left of the pins");
}
