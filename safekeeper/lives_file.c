#include "safekeeper/lives_file.h"

#include <stdio.h>

#include "common/crc32c.h"
#include "common/mutation.h"

static const uint8_t magic[8] = {'C', 'O', 'R', 'A', 'L', 'S', 'T', 'A'};
enum { AT_CRC = 24, FILE_BYTES = 28 };

static int read_starts(const char *dir, uint64_t *out)
{
    char path[SK_PATH_MAX];
    struct co_buf buf = {0};
    int rc = sk_io_path(path, "%s/starts", dir);
    *out = 0;
    if (!rc)
        rc = sk_io_read_all(path, FILE_BYTES, &buf);
    if (rc == CO_ERR_NOT_FOUND)
        return 0;
    if (!rc && (buf.len != FILE_BYTES || memcmp(buf.data, magic, 8) ||
                co_get32(buf.data + AT_CRC) != co_crc32c(0, buf.data, AT_CRC) ||
                co_get64(buf.data + 8) == UINT64_MAX))
        rc = co_fail(CO_ERR_CORRUPT,
                     "%s is damaged: how often this safekeeper was started is not known, so it "
                     "cannot show that its disk is the newest there is. Replace it by one with a "
                     "new --dir and --node (corallite safekeeper replace)",
                     path);
    if (!rc)
        *out = co_get64(buf.data + 8);
    co_buf_free(&buf);
    return rc;
}

static int read_regressed(const char *dir, char out[SK_REGRESSED_TEXT])
{
    char path[SK_PATH_MAX];
    struct co_buf buf = {0};
    int rc = sk_io_path(path, "%s/regressed", dir);
    out[0] = 0;
    if (!rc)
        rc = sk_io_read_all(path, SK_REGRESSED_TEXT - 1, &buf);
    if (!rc)
        snprintf(out, SK_REGRESSED_TEXT, "%.*s", (int)buf.len, (const char *)buf.data);
    if (!rc && !out[0])
        snprintf(out, SK_REGRESSED_TEXT, "%.600s says so", path);
    co_buf_free(&buf);
    if (co_mutated(REGRESSED_FORGOTTEN))
        out[0] = 0;
    return rc == CO_ERR_NOT_FOUND ? 0 : rc;
}

int sk_lives_begin(const char *dir, uint64_t random, struct sk_lives *out)
{
    uint8_t bytes[FILE_BYTES];
    *out = (struct sk_lives){0};
    int rc = read_regressed(dir, out->regressed);
    if (!rc)
        rc = read_starts(dir, &out->starts);
    if (rc)
        return rc;
    out->starts++;
    out->start_id = random;
    memcpy(bytes, magic, 8);
    co_put64(bytes + 8, out->starts);
    co_put64(bytes + 16, random);
    co_put32(bytes + AT_CRC, co_crc32c(0, bytes, AT_CRC));
    return sk_io_replace(dir, "starts", co_span_of(bytes, sizeof bytes));
}

int sk_lives_regressed(const char *dir, const char *sentence)
{
    size_t len = strlen(sentence);
    return sk_io_replace(
        dir, "regressed",
        co_span_of(sentence, len < SK_REGRESSED_TEXT ? len : SK_REGRESSED_TEXT - 1));
}
