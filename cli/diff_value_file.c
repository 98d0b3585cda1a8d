/* diff_value_file.c - values as SQL and as JSON. */
#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "cli/diff.h"

/* The shortest of two that is read back to the very number; SQL's infinity is an overflow. */
static void put_real(sqlite3_str *q, double value)
{
    char text[40];
    sqlite3_snprintf(sizeof text, text, "%!.15g", value);
    if (value > DBL_MAX || value < -DBL_MAX)
        sqlite3_str_appendall(q, value > 0 ? "9e999" : "-9e999");
    else if (strtod(text, NULL) < value || strtod(text, NULL) > value)
        sqlite3_str_appendf(q, "%!.17g", value);
    else
        sqlite3_str_appendall(q, text);
}

/* A literal that SQLite reads back to the very value. */
void diff_put_value(sqlite3_str *q, sqlite3_stmt *s, int i)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *bytes;
    const char *text;
    int n;
    switch (sqlite3_column_type(s, i)) {
    case SQLITE_INTEGER:
        sqlite3_str_appendf(q, "%lld", sqlite3_column_int64(s, i));
        break;
    case SQLITE_FLOAT:
        put_real(q, sqlite3_column_double(s, i));
        break;
    case SQLITE_TEXT:
        text = (const char *)sqlite3_column_text(s, i);
        n = sqlite3_column_bytes(s, i);
        if (text && (size_t)n == strlen(text)) {
            sqlite3_str_appendf(q, "%Q", text);
            break;
        }
        sqlite3_str_appendall(q, "CAST(x'"); /* it holds a zero byte */
        for (int k = 0; text && k < n; k++)
            sqlite3_str_appendf(q, "%c%c", hex[(unsigned char)text[k] >> 4], hex[text[k] & 15]);
        sqlite3_str_appendall(q, "' AS TEXT)");
        break;
    case SQLITE_BLOB:
        bytes = sqlite3_column_blob(s, i);
        n = sqlite3_column_bytes(s, i);
        sqlite3_str_appendall(q, "x'");
        for (int k = 0; k < n; k++)
            sqlite3_str_appendf(q, "%c%c", hex[bytes[k] >> 4], hex[bytes[k] & 15]);
        sqlite3_str_appendall(q, "'");
        break;
    default:
        sqlite3_str_appendall(q, "NULL");
    }
}

json_t *diff_value_json(sqlite3_stmt *s, int i)
{
    json_t *value = NULL;
    switch (sqlite3_column_type(s, i)) {
    case SQLITE_INTEGER:
        return json_integer(sqlite3_column_int64(s, i));
    case SQLITE_FLOAT:
        value = json_real(sqlite3_column_double(s, i));
        break; /* JSON has no infinity: as SQL */
    case SQLITE_TEXT:
        value = json_stringn((const char *)sqlite3_column_text(s, i),
                             (size_t)sqlite3_column_bytes(s, i));
        break; /* nor bytes that are not UTF-8 */
    case SQLITE_NULL:
        return json_null();
    default:
        break;
    }
    if (value)
        return value;
    sqlite3_str *q = sqlite3_str_new(NULL);
    diff_put_value(q, s, i);
    char *sql = sqlite3_str_finish(q);
    value = json_pack("{s:s}", "sql", sql ? sql : "NULL");
    sqlite3_free(sql);
    return value;
}
