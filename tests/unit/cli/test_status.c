#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/status.h"
#include "cli/text.h"

TestSuite(status, .timeout = 10);

static struct status s;
static struct status_timeline timeline;

/* Three safekeepers, the second down, a pageserver 4 KiB behind. */
static void sample(void)
{
    s = (struct status){.n_safekeepers = 3, .timelines = &timeline, .n_timelines = 1};
    strcpy(s.pageserver.name, "pageserver");
    s.pageserver.up = true;
    for (uint32_t i = 0; i < 3; i++) {
        struct status_node *n = &s.safekeepers[i];
        snprintf(n->name, sizeof n->name, "safekeeper-%u", i + 1);
        n->node = i + 1;
        n->up = i != 1;
    }
    strcpy(s.safekeepers[1].trouble, "nobody answers");
    timeline = (struct status_timeline){.at_pageserver = true,
                                        .last_record_lsn = 0x3000,
                                        .db_pages = 16,
                                        .page_size = 4096,
                                        .versions = 40,
                                        .images = 4,
                                        .version_bytes = 4000,
                                        .commits = 20,
                                        .commit_bytes = 2000};
    strcpy(timeline.name, "shop/main");
    timeline.copy[0] =
        (struct status_copy){.known = true, .commit_lsn = 0x4000, .bytes_in = 3000, .records = 10};
    timeline.copy[2] = (struct status_copy){.known = true, .commit_lsn = 0x3800};
}

static char *printed(bool json)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    cr_assert(f);
    if (json)
        cr_assert_eq(status_print_json(&s, f), 0);
    else
        status_print(&s, f);
    fclose(f);
    return text;
}

Test(status, lag_is_from_the_newest_commit_that_anybody_reports)
{
    sample();
    cr_assert_eq(status_commit_lsn(&s, &timeline), 0x4000);
    cr_assert_eq(status_lag_bytes(&s, &timeline), 0x1000);
    timeline.last_record_lsn = 0x5000;
    cr_assert_eq(status_lag_bytes(&s, &timeline), 0,
                 "a pageserver is never ahead by a negative lag");
}

Test(status, an_archive_has_not_what_the_pageserver_has_not_read)
{
    static const char whole[] = "has everything that is committed";
    sample();
    strcpy(s.archive.url, "dir:/a");
    status_count_unread(&s);
    char *text = printed(false);
    cr_assert_not(strstr(text, whole), "%s", text);
    cr_assert(strstr(text, "4.0 KiB of log behind"), "%s", text);
    free(text);
    sample();
    strcpy(s.archive.url, "dir:/a");
    timeline.last_record_lsn = 0x4000;
    status_count_unread(&s);
    text = printed(false);
    cr_assert(strstr(text, whole), "%s", text);
    free(text);
}

Test(status, one_silent_daemon_is_not_all_up)
{
    sample();
    cr_assert_not(status_all_up(&s));
    s.safekeepers[1].up = true;
    cr_assert(status_all_up(&s));
    s.n_safekeepers = 0;
    cr_assert_not(status_all_up(&s), "no safekeeper known is not health");
}

Test(status, text_names_the_trouble_and_the_bytes_a_record)
{
    sample();
    char *text = printed(false);
    cr_assert(strstr(text, "nobody answers"), "%s", text);
    cr_assert(strstr(text, "(300 B a record)"), "%s", text);
    cr_assert(strstr(text, "4.0 KiB behind"), "%s", text);
    cr_assert(strstr(text, "5.9 KiB stored: 40 versions of pages (4 whole, 100 B each), 20 commits "
                           "(300 B each)"),
              "%s", text);
    free(text);
}

Test(status, json_is_well_formed_and_says_the_same)
{
    sample();
    char *text = printed(true);
    json_error_t error;
    json_t *root = json_loads(text, 0, &error);
    cr_assert(root, "%s", error.text);
    cr_assert_not(json_boolean_value(json_object_get(root, "all_up")));
    json_t *t = json_array_get(json_object_get(root, "timelines"), 0);
    cr_assert_eq(json_integer_value(json_object_get(t, "lag_bytes")), 0x1000);
    cr_assert_str_eq(json_string_value(json_object_get(t, "commit_lsn")), "0000000000004000");
    cr_assert_eq(json_integer_value(json_object_get(t, "logical_bytes")), 65536);
    cr_assert_eq(json_integer_value(json_object_get(t, "stored_bytes")), 6000);
    json_t *node = json_array_get(json_object_get(root, "safekeepers"), 1);
    cr_assert_str_eq(json_string_value(json_object_get(node, "trouble")), "nobody answers");
    json_decref(root);
    free(text);
}

Test(status, numbers_read_well_at_every_size)
{
    char t[TEXT_MAX];
    cr_assert_str_eq(text_bytes(0, t), "0 B");
    cr_assert_str_eq(text_bytes(1023, t), "1023 B");
    cr_assert_str_eq(text_bytes(1536, t), "1.5 KiB");
    cr_assert_str_eq(text_bytes(1024 * 1024 - 1, t), "1.0 MiB");
    cr_assert_str_eq(text_bytes(UINT64_MAX, t), "16.0 EiB");
    cr_assert_str_eq(text_duration(999000, t), "999 ms");
    cr_assert_str_eq(text_duration(61000000, t), "1 min 1 s");
    cr_assert_str_eq(text_duration(90061000000ull, t), "1 d 1 h");
    cr_assert_str_eq(text_time(0, t), "-");
    cr_assert_str_eq(text_time(1767322845000000ull, t), "2026-01-02T03:00:45Z");
}

Test(status, a_quoted_word_survives_any_shell)
{
    char out[64];
    cr_assert_str_eq(text_shell_quote("/a b/$c", out, sizeof out), "'/a b/$c'");
    cr_assert_str_eq(text_shell_quote("it's", out, sizeof out), "'it'\\''s'");
    cr_assert_null(text_shell_quote("too long for that", out, 8));
}
