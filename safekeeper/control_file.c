#include "safekeeper/control_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/assert.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "common/mutation.h"

static const uint8_t magic[8] = {'C', 'O', 'R', 'A', 'L', 'C', 'T', 'L'};
enum { FLAG_NO_LEASE = 1, FLAG_CLEAN = 2, FLAG_HALTED = 4, FLAGS = 7 };
enum { BASE_LEFT = 1, BASE_EMPTYING = 2, BASE_FLAGS = 3 };
enum {
    AT_HALTED = 192,
    AT_SUSPECT = 704,
    AT_BASE = 720,
    AT_CONFIG = 748,
    AT_CRC = SK_CONTROL_SLOT_BYTES - 4
};

static uint32_t version_of(const struct sk_control *c)
{
    return c->base.lsn ? 3 : c->suspect_lsn ? 2 : 1;
}

static void put_members(const struct wal_member *members, uint32_t n, uint8_t **at)
{
    for (uint32_t i = 0; i < n; i++, *at += 20) {
        co_put32(*at, members[i].node_id);
        memcpy(*at + 4, members[i].disk_uuid.b, 16);
    }
}

static void encode_base(const struct sk_control *c, uint8_t *slot)
{
    const struct wal_config *config = &c->base.config;
    uint8_t *at = slot + AT_CONFIG + 12;
    co_put64(slot + AT_BASE, c->base.lsn);
    memcpy(slot + AT_BASE + 8, c->base.digest.b, 16);
    co_put32(slot + AT_BASE + 24,
             (c->base.left ? BASE_LEFT : 0u) | (c->emptying ? BASE_EMPTYING : 0u));
    co_put32(slot + AT_CONFIG, config->version);
    co_put32(slot + AT_CONFIG + 4, config->n);
    co_put32(slot + AT_CONFIG + 8, config->n_new);
    put_members(config->members, config->n, &at);
    put_members(config->new_members, config->n_new, &at);
}

static void get_members(struct wal_member *members, uint32_t n, const uint8_t **at)
{
    for (uint32_t i = 0; i < n; i++, *at += 20) {
        members[i].node_id = co_get32(*at);
        memcpy(members[i].disk_uuid.b, *at + 4, 16);
    }
}

/* false: it is none. */
static bool decode_base(const uint8_t *slot, struct sk_control *c)
{
    struct wal_config *config = &c->base.config;
    const uint8_t *at = slot + AT_CONFIG + 12;
    uint32_t flags = co_get32(slot + AT_BASE + 24);
    c->base.lsn = co_get64(slot + AT_BASE);
    memcpy(c->base.digest.b, slot + AT_BASE + 8, 16);
    c->base.left = flags & BASE_LEFT;
    c->emptying = flags & BASE_EMPTYING;
    config->version = co_get32(slot + AT_CONFIG);
    config->n = co_get32(slot + AT_CONFIG + 4);
    config->n_new = co_get32(slot + AT_CONFIG + 8);
    if (config->n > CO_MEMBERS_MAX || config->n_new > CO_MEMBERS_MAX)
        return false;
    get_members(config->members, config->n, &at);
    get_members(config->new_members, config->n_new, &at);
    return (flags & ~(uint32_t)BASE_FLAGS) == 0 && wal_config_check(config) == 0 &&
           c->start_lsn <= c->base.lsn && c->base.lsn <= c->commit_lsn;
}

static void encode(const struct sk_control *c, uint8_t slot[SK_CONTROL_SLOT_BYTES])
{
    memset(slot, 0, SK_CONTROL_SLOT_BYTES);
    memcpy(slot, magic, 8);
    co_put32(slot + 8, version_of(c));
    co_put32(slot + 12, c->owner.node);
    co_put64(slot + 16, c->sequence);
    memcpy(slot + 24, c->owner.cluster.b, 16);
    memcpy(slot + 40, c->owner.timeline.b, 16);
    memcpy(slot + 56, c->owner.disk.b, 16);
    co_put64(slot + 72, c->term);
    memcpy(slot + 80, c->voted_nonce.b, 16);
    co_put64(slot + 96, c->start_lsn);
    memcpy(slot + 104, c->start_digest.b, 16);
    co_put64(slot + 120, c->commit_lsn);
    co_put64(slot + 128, c->sealed_lsn);
    co_put64(slot + 136, c->floor_lsn);
    co_put32(slot + 144, (c->no_lease ? FLAG_NO_LEASE : 0u) | (c->clean ? FLAG_CLEAN : 0u) |
                             (c->halted[0] ? FLAG_HALTED : 0u));
    co_put32(slot + 148, c->history_n);
    co_put64(slot + 152, c->history_sequence);
    memcpy(slot + 160, c->history_digest.b, 16);
    memcpy(slot + 176, c->boot_id.b, 16);
    snprintf((char *)slot + AT_HALTED, SK_HALTED_TEXT, "%s", c->halted);
    co_put64(slot + AT_SUSPECT, c->suspect_lsn);
    co_put64(slot + AT_SUSPECT + 8, c->suspect_term);
    if (c->base.lsn)
        encode_base(c, slot);
    co_put32(slot + AT_CRC, co_crc32c(0, slot, AT_CRC));
}

/* CO_ERR_CORRUPT: unsound. CO_ERR_VERSION: sound, but newer than this build. */
static int decode(const uint8_t slot[SK_CONTROL_SLOT_BYTES], unsigned parity, struct sk_control *c)
{
    *c = (struct sk_control){0};
    if (memcmp(slot, magic, 8) || co_get32(slot + AT_CRC) != co_crc32c(0, slot, AT_CRC))
        return CO_ERR_CORRUPT;
    uint32_t version = co_get32(slot + 8);
    if (version > SK_CONTROL_VERSION)
        return CO_ERR_VERSION;
    c->owner.node = co_get32(slot + 12);
    c->sequence = co_get64(slot + 16);
    memcpy(c->owner.cluster.b, slot + 24, 16);
    memcpy(c->owner.timeline.b, slot + 40, 16);
    memcpy(c->owner.disk.b, slot + 56, 16);
    c->term = co_get64(slot + 72);
    memcpy(c->voted_nonce.b, slot + 80, 16);
    c->start_lsn = co_get64(slot + 96);
    memcpy(c->start_digest.b, slot + 104, 16);
    c->commit_lsn = co_get64(slot + 120);
    c->sealed_lsn = co_get64(slot + 128);
    c->floor_lsn = co_get64(slot + 136);
    uint32_t flags = co_get32(slot + 144);
    c->no_lease = flags & FLAG_NO_LEASE;
    c->clean = flags & FLAG_CLEAN;
    c->history_n = co_get32(slot + 148);
    c->history_sequence = co_get64(slot + 152);
    memcpy(c->history_digest.b, slot + 160, 16);
    memcpy(c->boot_id.b, slot + 176, 16);
    memcpy(c->halted, slot + AT_HALTED, SK_HALTED_TEXT);
    c->suspect_lsn = co_get64(slot + AT_SUSPECT);
    c->suspect_term = co_get64(slot + AT_SUSPECT + 8);
    if (version == 3 && !decode_base(slot, c))
        return CO_ERR_CORRUPT;
    if (version != version_of(c) || (flags & ~(uint32_t)FLAGS) ||
        ((c->sequence & 1) != parity && !co_mutated(CONTROL_IN_PLACE)) ||
        c->sequence > SK_CONTROL_LAST || c->history_n > CO_HISTORY_MAX ||
        c->start_lsn > c->commit_lsn || c->commit_lsn > c->sealed_lsn ||
        c->halted[SK_HALTED_TEXT - 1] || !(flags & FLAG_HALTED) != !c->halted[0])
        return CO_ERR_CORRUPT;
    return 0;
}

static int check_owner(const char *path, const struct sk_owner *want, const struct sk_owner *have)
{
    if (want->node == have->node && co_id_eq(&want->cluster, &have->cluster) &&
        co_id_eq(&want->timeline, &have->timeline) && co_id_eq(&want->disk, &have->disk))
        return 0;
    char a[CO_ID_TEXT], b[CO_ID_TEXT];
    return co_fail(
        CO_ERR_NODE,
        "%s belongs to timeline %s of node %u, another disk or another cluster; timeline "
        "%s of node %u was expected here. Files of different safekeepers were mixed: put "
        "back the directory that belongs here",
        path, co_id_format(&have->timeline, a), have->node, co_id_format(&want->timeline, b),
        want->node);
}

/* Puts the block into the slot of its next sequence, not durably yet. */
static int put_slot(struct sk_control_file *file, struct sk_control *control)
{
    uint8_t slot[SK_CONTROL_SLOT_BYTES];
    co_assert(control->start_lsn <= control->commit_lsn &&
              control->base.lsn <= control->commit_lsn &&
              control->commit_lsn <= control->sealed_lsn);
    if (file->sequence == SK_CONTROL_LAST)
        return co_fail(CO_ERR_CORRUPT,
                       "the control block %s has the last sequence there is, which no safekeeper "
                       "wrote. Replace this safekeeper; the other members have the data",
                       file->path);
    control->sequence = file->sequence + 1;
    encode(control, slot);
    return sk_io_pwrite(
        file->fd, co_span_of(slot, sizeof slot),
        (co_mutated(CONTROL_IN_PLACE) && control->sequence > 2 ? 0 : control->sequence & 1) *
            SK_CONTROL_SLOT_BYTES,
        file->path);
}

/* Nobody relies on the file before this returns: both slots are made durable at once. */
int sk_control_create(const char *path, struct sk_control *control)
{
    struct sk_control_file file = {.fd = -1};
    int rc = sk_io_path(file.path, "%s", path);
    if (!rc)
        rc = sk_io_open(path, O_RDWR | O_CREAT | O_EXCL, &file.fd);
    for (int i = 0; i < 2 && !rc; i++) {
        rc = put_slot(&file, control);
        file.sequence = control->sequence;
    }
    if (!rc)
        rc = sk_io_sync(file.fd, path);
    sk_control_close(&file);
    return rc;
}

int sk_control_open(const char *path, const struct sk_owner *owner, struct sk_control_file *file,
                    struct sk_control *out)
{
    uint8_t slots[2 * SK_CONTROL_SLOT_BYTES];
    struct sk_control c[2];
    int sound[2];
    *file = (struct sk_control_file){.fd = -1};
    int rc = sk_io_path(file->path, "%s", path);
    if (!rc)
        rc = sk_io_open(path, O_RDWR, &file->fd);
    if (!rc)
        rc = sk_io_pread(file->fd, slots, sizeof slots, 0, path);
    if (rc)
        goto fail;
    for (unsigned i = 0; i < 2; i++)
        sound[i] = decode(slots + i * SK_CONTROL_SLOT_BYTES, i, &c[i]);
    if (sound[0] == CO_ERR_VERSION || sound[1] == CO_ERR_VERSION) {
        rc = co_fail(CO_ERR_VERSION,
                     "%s has a newer format than this build knows (%u); start the newer "
                     "corallite-safekeeper that wrote it",
                     path, SK_CONTROL_VERSION);
        goto fail;
    }
    if (sound[0] && sound[1]) {
        rc = co_fail(CO_ERR_CORRUPT,
                     "both slots of the control block %s are damaged: what this node voted is not "
                     "known, so it must not vote. Replace this safekeeper; the other members have "
                     "the data",
                     path);
        goto fail;
    }
    if (sound[0] || sound[1])
        co_warn("safekeeper/control",
                "one slot is unsound (interrupted write or damage), using "
                "the other path=%s slot=%d",
                path, sound[0] ? 0 : 1);
    unsigned newest = sound[0] ? 1 : sound[1] ? 0 : c[1].sequence > c[0].sequence;
    rc = check_owner(path, owner, &c[newest].owner);
    if (rc)
        goto fail;
    *out = c[newest];
    file->sequence = out->sequence;
    return 0;
fail:
    sk_control_close(file);
    return rc;
}

int sk_control_write(struct sk_control_file *file, struct sk_control *control)
{
    int rc = put_slot(file, control);
    if (!rc)
        rc = sk_io_sync(file->fd, file->path);
    if (!rc)
        file->sequence = control->sequence;
    return rc;
}

int sk_control_renew(struct sk_control_file *file, struct sk_control *control)
{
    co_assert(control->sequence == file->sequence);
    file->sequence--;
    return sk_control_write(file, control);
}

void sk_control_close(struct sk_control_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}
