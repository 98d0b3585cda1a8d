/* test_nodes.c - the list of the safekeepers over the wire and back; what is none; a step between
 * two configurations. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "proto/nodes.h"
#include "proto/qhist.h"

TestSuite(nodes, .timeout = 20);

static struct nodes four(void)
{
    struct nodes n = {.config = {.version = 7, .n = 3, .n_new = 3}, .n = 4};
    for (uint32_t i = 0; i < 4; i++) {
        n.at[i].node = i + 1;
        n.at[i].port = (uint16_t)(6410 + i);
        snprintf(n.at[i].host, sizeof n.at[i].host, "host%u", i);
    }
    for (uint32_t i = 0; i < 3; i++) {
        n.config.members[i] = (struct wal_member){i + 1, {{(uint8_t)(i + 1)}}};
        n.config.new_members[i] = (struct wal_member){i + 2, {{(uint8_t)(i + 2)}}};
    }
    return n;
}

Test(nodes, survive_the_wire)
{
    struct nodes a = four(), b;
    struct nodes_message m;
    uint8_t bytes[NODES_PACKED_MAX_BYTES];
    nodes_fill(&a, &m);
    size_t len = corallite__nodes__pack(&m.pb, bytes);
    Corallite__Nodes *wire = corallite__nodes__unpack(NULL, len, bytes);
    cr_assert_eq(nodes_read(wire, &b), 0, "%s", co_sentence());
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
    cr_assert_eq(nodes_find(&b, 4)->port, 6413);
    cr_assert_null(nodes_find(&b, 5));
    corallite__nodes__free_unpacked(wire, NULL);
    a = (struct nodes){0};
    nodes_fill(&a, &m);
    cr_assert_eq(nodes_read(&m.pb, &b), 0);
    cr_assert_eq(b.config.version, 0, "nobody changed anything");
}

static void expect_refused(void (*spoil)(struct nodes_message *), const char *word)
{
    struct nodes a = four(), b;
    struct nodes_message m;
    nodes_fill(&a, &m);
    spoil(&m);
    cr_expect_eq(nodes_read(&m.pb, &b), CO_ERR_PROTOCOL, "%s", word);
    cr_expect_not_null(strstr(co_sentence(), word), "%s", co_sentence());
}

static void no_host(struct nodes_message *m)
{
    m->at[1].host = NULL;
}
static void port_too_large(struct nodes_message *m)
{
    m->at[1].port = 65536;
}
static void twice(struct nodes_message *m)
{
    m->at[3].node = 1;
}
static void nowhere(struct nodes_message *m)
{
    m->pb.n_addresses = 3;
}
static void bad_config(struct nodes_message *m)
{
    m->config.pb.version = 0;
}

Test(nodes, what_is_no_list_is_refused)
{
    expect_refused(no_host, "without");
    expect_refused(port_too_large, "without");
    expect_refused(twice, "two addresses");
    expect_refused(nowhere, "without its address");
    expect_refused(bad_config, "configuration");
}

Test(nodes, one_step_at_a_time)
{
    struct wal_config a = {.version = 3, .n = 1, .members = {{.node_id = 1}}}, b = a, out;
    b.members[0].node_id = 2;
    cr_assert(q_config_step(&a, &a, &out) && out.version == 3, "nothing to do");
    cr_assert(q_config_step(&a, &b, &out));
    cr_assert(out.version == 4 && out.n == 1 && out.n_new == 1 && out.new_members[0].node_id == 2);
    struct wal_config joint = out, c = a;
    c.members[0].node_id = 3;
    cr_assert_not(q_config_step(&joint, &c, &out), "to others than it is on the way to");
    cr_assert(q_config_step(&joint, &b, &out) && out.n_new == 0 && out.members[0].node_id == 2);
    cr_assert(q_config_step(&joint, &a, &out) && out.n_new == 0 && out.members[0].node_id == 1);
    cr_assert(q_left(false, &a, &b, 1) && !q_left(false, &a, &b, 2) && !q_left(false, &a, &b, 9));
    cr_assert(q_left(true, &b, &b, 1) && !q_left(true, &b, &joint, 1) && !q_left(true, &a, &b, 0));
}
