/*
 * wal_apply.c - from an entry to its page. The entry's data is untrusted: it is decoded into
 * exactly one page and nothing beside it, and the result is believed when its CRC is the one that
 * the writer computed.
 */
#include <zstd.h>

#include "common/crc32c.h"
#include "proto/wal_delta.h"
#include "proto/wal_format.h"

static int corrupt(const struct wal_entry *entry, const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "page %u of a log record is damaged: %s", entry->pgno, what);
}

static int apply_zstd(const struct wal_entry *entry, uint32_t page_size, uint8_t *out, void *dctx)
{
    size_t n = dctx ? ZSTD_decompressDCtx(dctx, out, page_size, entry->data.data, entry->data.len)
                    : ZSTD_decompress(out, page_size, entry->data.data, entry->data.len);
    /* An error is a number larger than every length. */
    return n == page_size ? 0 : corrupt(entry, "it does not decompress to one page");
}

static int apply_delta(const struct wal_entry *entry, uint32_t page_size, const uint8_t *base,
                       uint8_t *out)
{
    char lsn[LSN_TEXT];
    if (!base)
        return corrupt(entry, "it is a delta, and its base is not at hand");
    uint32_t crc = co_crc32c(0, base, page_size);
    if (crc != entry->base_crc)
        return co_fail(CO_ERR_CORRUPT,
                       "page %u cannot be made: its base at %s has CRC %08x and should have %08x",
                       entry->pgno, lsn_format(entry->base_lsn, lsn), crc, entry->base_crc);
    if (base != out)
        memcpy(out, base, page_size);
    return wal_delta_apply(entry->data, out, page_size)
               ? 0
               : corrupt(entry, "its delta reaches beyond the page or is cut short");
}

int wal_apply(const struct wal_entry *entry, uint32_t page_size, const uint8_t *base, uint8_t *out,
              void *dctx)
{
    int rc = 0;
    switch ((unsigned)entry->encoding) {
    case WAL_IMAGE:
        if (entry->data.len != page_size)
            return corrupt(entry, "its image has not the size of a page");
        memcpy(out, entry->data.data, page_size);
        break;
    case WAL_ZSTD:
        rc = apply_zstd(entry, page_size, out, dctx);
        break;
    case WAL_DELTA:
        rc = apply_delta(entry, page_size, base, out);
        break;
    default:
        return corrupt(entry, "its encoding is unknown");
    }
    if (!rc && co_crc32c(0, out, page_size) != entry->page_crc)
        rc = corrupt(entry, "the CRC of the result is not the one that its writer computed");
    return rc;
}
