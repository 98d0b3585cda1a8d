#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/identity_file.h"

static char base[64], dir[128], file[160];
static const struct co_id cluster = {{1, 2, 3}}, other = {{9, 9, 9}};

static void setup(void)
{
    snprintf(base, sizeof base, "/tmp/co_identity_XXXXXX");
    cr_assert(mkdtemp(base));
    snprintf(dir, sizeof dir, "%s/a/b", base);
    snprintf(file, sizeof file, "%s/identity", dir);
}

static void teardown(void)
{
    char command[100];
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    cr_assert_eq(system(command), 0);
}

TestSuite(identity, .init = setup, .fini = teardown, .timeout = 10);

static int open_sk(uint32_t node, const struct co_id *c, struct co_identity *out)
{
    return co_identity_open(dir, "safekeeper", node, c, out);
}

/* Makes the directory's identity and closes it. */
static struct co_identity made(void)
{
    struct co_identity id;
    cr_assert_eq(open_sk(2, &cluster, &id), 0, "%s", co_sentence());
    co_identity_close(&id);
    return id;
}

static void rewrite(const uint8_t *bytes, size_t len)
{
    FILE *f = fopen(file, "w");
    cr_assert(f);
    cr_assert_eq(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static void slurp(uint8_t bytes[128])
{
    FILE *f = fopen(file, "r");
    cr_assert(f);
    cr_assert_eq(fread(bytes, 1, 128, f), 128u);
    cr_assert_eq(fgetc(f), EOF, "exactly 128 bytes");
    fclose(f);
}

Test(identity, is_made_once_and_read_afterwards)
{
    /* The disk's identity is drawn when the directory is made and never changes. */
    struct co_identity first, again;
    struct stat st;
    cr_assert_eq(open_sk(2, &cluster, &first), 0, "%s", co_sentence());
    cr_assert(first.fresh);
    cr_assert_not(co_id_is_zero(&first.disk));
    co_identity_close(&first);
    cr_assert_eq(stat(dir, &st), 0);
    cr_assert_eq(st.st_mode & 0777, 0700u);
    cr_assert_eq(open_sk(2, NULL, &again), 0, "a later start needs no --cluster");
    cr_assert_not(again.fresh);
    cr_assert(co_id_eq(&first.disk, &again.disk));
    cr_assert(co_id_eq(&again.cluster, &cluster));
    cr_assert_eq(again.node, 2u);
    cr_assert_str_eq(again.role, "safekeeper");
    co_identity_close(&again);
}

Test(identity, has_these_very_bytes)
{
    /* The byte table of identity_file.h. */
    uint8_t b[128];
    struct co_identity id = made();
    slurp(b);
    cr_assert_eq(memcmp(b, "CORALID1", 8), 0);
    cr_assert_eq(co_get32(b + 8), 1u);
    cr_assert_eq(co_get32(b + 12), 2u);
    cr_assert_eq(memcmp(b + 16, cluster.b, 16), 0);
    cr_assert_eq(memcmp(b + 32, id.disk.b, 16), 0);
    cr_assert_str_eq((char *)b + 48, "safekeeper");
    for (int i = 64; i < 124; i++)
        cr_assert_eq(b[i], 0);
    cr_assert_eq(co_get32(b + 124), co_crc32c(0, b, 124));
}

Test(identity, wants_a_cluster_for_a_new_directory)
{
    /* Without --cluster nothing is made up. */
    struct co_identity id;
    cr_assert_eq(open_sk(2, NULL, &id), CO_ERR_INVAL);
    cr_assert(strstr(co_sentence(), "--cluster"), "%s", co_sentence());
    cr_assert_eq(open_sk(2, &(struct co_id){{0}}, &id), CO_ERR_INVAL);
    cr_assert_eq(access(file, F_OK), -1);
    cr_assert_eq(open_sk(2, &cluster, &id), 0, "and the failed start left nothing in the way");
    co_identity_close(&id);
}

Test(identity, refuses_another_cluster_node_or_role)
{
    /* A directory in the wrong hands is never used. */
    struct co_identity id;
    made();
    cr_assert_eq(open_sk(2, &other, &id), CO_ERR_CLUSTER);
    cr_assert(strstr(co_sentence(), "01020300") && strstr(co_sentence(), "09090900"), "%s",
              co_sentence());
    cr_assert_eq(open_sk(3, &cluster, &id), CO_ERR_NODE);
    cr_assert(strstr(co_sentence(), "--node"), "%s", co_sentence());
    cr_assert_eq(co_identity_open(dir, "pageserver", 2, &cluster, &id), CO_ERR_NODE);
    cr_assert(strstr(co_sentence(), "belongs to a safekeeper"), "%s", co_sentence());
    cr_assert_eq(open_sk(2, &cluster, &id), 0, "and goes on with the right ones");
    co_identity_close(&id);
}

Test(identity, is_locked_while_it_is_in_use)
{
    /* Two processes on one directory would both write. */
    struct co_identity one, two;
    cr_assert_eq(open_sk(2, &cluster, &one), 0);
    cr_assert_eq(open_sk(2, &cluster, &two), CO_ERR_BUSY);
    char pid[40];
    snprintf(pid, sizeof pid, "with the id %ld ", (long)getpid());
    cr_assert(strstr(co_sentence(), pid), "%s", co_sentence());
    co_identity_close(&two); /* harmless after a failure */
    cr_assert_eq(open_sk(2, &cluster, &two), CO_ERR_BUSY, "the first still holds it");
    co_identity_close(&one);
    cr_assert_eq(open_sk(2, &cluster, &two), 0);
    co_identity_close(&two);
}

Test(identity, is_unlocked_by_the_death_of_its_process)
{
    /* kill -9 must not leave a lock behind. */
    struct co_identity id;
    made();
    pid_t child = fork();
    if (child == 0) {
        struct co_identity theirs;
        _exit(open_sk(2, &cluster, &theirs) == 0 ? 0 : 1); /* without closing */
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    cr_assert_eq(open_sk(2, &cluster, &id), 0, "%s", co_sentence());
    co_identity_close(&id);
}

Test(identity, refuses_a_copy_of_itself_only_by_its_disk)
{
    /* Two directories are two disks, even for the same cluster and node. */
    struct co_identity a, b;
    cr_assert_eq(open_sk(2, &cluster, &a), 0);
    snprintf(dir, sizeof dir, "%s/c", base);
    cr_assert_eq(open_sk(2, &cluster, &b), 0, "another directory has a lock of its own");
    cr_assert_not(co_id_eq(&a.disk, &b.disk));
    co_identity_close(&a);
    co_identity_close(&b);
}

Test(identity, refuses_a_directory_with_somebody_elses_files)
{
    /* A mistyped --dir must not be written into. */
    struct co_identity id;
    char path[200];
    snprintf(dir, sizeof dir, "%s", base);
    snprintf(path, sizeof path, "%s/thesis.tex", base);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fclose(f);
    cr_assert_eq(open_sk(2, &cluster, &id), CO_ERR_EXISTS);
    cr_assert(strstr(co_sentence(), "thesis.tex"), "%s", co_sentence());
    unsigned n = 0;
    DIR *list = opendir(base);
    while (readdir(list))
        n++;
    closedir(list);
    cr_assert_eq(n, 3u, "nothing was added: '.', '..' and the file");
}

Test(identity, is_made_after_a_first_start_that_died_halfway)
{
    /* lock and identity.new of a killed first start count as empty. */
    struct co_identity id;
    char path[200];
    cr_assert_eq(open_sk(2, NULL, &id), CO_ERR_INVAL); /* leaves the lock file */
    snprintf(path, sizeof path, "%s/identity.new", dir);
    FILE *f = fopen(path, "w");
    cr_assert(f);
    fputs("half", f);
    fclose(f);
    cr_assert_eq(open_sk(2, &cluster, &id), 0, "%s", co_sentence());
    cr_assert_eq(access(path, F_OK), -1);
    co_identity_close(&id);
}

Test(identity, notices_damage_of_any_bit)
{
    /* The CRC covers every byte before it; a damaged identity is refused, never guessed. */
    struct co_identity id;
    uint8_t b[128];
    made();
    slurp(b);
    for (size_t bit = 0; bit < 128 * 8; bit++) {
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
        rewrite(b, sizeof b);
        cr_assert_eq(open_sk(2, &cluster, &id), CO_ERR_CORRUPT, "bit %zu", bit);
        b[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t len = 0; len < 128; len++) {
        rewrite(b, len);
        cr_assert_eq(open_sk(2, &cluster, &id), CO_ERR_CORRUPT, "%zu bytes", len);
    }
    rewrite(b, sizeof b);
    cr_assert_eq(open_sk(2, &cluster, &id), 0);
    co_identity_close(&id);
}

Test(identity, tells_a_newer_format_from_damage)
{
    /* After a downgrade the sentence says so; whatever the new format has behind its version. */
    struct co_identity id;
    uint8_t b[128];
    made();
    slurp(b);
    co_put32(b + 8, 2);
    co_put32(b + 124, co_crc32c(0, b, 124));
    rewrite(b, sizeof b);
    cr_assert_eq(open_sk(2, &cluster, &id), CO_ERR_VERSION);
    cr_assert(strstr(co_sentence(), "newer release"), "%s", co_sentence());
    memset(b + 12, 0xee, sizeof b - 12);
    rewrite(b, 60);
    cr_assert_eq(open_sk(2, &cluster, &id), CO_ERR_VERSION);
}

Test(identity, has_a_sentence_for_a_path_that_cannot_be)
{
    /* A file where a directory is wanted. */
    struct co_identity id;
    snprintf(dir, sizeof dir, "/dev/null/x");
    cr_assert_eq(open_sk(2, &cluster, &id), CO_ERR_IO);
    cr_assert(strstr(co_sentence(), "/dev/null"), "%s", co_sentence());
    dir[0] = 0;
    cr_assert_eq(open_sk(2, &cluster, &id), CO_ERR_INVAL);
}
