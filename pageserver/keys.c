#include "pageserver/keys.h"

void ps_page_key_put(uint8_t out[PS_PAGE_KEY_BYTES], const struct ps_page_key *key)
{
    co_put32be(out, key->no);
    co_put32be(out + 4, key->pgno);
    co_put64be(out + 8, ~key->lsn);
    out[16] = key->chunk;
}

bool ps_page_key_get(struct co_span bytes, struct ps_page_key *out)
{
    if (bytes.len != PS_PAGE_KEY_BYTES)
        return false;
    out->no = co_get32be(bytes.data);
    out->pgno = co_get32be(bytes.data + 4);
    out->lsn = ~co_get64be(bytes.data + 8);
    out->chunk = bytes.data[16];
    return true;
}

void ps_commit_key_put(uint8_t out[PS_COMMIT_KEY_BYTES], const struct ps_commit_key *key)
{
    co_put32be(out, key->no);
    co_put64be(out + 4, key->lsn);
    out[12] = (uint8_t)(key->chunk >> 8);
    out[13] = (uint8_t)key->chunk;
}

bool ps_commit_key_get(struct co_span bytes, struct ps_commit_key *out)
{
    if (bytes.len != PS_COMMIT_KEY_BYTES)
        return false;
    out->no = co_get32be(bytes.data);
    out->lsn = co_get64be(bytes.data + 4);
    out->chunk = (uint16_t)(bytes.data[12] << 8 | bytes.data[13]);
    return true;
}

void ps_time_key_put(uint8_t out[PS_TIME_KEY_BYTES], const struct ps_time_key *key)
{
    co_put32be(out, key->no);
    co_put64be(out + 4, key->time_us);
    co_put64be(out + 12, key->lsn);
}

bool ps_time_key_get(struct co_span bytes, struct ps_time_key *out)
{
    if (bytes.len != PS_TIME_KEY_BYTES)
        return false;
    out->no = co_get32be(bytes.data);
    out->time_us = co_get64be(bytes.data + 4);
    out->lsn = co_get64be(bytes.data + 12);
    return true;
}
