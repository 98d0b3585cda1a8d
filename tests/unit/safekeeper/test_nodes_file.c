/* test_nodes_file.c - DIR/nodes: written and read, its bytes, and what is refused. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "safekeeper/nodes_file.h"

static char dir[64], path[80];

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/corallite-nodes-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/nodes", dir);
}

static void teardown(void)
{
    unlink(path);
    rmdir(dir);
}

TestSuite(nodes_file, .init = setup, .fini = teardown, .timeout = 20);

static struct nodes one(void)
{
    struct nodes n = {.config = {.version = 2, .n = 1, .members = {{.node_id = 9}}}, .n = 1};
    n.at[0].node = 9;
    n.at[0].port = 6410;
    snprintf(n.at[0].host, sizeof n.at[0].host, "a");
    return n;
}

Test(nodes_file, is_kept)
{
    struct nodes a = one(), b;
    cr_assert_eq(sk_nodes_load(dir, &b), 0);
    cr_assert_eq(b.config.version, 0, "there is no file");
    cr_assert_eq(sk_nodes_save(dir, &a), 0);
    cr_assert_eq(sk_nodes_load(dir, &b), 0);
    cr_assert_eq(memcmp(&a, &b, sizeof a), 0);
    struct co_buf bytes = {0};
    cr_assert_eq(sk_io_read_all(path, 1000, &bytes), 0);
    static const uint8_t head[] = {'C', 'O', 'R', 'A', 'L', 'N', 'O', 'D', 1, 0, 0, 0, 18, 0, 0, 0};
    static const uint8_t tail[] = {0, 0,    0, 0,    0x0a, 6,    0x08, 2,   0x12, 2,    0x08,
                                   9, 0x12, 8, 0x08, 9,    0x12, 1,    'a', 0x18, 0x8a, 0x32};
    cr_assert_eq(memcmp(bytes.data, head, sizeof head), 0);
    cr_assert_eq(bytes.len, sizeof head + 4 + sizeof tail);
    cr_assert_eq(memcmp(bytes.data + 20, tail, bytes.len - 20), 0);
    co_buf_free(&bytes);
}

Test(nodes_file, damage_is_a_sentence)
{
    struct nodes a = one(), b;
    cr_assert_eq(sk_nodes_save(dir, &a), 0);
    struct co_buf bytes = {0};
    cr_assert_eq(sk_io_read_all(path, 1000, &bytes), 0);
    for (size_t i = 0; i < bytes.len; i++) {
        if (i >= 20 && i < 24) {
            continue; /* spare */
        }
        bytes.data[i] ^= 0x40;
        cr_assert_eq(sk_io_replace(dir, "nodes", co_buf_span(&bytes)), 0);
        int rc = sk_nodes_load(dir, &b);
        cr_expect_eq(rc, i >= 8 && i < 12 ? CO_ERR_VERSION : CO_ERR_CORRUPT, "byte %zu: %d", i, rc);
        bytes.data[i] ^= 0x40;
    }
    cr_assert_eq(sk_io_replace(dir, "nodes", co_span_of(bytes.data, 10)), 0);
    cr_assert_eq(sk_nodes_load(dir, &b), CO_ERR_CORRUPT);
    co_buf_free(&bytes);
}
