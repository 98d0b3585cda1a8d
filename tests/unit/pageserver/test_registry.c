#include "tests/unit/pageserver/registry_rig.h"

static void setup(void)
{
    registry_begin(ps_id(2));
}
TestSuite(registry, .init = setup, .fini = teardown, .timeout = 20);

/* What the safekeepers and the store do, until nothing is left to be done. */
static void settle(void)
{
    for (bool busy = true; busy;) {
        busy = false;
        for (struct ps_timeline *tl = reg.all; tl; tl = tl->next) {
            for (uint32_t i = 0; i < 3; i++)
                if (ps_reg_lacks(&reg, tl, i))
                    heard(i, tl->meta), busy = true;
            enum ps_next next = ps_reg_next(&reg, tl);
            busy |= next != PS_NEXT_NOTHING;
            if (next == PS_NEXT_STORE)
                tl->stored = tl->meta.version, tl->stored_state = tl->meta.state;
        }
        busy |= ps_reg_sweep(&reg) != NULL;
    }
}

Test(registry, a_creation_is_active_only_on_a_majority_and_counts_only_when_stored)
{
    /* M18: CREATING on a majority, then ACTIVE on a majority, then the row here. */
    struct ps_timeline *tl;
    all_listed();
    struct ps_meta m = meta(9, "shop", PS_CREATING, 1);
    cr_assert_eq(ps_reg_create(&reg, &m, &tl), 0);
    cr_assert(ps_reg_lacks(&reg, tl, 0) && ps_reg_lacks(&reg, tl, 2));
    heard(0, m);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING, "one of three is no majority");
    heard(1, m);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_CHANGED);
    cr_assert(tl->meta.state == PS_ACTIVE && tl->meta.version == 2);
    cr_assert(ps_reg_lacks(&reg, tl, 0), "the new version is sent to all");
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    heard(2, tl->meta);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    heard(1, tl->meta);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_STORE);
    cr_assert_not(ps_timeline_open(tl));
    tl->stored = 2, tl->stored_state = PS_ACTIVE;
    cr_assert(ps_timeline_open(tl));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    cr_assert(ps_reg_lacks(&reg, tl, 0), "the member that was away is repaired");
}

Test(registry, nothing_is_decided_before_a_majority_was_heard)
{
    /* R1: a minority may not know of a tombstone. */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_CREATING, 1));
    heard(1, meta(9, "shop", PS_CREATING, 1));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    cr_assert_not(ps_reg_list_done(&reg, 0));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING);
    cr_assert_not(ps_reg_lacks(&reg, tl, 0));
    cr_assert(ps_reg_list_done(&reg, 1));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_CHANGED, "what a crash left is driven on");
    cr_assert_not(ps_reg_lacks(&reg, tl, 2), "nobody is sent anything before it listed");
}

Test(registry, the_higher_version_wins_and_the_others_are_repaired)
{
    /* M18: a dropped name is not resurrected by a member that was away. */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    heard(1, meta(9, "shop", PS_DROPPED, 3));
    heard(2, meta(9, "shop", PS_ACTIVE, 2));
    all_listed();
    cr_assert_eq(tl->meta.state, PS_DROPPED);
    cr_assert_null(ps_reg_find_name(&reg, "shop", "main"));
    cr_assert(ps_reg_lacks(&reg, tl, 0) && ps_reg_lacks(&reg, tl, 2));
    cr_assert_not(ps_reg_lacks(&reg, tl, 1));
    heard(2, meta(9, "shop", PS_DROPPED, 3));
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_STORE);
}

Test(registry, of_two_creations_of_one_name_the_older_stays)
{
    /* R2: one was cut off by a crash, the other came after it. */
    struct ps_timeline *young = heard(0, meta(20, "shop", PS_CREATING, 1));
    struct ps_timeline *old = heard(1, meta(10, "shop", PS_CREATING, 1));
    all_listed();
    cr_assert(old->meta.state == PS_CREATING && !old->meta.dropping);
    cr_assert(young->meta.dropping && young->meta.version == 2);
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), old);
    settle();
    cr_assert(old->meta.state == PS_ACTIVE && young->meta.state == PS_DROPPED);
}

Test(registry, an_active_timeline_is_never_dropped_by_a_creation)
{
    /* R3 */
    struct ps_timeline *active = heard(0, meta(20, "shop", PS_ACTIVE, 2));
    all_listed();
    struct ps_timeline *older = heard(1, meta(10, "shop", PS_CREATING, 1));
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), active);
    settle();
    cr_assert_eq(active->meta.state, PS_ACTIVE);
    cr_assert_eq(older->meta.state, PS_DROPPED);
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), active);
}

Test(registry, a_safekeeper_that_lists_again_is_believed_anew)
{
    /* It may have come back with an empty disk: what it lacks is put there again. */
    struct ps_timeline *tl = heard(0, meta(9, "shop", PS_ACTIVE, 2));
    heard(1, meta(9, "shop", PS_ACTIVE, 2));
    all_listed();
    cr_assert_not(ps_reg_lacks(&reg, tl, 0));
    ps_reg_list_begins(&reg, 0);
    cr_assert_not(ps_reg_lacks(&reg, tl, 0), "not while it is telling");
    ps_reg_list_done(&reg, 0);
    cr_assert(ps_reg_lacks(&reg, tl, 0));
}

Test(registry, another_pageservers_timeline_is_seen)
{
    /* S13 */
    struct ps_meta m = meta(9, "shop", PS_ACTIVE, 2);
    heard(0, m);
    all_listed();
    cr_assert_null(ps_reg_foreign(&reg));
    m.pageserver = ps_id(66), m.version = 3;
    struct ps_timeline *tl = heard(1, m);
    cr_assert_eq(ps_reg_foreign(&reg), tl);
    ps_reg_change(&reg, tl, PS_ACTIVE); /* a take-over */
    cr_assert_null(ps_reg_foreign(&reg));
    cr_assert_eq(tl->meta.version, 4);
}

Test(registry, what_a_lost_pageserver_left_at_a_minority_is_taken_over_later)
{
    /* S13: its creation reached one safekeeper, which was away when its place was taken. */
    struct ps_meta m = meta(9, "shop", PS_ACTIVE, 2), left = meta(10, "late", PS_CREATING, 1);
    m.pageserver = left.pageserver = ps_id(66);
    struct ps_timeline *tl = heard(0, m), *late;
    cr_assert_not(ps_reg_list_done(&reg, 0));
    cr_assert(ps_reg_list_done(&reg, 1));
    cr_assert_not(ps_reg_left_behind(&reg, tl), "nobody has said so");
    reg.taken_us = 1000;
    cr_assert(ps_reg_left_behind(&reg, tl));
    ps_reg_take_over(&reg, tl);
    cr_assert_eq(tl->meta.version, 3);
    cr_assert_eq(tl->meta.taken_us, 1000);
    cr_assert_null(ps_reg_foreign(&reg));
    late = heard(2, left);
    cr_assert_eq(ps_reg_foreign(&reg), late);
    cr_assert(ps_reg_left_behind(&reg, late));
    ps_reg_take_over(&reg, late);
    cr_assert_null(ps_reg_foreign(&reg));
    cr_assert_eq(late->meta.state, PS_CREATING, "it is driven on");
    m.pageserver = ps_id(67), m.version = 4, m.taken_us = 1001;
    cr_assert_not(ps_reg_left_behind(&reg, heard(2, m)), "another one has taken over from us");
    cr_assert_eq(ps_reg_foreign(&reg), tl);
}

Test(registry, who_took_over_last_is_the_owner_whatever_was_before)
{
    /* S13: from 66 to us, back to 66, and to us again: a disk that was left behind once is not so
     * for ever. */
    struct ps_meta m = meta(9, "shop", PS_ACTIVE, 2);
    m.pageserver = ps_id(66);
    struct ps_timeline *tl = heard(0, m);
    all_listed();
    reg.taken_us = 1000;
    ps_reg_take_over(&reg, tl);
    m.version = 4, m.taken_us = 2000;
    cr_assert_not(ps_reg_outdone(&reg));
    cr_assert_not(ps_reg_left_behind(&reg, heard(1, m)), "it has taken over from us");
    cr_assert(ps_reg_outdone(&reg));
    reg.taken_us = 3000; /* we are told to */
    cr_assert(ps_reg_left_behind(&reg, tl));
    ps_reg_take_over(&reg, tl);
    m.version = 7, m.taken_us = 2000;
    cr_assert(ps_reg_left_behind(&reg, heard(2, m)), "what it left at one safekeeper");
    m.version = 8, m.taken_us = 3000;
    cr_assert_not(ps_reg_left_behind(&reg, heard(2, m)), "of the same moment: not ours to take");
}

Test(registry, a_take_over_is_later_than_all_that_are_known_whatever_the_clock_says)
{
    struct ps_meta m = meta(9, "shop", PS_ACTIVE, 2), n = meta(10, "other", PS_ACTIVE, 2);
    m.pageserver = n.pageserver = ps_id(66);
    m.taken_us = 5000;
    struct ps_timeline *shop = heard(0, m), *other = heard(0, n);
    all_listed();
    reg.taken_us = 4000; /* our clock is behind */
    ps_reg_outdo(&reg);
    cr_assert_eq(reg.taken_us, 5001);
    cr_assert(ps_reg_left_behind(&reg, shop) && ps_reg_left_behind(&reg, other));
    ps_reg_take_over(&reg, shop);
    ps_reg_take_over(&reg, other);
    cr_assert_eq(other->meta.taken_us, 5001);
    ps_reg_outdo(&reg);
    cr_assert_eq(reg.taken_us, 5001, "nothing is foreign");
}

Test(registry, when_it_took_over_is_known_from_its_own_timelines)
{
    /* A clock that was behind is made good for by the registries, after a restart too. */
    struct ps_timeline *tl;
    struct ps_meta m = meta(9, "shop", PS_ACTIVE, 2), n = meta(10, "other", PS_ACTIVE, 2);
    m.taken_us = 700;
    cr_assert_eq(ps_reg_load(&reg, 1, false, &m, &tl), 0);
    cr_assert_eq(reg.taken_us, 700);
    n.taken_us = 900;
    heard(0, n);
    cr_assert_eq(reg.taken_us, 900);
    n.version = 3, n.taken_us = 950, n.pageserver = ps_id(66);
    heard(0, n);
    cr_assert_eq(reg.taken_us, 900, "that is another's");
}

static struct wal_config members(uint32_t version, uint32_t a, uint32_t b, uint32_t c)
{
    return (struct wal_config){
        .version = version, .n = 3, .members = {{.node_id = a}, {.node_id = b}, {.node_id = c}}};
}

static struct wal_config joint(uint32_t version, uint32_t a, uint32_t b, uint32_t c)
{
    struct wal_config to = members(version, a, b, c), from = members(version, 1, 2, 3);
    from.n_new = to.n;
    memcpy(from.new_members, to.members, sizeof from.new_members);
    return from;
}

Test(registry, what_is_made_has_the_members_that_the_list_ends_with)
{
    /* R7 */
    struct wal_config born;
    reg.config = members(1, 1, 2, 3);
    ps_reg_birth_config(&reg, &born);
    cr_assert(born.version == 1 && born.n == 3 && born.members[1].node_id == 2);
    reg.config = joint(2, 1, 3, 4);
    reg.config.new_members[2].disk_uuid = ps_id(44);
    ps_reg_birth_config(&reg, &born);
    cr_assert(born.version == 2 && born.n == 3 && born.n_new == 0);
    cr_assert(born.members[0].node_id == 1 && born.members[1].node_id == 3);
    cr_assert(born.members[2].node_id == 4);
    struct co_id disk = ps_id(44);
    cr_assert(co_id_eq(&born.members[2].disk_uuid, &disk));
}

Test(registry, a_list_waits_while_one_is_made_that_has_other_members)
{
    /* R7: until it is ACTIVE, and so was on a majority for whoever looks; not for one that has the
     * members already, and not before anything is decided here. */
    struct wal_config next = joint(2, 1, 3, 4), last = members(3, 1, 3, 4);
    struct ps_meta m = meta(9, "shop", PS_CREATING, 1), n = meta(10, "new", PS_CREATING, 1);
    m.config = members(1, 1, 2, 3);
    n.config = members(2, 1, 3, 4);
    struct ps_timeline *tl = heard(0, m);
    cr_assert_not(ps_reg_holds_up(&reg, &next), "a majority may be had by the new list only");
    all_listed();
    cr_assert(ps_reg_holds_up(&reg, &next));
    heard(1, m);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_CHANGED);
    cr_assert_not(ps_reg_holds_up(&reg, &next));
    heard(0, n);
    cr_assert_not(ps_reg_holds_up(&reg, &next));
    cr_assert_not(ps_reg_holds_up(&reg, &last));
    reg.follows = true;
    m = meta(11, "late", PS_CREATING, 1);
    m.config = members(1, 1, 2, 3);
    heard(0, m);
    cr_assert_not(ps_reg_holds_up(&reg, &next), "R6: it decides nothing");
}

Test(registry, many_timelines_are_found_by_id_and_name)
{
    /* The indexes grow. */
    for (uint32_t i = 0; i < 5000; i++) {
        char name[32];
        struct ps_timeline *tl;
        snprintf(name, sizeof name, "db%u", i);
        struct ps_meta m = meta(1, name, PS_ACTIVE, 2);
        co_put32(m.id.b, i * 2654435761u);
        cr_assert_eq(ps_reg_load(&reg, i + 1, false, &m, &tl), 0);
    }
    for (uint32_t i = 0; i < 5000; i++) {
        char name[32];
        snprintf(name, sizeof name, "db%u", i);
        struct ps_timeline *tl = ps_reg_find_name(&reg, name, "main");
        cr_assert(tl && tl->line.no == i + 1);
        cr_assert_eq(ps_reg_find(&reg, &tl->meta.id), tl);
    }
    cr_assert_null(ps_reg_find_name(&reg, "db5000", "main"));
}

/* -- Branches and restores --------------------------------------------------------------------- */

static struct ps_meta branch_of(uint8_t id, uint8_t ancestor, const char *branch)
{
    struct ps_meta m = meta(id, "shop", PS_ACTIVE, 2);
    m.database = ps_id(200);
    m.ancestor = ancestor ? ps_id(ancestor) : (struct co_id){{0}};
    m.ancestor_lsn = m.start_lsn = ancestor ? 8192 : LSN_FIRST;
    snprintf(m.branch, sizeof m.branch, "%s", branch);
    return m;
}

/* Known, stored, and held by all. */
static struct ps_timeline *loaded(struct ps_meta m)
{
    struct ps_timeline *tl;
    cr_assert_eq(ps_reg_load(&reg, m.id.b[0], false, &m, &tl), 0);
    for (uint32_t i = 0; i < 3; i++)
        heard(i, m);
    return tl;
}

static struct ps_meta restore_of(uint8_t id, uint8_t replaces, const char *keep_as)
{
    struct ps_meta m = branch_of(id, replaces, "main");
    m.state = PS_CREATING, m.version = 1;
    m.replaces = ps_id(replaces);
    snprintf(m.keep_as, sizeof m.keep_as, "%s", keep_as);
    return m;
}

static void expect_restored(struct ps_timeline *old, struct ps_timeline *new)
{
    cr_assert_eq(new->meta.state, PS_ACTIVE);
    cr_assert_eq(old->meta.state, PS_SEALED);
    cr_assert_str_eq(old->meta.branch, "kept");
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), new);
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "kept"), old);
    cr_assert(ps_timeline_open(old) && ps_timeline_open(new));
}

static term_t born(uint8_t id, const char *branch, const char *db)
{
    struct ps_timeline *tl;
    struct ps_meta m = branch_of(id, 0, branch);
    m.state = PS_CREATING, m.version = 1;
    snprintf(m.database_name, sizeof m.database_name, "%s", db);
    cr_assert_eq(ps_reg_create(&reg, &m, &tl), 0);
    return tl->meta.born_term;
}

Test(registry, every_timeline_of_a_database_has_terms_of_its_own)
{
    /* R9: also behind a restore, a drop, a rename, and under the name of a dropped database. */
    struct ps_timeline *first = loaded(branch_of(1, 0, "main")), *second;
    all_listed();
    cr_assert_eq(first->meta.born_term, 0);
    struct ps_meta m = restore_of(2, 1, "kept");
    cr_assert_eq(ps_reg_create(&reg, &m, &second), 0);
    cr_assert_eq(second->meta.born_term, TERMS_A_TIMELINE);
    cr_assert_eq(born(3, "b", "shop"), 2 * TERMS_A_TIMELINE);
    cr_assert_eq(born(4, "main", "yard"), 0, "another database");
    ps_reg_change(&reg, second, PS_DROPPED);
    ps_reg_change(&reg, ps_reg_find_name(&reg, "shop", "b"), PS_DROPPED);
    ps_reg_rename(&reg, first, "old");
    cr_assert_eq(born(5, "b", "shop"), 3 * TERMS_A_TIMELINE);
    cr_assert_eq(born(6, "main", "shop"), 4 * TERMS_A_TIMELINE);
}

Test(registry, a_cluster_made_of_an_archive_gives_no_term_that_the_lost_one_gave)
{
    /* R9: the archive has no word of the databases that were dropped there. */
    struct ps_meta m = branch_of(1, 0, "main");
    m.born_term = 2 * TERMS_A_CLUSTER + 3 * TERMS_A_TIMELINE;
    loaded(m);
    all_listed();
    cr_assert_eq(born(2, "b", "shop"), m.born_term + TERMS_A_TIMELINE);
    cr_assert_eq(born(3, "main", "yard"), 2 * TERMS_A_CLUSTER);
    cr_assert_eq(born(4, "b", "yard"), 2 * TERMS_A_CLUSTER + TERMS_A_TIMELINE);
}

Test(registry, a_restore_seals_what_it_replaces_before_it_has_its_name)
{
    /* The intent on a majority, then the old one SEALED on a majority and stored, then ACTIVE. */
    struct ps_timeline *old = loaded(branch_of(1, 0, "main")), *new;
    all_listed();
    struct ps_meta m = restore_of(2, 1, "kept");
    cr_assert_eq(ps_reg_create(&reg, &m, &new), 0);
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), old, "until then the old one has it");
    cr_assert(ps_reg_name_taken(&reg, "shop", "kept"), "spoken for");
    heard(0, m);
    cr_assert_eq(ps_reg_next(&reg, new), PS_NEXT_NOTHING);
    cr_assert_eq(old->meta.state, PS_ACTIVE, "one of three is no majority");
    heard(1, m);
    cr_assert_eq(ps_reg_next(&reg, new), PS_NEXT_SEALED);
    cr_assert(old->meta.state == PS_SEALED && old->meta.version == 3);
    cr_assert_eq(ps_reg_next(&reg, new), PS_NEXT_NOTHING, "not before that is durable");
    heard(0, old->meta), heard(1, old->meta);
    cr_assert_eq(ps_reg_next(&reg, new), PS_NEXT_NOTHING, "and stored here");
    cr_assert_eq(ps_reg_next(&reg, old), PS_NEXT_STORE);
    old->stored = 3, old->stored_state = PS_SEALED;
    cr_assert_eq(ps_reg_next(&reg, new), PS_NEXT_CHANGED);
    settle();
    expect_restored(old, new);
}

Test(registry, a_crash_at_any_step_of_a_restore_ends_in_all_or_nothing)
{
    /* After step k the process dies; a new registry hears what each safekeeper holds, and the store
     * what it had. Either nobody was told of the restore and nothing happened, or it is whole. */
    for (int first = 0; first < 3; first++)
        for (int steps = 0; steps <= 20; steps++) {
            struct ps_meta held[3][2], row[2] = {branch_of(1, 0, "main"), {.version = 0}};
            memset(held, 0, sizeof held);
            for (int i = 0; i < 3; i++)
                held[i][0] = row[0];
            /* The run before the crash: one action a step, node `first` answering last. */
            struct ps_timeline *tl[2];
            tl[0] = loaded(row[0]);
            all_listed();
            struct ps_meta m = restore_of(2, 1, "kept");
            cr_assert_eq(ps_reg_create(&reg, &m, &tl[1]), 0);
            for (int done = 0, idle = 0; done < steps && !idle;) {
                idle = 1;
                for (int t = 1; t >= 0 && idle; t--) {
                    for (int k = 1; k <= 3 && idle; k++) {
                        uint32_t node = (uint32_t)((first + k) % 3);
                        if (!ps_reg_lacks(&reg, tl[t], node))
                            continue;
                        held[node][t] = tl[t]->meta;
                        heard(node, tl[t]->meta);
                        idle = 0;
                    }
                    enum ps_next next = ps_reg_next(&reg, tl[t]);
                    if (next == PS_NEXT_STORE && idle) {
                        row[t] = tl[t]->meta;
                        tl[t]->stored = row[t].version, tl[t]->stored_state = row[t].state;
                        idle = 0;
                    }
                    idle &= next == PS_NEXT_NOTHING || next == PS_NEXT_STORE;
                }
                done++;
            }
            cr_assert(steps < 20 || (row[0].state == PS_SEALED && row[1].state == PS_ACTIVE),
                      "so many steps are all there are");
            /* The run after it: two of three safekeepers are there. */
            for (int away = 0; away < 3; away++) {
                teardown();
                setup();
                struct ps_timeline *old, *new;
                for (int t = 0; t < 2; t++)
                    if (row[t].version)
                        cr_assert_eq(ps_reg_load(&reg, (tlno_t)t + 1, false, &row[t], &old), 0);
                bool known = false;
                for (int i = 0; i < 3; i++) {
                    if (i == away)
                        continue;
                    for (int t = 0; t < 2; t++)
                        if (held[i][t].version)
                            heard((uint32_t)i, held[i][t]);
                    known |= held[i][1].version != 0;
                    ps_reg_list_done(&reg, (uint32_t)i);
                }
                settle();
                struct co_id a = ps_id(1), b = ps_id(2);
                old = ps_reg_find(&reg, &a);
                new = ps_reg_find(&reg, &b);
                if (known) {
                    expect_restored(old, new);
                } else {
                    cr_assert(old->meta.state == PS_ACTIVE && !new);
                    cr_assert_str_eq(old->meta.branch, "main");
                }
                /* The third comes back, with what it holds: nothing is undone or done anew. */
                for (int t = 0; t < 2; t++)
                    if (held[away][t].version)
                        heard((uint32_t)away, held[away][t]);
                ps_reg_list_done(&reg, (uint32_t)away);
                settle();
                if (known)
                    expect_restored(old, ps_reg_find(&reg, &b));
                else
                    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), old, "R4");
            }
            teardown();
            setup();
        }
}

Test(registry, of_two_restores_of_one_branch_the_older_stays)
{
    /* R2, after a crash between them. */
    struct ps_timeline *old = loaded(branch_of(1, 0, "main"));
    struct ps_timeline *b = heard(0, restore_of(9, 1, "kept-b"));
    struct ps_timeline *a = heard(1, restore_of(8, 1, "kept"));
    all_listed();
    settle();
    cr_assert_eq(b->meta.state, PS_DROPPED);
    expect_restored(old, a);
}

Test(registry, a_restore_that_comes_too_late_gives_way)
{
    /* R4: another one was done meanwhile; what it would replace is not the head any more. */
    struct ps_timeline *old = loaded(branch_of(1, 0, "main")), *new;
    all_listed();
    struct ps_meta m = restore_of(2, 1, "kept");
    cr_assert_eq(ps_reg_create(&reg, &m, &new), 0);
    settle();
    struct ps_timeline *late = heard(2, restore_of(3, 1, "kept-2"));
    settle();
    cr_assert_eq(late->meta.state, PS_DROPPED);
    expect_restored(old, new);
}

Test(registry, a_renamed_branch_is_found_under_its_new_name_alone)
{
    /* The index of names follows, also when a safekeeper tells of it. */
    struct ps_timeline *tl = loaded(branch_of(1, 0, "main"));
    struct ps_timeline *dev = loaded(branch_of(2, 1, "dev"));
    all_listed();
    ps_reg_rename(&reg, dev, "test");
    ps_reg_change(&reg, dev, PS_ACTIVE);
    cr_assert_null(ps_reg_find_name(&reg, "shop", "dev"));
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "test"), dev);
    struct ps_meta m = dev->meta;
    m.version++;
    snprintf(m.branch, sizeof m.branch, "third");
    heard(1, m);
    cr_assert_null(ps_reg_find_name(&reg, "shop", "test"));
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "third"), dev);
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), tl);
    for (uint32_t i = 0; i < 2000; i++) { /* the indexes grow: nothing is lost or found twice */
        struct ps_timeline *other;
        struct ps_meta o = meta(3, "other", PS_ACTIVE, 2);
        co_put32(o.id.b, i * 2654435761u + 1);
        cr_assert_eq(ps_reg_load(&reg, i + 10, false, &o, &other), 0);
    }
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "third"), dev);
    cr_assert_null(ps_reg_find_name(&reg, "shop", "dev"));
}

Test(registry, a_drop_waits_for_a_majority_that_knows_of_it)
{
    /* R11: until then a pageserver that comes next may not know, and goes on with it. */
    struct ps_timeline *tl = loaded(branch_of(1, 0, "main"));
    all_listed();
    ps_reg_drop(&reg, tl);
    cr_assert(tl->meta.state == PS_ACTIVE && tl->meta.dropping && tl->meta.version == 3);
    cr_assert_not(ps_timeline_open(tl));
    cr_assert_eq(ps_reg_find_name(&reg, "shop", "main"), tl, "it has its name");
    cr_assert_eq(ps_reg_branches(&reg, &tl->meta.database), 0, "none that is to stay");
    heard(0, tl->meta);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_NOTHING, "one of three is no majority");
    heard(1, tl->meta);
    cr_assert_eq(ps_reg_next(&reg, tl), PS_NEXT_CHANGED);
    cr_assert(tl->meta.state == PS_DROPPED && !tl->meta.dropping);
    cr_assert_null(ps_reg_find_name(&reg, "shop", "main"));
}

Test(registry, a_drop_that_no_majority_knew_at_the_start_is_taken_back)
{
    /* R11: it was asked of an earlier life and never answered. */
    struct ps_timeline *tl = loaded(branch_of(1, 0, "main"));
    struct ps_meta late = tl->meta;
    late.version = 7, late.dropping = true;
    all_listed();
    heard(2, late);
    cr_assert(tl->meta.state == PS_ACTIVE && !tl->meta.dropping && tl->meta.version == 8);
    cr_assert(ps_timeline_open(tl) && ps_reg_lacks(&reg, tl, 2));
    settle();
    cr_assert_eq(tl->meta.state, PS_ACTIVE);
    late.version = 20, late.pageserver = ps_id(77), late.taken_us = 5;
    heard(2, late);
    cr_assert(tl->meta.dropping && ps_reg_outdone(&reg), "that of a later owner is its own affair");
}

Test(registry, a_creation_that_two_crashes_left_behind_is_made_when_it_is_asked_for_again)
{
    /* The first life told one safekeeper, the second meant to drop that there, the third knows of
     * neither and makes it with the two others (level B, seed 13657706). */
    struct ps_timeline *old = loaded(branch_of(1, 0, "main")), *new;
    struct ps_meta m = restore_of(2, 1, "kept"), left = m;
    reg.life_us = 3000;
    all_listed();
    cr_assert_eq(ps_reg_create(&reg, &m, &new), 0);
    left.version = 2000, left.dropping = true;
    heard(0, left);
    cr_assert(new->meta.state == PS_CREATING && !new->meta.dropping);
    cr_assert_geq(new->meta.version, 3000);
    cr_assert(ps_reg_lacks(&reg, new, 0));
    settle();
    expect_restored(old, new);
}

Test(registry, of_two_tries_with_one_id_the_later_one_says_where_it_begins)
{
    /* `--to -10m` of two lives are two moments; one safekeeper has the first one's. */
    struct ps_meta first = restore_of(2, 1, "kept"), second = first;
    second.start_lsn = second.ancestor_lsn = 16384;
    second.base_digest.b[3] = 7, second.born_term = 3 * TERMS_A_TIMELINE;
    second.state = PS_ACTIVE, second.version = 9;
    struct ps_timeline *tl = heard(0, first);
    cr_assert_eq(heard(1, second), tl);
    cr_assert(tl->meta.start_lsn == 16384 && tl->meta.ancestor_lsn == 16384);
    cr_assert(tl->chain.last_lsn == 16384 && tl->chain.digest.b[3] == 7 && tl->durable == 16384);
    cr_assert_eq(tl->meta.born_term, 3 * TERMS_A_TIMELINE);
    heard(2, first);
    cr_assert(tl->meta.start_lsn == 16384 && tl->meta.state == PS_ACTIVE);
}

Test(registry, versions_of_a_life_are_above_those_of_the_lives_before)
{
    /* R12: also those that only a safekeeper knows that is away. */
    struct ps_timeline *tl = loaded(branch_of(1, 0, "main")), *made;
    reg.life_us = 500;
    all_listed();
    ps_reg_change(&reg, tl, PS_ACTIVE);
    cr_assert_eq(tl->meta.version, 500);
    ps_reg_change(&reg, tl, PS_ACTIVE);
    cr_assert_eq(tl->meta.version, 501);
    struct ps_meta m = branch_of(2, 1, "dev");
    m.state = PS_CREATING;
    cr_assert_eq(ps_reg_create(&reg, &m, &made), 0);
    cr_assert_eq(made->meta.version, 500);
}

Test(registry, a_life_begins_above_all_that_is_heard)
{
    /* R12: the clock was ahead in the life before, or is another pageserver's. */
    struct ps_meta m = branch_of(1, 0, "main");
    m.version = 900;
    struct ps_timeline *tl = loaded(m);
    reg.life_us = 500;
    all_listed();
    cr_assert_eq(tl->meta.version, 900, "which a majority holds");
    ps_reg_change(&reg, tl, PS_ACTIVE);
    cr_assert_eq(tl->meta.version, 900 + PS_LIFE_VERSIONS);
}

Test(registry, a_dropped_parent_is_hidden_until_its_last_descendant_goes)
{
    /* Its children keep what they see: it must stay readable on the safekeepers. */
    struct ps_timeline *a = loaded(branch_of(1, 0, "main"));
    struct ps_timeline *b = loaded(branch_of(2, 1, "dev"));
    struct ps_timeline *c = loaded(branch_of(3, 2, "test"));
    all_listed();
    ps_reg_drop(&reg, a);
    ps_reg_drop(&reg, b);
    settle();
    cr_assert(a->meta.state == PS_SEALED && a->meta.hidden && !ps_timeline_open(a));
    cr_assert(ps_timeline_fed(a) && ps_timeline_fed(b), "still pulled");
    cr_assert_null(ps_reg_find_name(&reg, "shop", "main"), "its name is free");
    cr_assert_eq(ps_reg_branches(&reg, &a->meta.database), 1);
    ps_reg_drop(&reg, c);
    settle();
    cr_assert(a->meta.state == PS_DROPPED && b->meta.state == PS_DROPPED);
    cr_assert_eq(c->meta.state, PS_DROPPED);
}

Test(registry, metadata_of_branches_survives_the_wire)
{
    /* An empty pageserver learns all of it from the safekeepers. */
    struct ps_meta m = restore_of(2, 1, "kept"), back;
    struct co_buf bytes = {0};
    m.is_protected = true, m.hidden = true, m.dropping = true, m.expires_us = 123456789,
    m.born_term = 77, m.base_term = 76;
    m.state = PS_SEALED;
    cr_assert_eq(ps_meta_pack(&m, &bytes), 0);
    cr_assert_eq(ps_meta_unpack(co_buf_span(&bytes), &back), 0, "%s", co_sentence());
    cr_assert(back.state == PS_SEALED && back.is_protected && back.hidden && back.dropping);
    cr_assert(back.born_term == 77 && back.base_term == 76 && back.expires_us == 123456789 &&
              co_id_eq(&back.replaces, &m.replaces));
    cr_assert_str_eq(back.keep_as, "kept");
    cr_assert_eq(back.ancestor_lsn, 8192);
    co_buf_free(&bytes);
}
