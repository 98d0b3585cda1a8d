/* registry_disks.c - which disk each number stands for: rule R10 of registry.h. */
#include "common/assert.h"
#include "pageserver/registry.h"

static void note_group(struct ps_registry *reg, const struct wal_member *members, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < reg->n_nodes; i++) {
            const struct co_id *disk = &members[k].disk_uuid;
            if (reg->node_id[i] != members[k].node_id || co_id_is_zero(disk))
                continue;
            if (co_id_is_zero(&reg->disk[i]))
                reg->disk[i] = *disk;
            reg->two_disks[i] |= !co_id_eq(&reg->disk[i], disk);
        }
}

void ps_reg_note_disks(struct ps_registry *reg, const struct wal_config *c)
{
    note_group(reg, c->members, c->n);
    note_group(reg, c->new_members, c->n_new);
}

void ps_reg_slot(struct ps_registry *reg, uint32_t node, uint32_t id)
{
    co_assert(node < reg->n_nodes);
    reg->node_id[node] = id;
    reg->said[node] = reg->disk[node] = (struct co_id){{0}};
    reg->two_disks[node] = false;
    ps_reg_list_begins(reg, node);
    ps_reg_note_disks(reg, &reg->config);
    for (const struct ps_timeline *tl = reg->all; id && tl; tl = tl->next)
        ps_reg_note_disks(reg, &tl->meta.config);
}

void ps_reg_members(struct ps_registry *reg, const struct wal_config *list)
{
    reg->config = *list;
    ps_reg_note_disks(reg, list);
}

void ps_reg_said(struct ps_registry *reg, uint32_t node, const struct co_id *disk)
{
    co_assert(node < reg->n_nodes);
    reg->said[node] = *disk;
}

bool ps_reg_is_other(const struct ps_registry *reg, uint32_t node)
{
    if (co_id_is_zero(&reg->disk[node]) || co_id_is_zero(&reg->said[node]))
        return false;
    return reg->two_disks[node] || !co_id_eq(&reg->disk[node], &reg->said[node]);
}

static void know_group(const struct ps_registry *reg, struct wal_member *members, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < reg->n_nodes; i++)
            if (reg->node_id[i] == members[k].node_id && co_id_is_zero(&members[k].disk_uuid))
                members[k].disk_uuid = co_id_is_zero(&reg->disk[i]) ? reg->said[i] : reg->disk[i];
}

void ps_reg_know_disks(const struct ps_registry *reg, struct wal_config *c)
{
    know_group(reg, c->members, c->n);
    know_group(reg, c->new_members, c->n_new);
}

void ps_reg_name_disks(struct ps_registry *reg, struct ps_timeline *tl)
{
    struct wal_config named = tl->meta.config;
    if (!reg->heard || reg->follows || !ps_state_readable(tl->meta.state) ||
        ps_reg_is_foreign(reg, tl))
        return;
    ps_reg_know_disks(reg, &named);
    if (memcmp(&named, &tl->meta.config, sizeof named) == 0)
        return;
    tl->meta.config = named;
    ps_reg_note_disks(reg, &named);
    ps_reg_change(reg, tl, tl->meta.state);
}
