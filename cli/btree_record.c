#include "cli/btree_record.h"

#include "proto/btree_page.h"

static int bad_record(const char *what)
{
    return co_fail(CO_ERR_CORRUPT, "a record makes no sense: %s", what);
}

/* Bytes of a value by its serial type; types 10 and 11 are reserved. */
static uint64_t type_bytes(uint64_t type)
{
    static const uint8_t small[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0};
    return type < sizeof small ? small[type] : (type - 12) / 2;
}

static int64_t get_integer(const uint8_t *p, size_t n)
{
    uint64_t v = n && (p[0] & 0x80) ? UINT64_MAX : 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | p[i];
    return (int64_t)v;
}

static void get_value(uint64_t type, const uint8_t *p, struct bt_value *out)
{
    uint64_t n = type_bytes(type);
    *out = (struct bt_value){.type = BT_NULL};
    if (type == 7) {
        int64_t bits = get_integer(p, 8);
        out->type = BT_REAL;
        memcpy(&out->real, &bits, sizeof out->real);
    } else if (type >= 1 && type <= 9) {
        out->type = BT_INTEGER;
        out->integer = type == 9 ? 1 : get_integer(p, (size_t)n);
    } else if (type >= 12) {
        out->type = type % 2 ? BT_TEXT : BT_BLOB;
        out->bytes = co_span_of(p, (size_t)n);
    }
}

int bt_record_values(struct co_span record, unsigned want, struct bt_value *out, uint64_t *need)
{
    uint64_t header, type;
    size_t at = bt_get_varint(record.data, record.len, &header);
    *need = 9; /* a varint, unless the whole record is shorter: then its bytes are all there */
    if (!at)
        return record.len >= 9 ? bad_record("no header") : CO_ERR_AGAIN;
    if (header < at || header > INT32_MAX)
        return bad_record("the length of its header");
    *need = header;
    if (record.len < header)
        return CO_ERR_AGAIN;
    uint64_t body = header;
    for (unsigned i = 0; i < want; i++) {
        size_t n = bt_get_varint(record.data + at, (size_t)header - at, &type);
        if (!n)
            return bad_record("it has too few values");
        at += n;
        uint64_t bytes = type_bytes(type);
        if (type == 10 || type == 11 || bytes > INT32_MAX)
            return bad_record("a type");
        if (body + bytes <= record.len)
            get_value(type, record.data + body, &out[i]);
        body += bytes;
    }
    *need = body;
    return record.len < body ? CO_ERR_AGAIN : 0;
}

/* -- order --------------------------------------------------------------------------------------
 */

static int sign(bool less, bool more)
{
    return more - less;
}

static int rank(enum bt_type type)
{
    static const int ranks[] = {
        [BT_NULL] = 0, [BT_INTEGER] = 1, [BT_REAL] = 1, [BT_TEXT] = 2, [BT_BLOB] = 3};
    return ranks[type];
}

/* Exactly: a double does not hold every integer, and a long double is no wider everywhere. Of a
 * double that has a fraction the whole part is held. */
static int compare_mixed(int64_t integer, double real)
{
    if (real >= 9223372036854775808.0)
        return -1;
    if (real < -9223372036854775808.0)
        return 1;
    int64_t whole = (int64_t)real;
    if (integer != whole)
        return integer < whole ? -1 : 1;
    return sign((double)whole<real, (double)whole> real);
}

static int compare_numbers(const struct bt_value *a, const struct bt_value *b)
{
    if (a->type == BT_INTEGER && b->type == BT_INTEGER)
        return sign(a->integer<b->integer, a->integer> b->integer);
    if (a->type == BT_INTEGER)
        return compare_mixed(a->integer, b->real);
    if (b->type == BT_INTEGER)
        return -compare_mixed(b->integer, a->real);
    return sign(a->real<b->real, a->real> b->real);
}

static uint8_t fold(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

static int compare_bytes(struct co_span a, struct co_span b, bool folded)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = 0;
    for (size_t i = 0; i < n && order == 0; i++)
        order = folded ? fold(a.data[i]) - fold(b.data[i]) : a.data[i] - b.data[i];
    return order ? order : sign(a.len<b.len, a.len> b.len);
}

static struct co_span trimmed(struct co_span s)
{
    while (s.len > 0 && s.data[s.len - 1] == ' ')
        s.len--;
    return s;
}

static int compare_value(const struct bt_value *a, const struct bt_value *b,
                         enum bt_collation collation)
{
    if (rank(a->type) != rank(b->type))
        return rank(a->type) - rank(b->type);
    if (a->type == BT_NULL)
        return 0;
    if (rank(a->type) == 1)
        return compare_numbers(a, b);
    if (a->type == BT_TEXT && collation == BT_RTRIM)
        return compare_bytes(trimmed(a->bytes), trimmed(b->bytes), false);
    return compare_bytes(a->bytes, b->bytes, a->type == BT_TEXT && collation == BT_NOCASE);
}

int bt_key_compare(const struct bt_key *key, const struct bt_value *a, const struct bt_value *b)
{
    for (unsigned i = 0; i < key->n; i++) {
        int order = compare_value(&a[i], &b[i], key->column[i].collation);
        if (order)
            return key->column[i].descending ? -order : order;
    }
    return 0;
}
