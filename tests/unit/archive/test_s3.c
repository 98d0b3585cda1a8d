/* What is special to an archive in a bucket: a store that fails, and one that refuses us. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "s3_up.h"

static char url[AR_URL_MAX_BYTES];
static struct ar_store *s;

static void setup(void)
{
    s3_up(NULL, url);
    cr_assert_eq(ar_open(url, NULL, &s), 0, "%s", co_sentence());
}

static void teardown(void)
{
    ar_close(s);
    s3_down();
}

TestSuite(s3, .init = setup, .fini = teardown, .timeout = 60);

static struct co_span text(const char *t)
{
    return co_span_of(t, strlen(t));
}

static void expect(const char *name, const char *bytes)
{
    struct co_buf out = {0};
    cr_assert_eq(ar_get(s, name, 0, 1000, &out, NULL), 0, "%s", co_sentence());
    cr_assert(out.len == strlen(bytes) && memcmp(out.data, bytes, out.len) == 0, "%s", name);
    co_buf_free(&out);
}

/* The next requests that `on` fits fail in this way, so many times. */
static void fault(const char *on, int times, const char *kind)
{
    char json[300];
    snprintf(json, sizeof json, "{'faults':[{'on':'%s','times':%d,'kind':'%s'}]}", on, times, kind);
    s3_control(json);
}

Test(s3, is_asked_again_when_it_stumbles)
{
    /* 500, 503, 429, a connection that breaks before and within an answer: none of the callers
     * hears of it. */
    static const char *const kinds[] = {
        "500 InternalError",   "503 SlowDown", "429 TooManyRequests", "reset", "lost",
        "409 OperationAborted"};
    char name[40];
    cr_assert_eq(ar_put(s, "first", text("1")), 0);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(name, sizeof name, "k/%zu", i);
        fault("^PUT", 2, kinds[i]);
        cr_assert_eq(ar_put(s, name, text(name)), 0, "%s: %s", kinds[i], co_sentence());
        fault("^GET", 2, kinds[i]);
        expect(name, name);
        fault("^DELETE", 2, kinds[i]);
        cr_assert_eq(ar_remove(s, name), 0, "%s: %s", kinds[i], co_sentence());
    }
    cr_assert_eq(ar_put(s, "cut", text("0123456789")), 0);
    fault("^GET", 2, "cut");
    expect("cut", "0123456789");
}

Test(s3, an_answer_that_got_lost_is_settled)
{
    /* The put took place, its answer did not come, the second try finds the name taken: by us. */
    cr_assert_eq(ar_put(s, "first", text("1")), 0);
    fault("^PUT", 1, "lost");
    cr_assert_eq(ar_put_if_absent(s, "mine", text("a")), 0, "%s", co_sentence());
    expect("mine", "a");
    fault("^PUT", 1, "lost");
    cr_assert_eq(ar_put_if_absent(s, "mine", text("a")), CO_ERR_EXISTS);
    /* Lost on the way there: nothing took place, the second try does it. */
    fault("^PUT", 1, "reset");
    cr_assert_eq(ar_put_if_absent(s, "mine2", text("a")), 0, "%s", co_sentence());
}

Test(s3, gives_up_in_time_and_says_why)
{
    /* Bounded tries within the time of a call; the sentence is that of the last try. */
    struct ar_store *hasty;
    struct co_buf out = {0};
    struct timespec before, after;
    cr_assert_eq(ar_open(url, &(struct ar_options){.timeout_ms = 1500}, &hasty), 0, "%s",
                 co_sentence());
    fault("some/where/x", 1000, "503 SlowDown");
    clock_gettime(CLOCK_MONOTONIC, &before);
    cr_assert_eq(ar_get(hasty, "x", 0, 1, &out, NULL), CO_ERR_BUSY);
    clock_gettime(CLOCK_MONOTONIC, &after);
    cr_assert(strstr(co_sentence(), "SlowDown") &&
                  strstr(co_sentence(), "x in the archive s3://attic"),
              "%s", co_sentence());
    cr_assert_leq(after.tv_sec - before.tv_sec, 4);
    int tries = s3_count("GET /attic/some/where/x");
    cr_assert(tries >= 2 && tries <= 10, "%d tries", tries);
    fault("some/where/x", 1000, "slow");
    cr_assert_eq(ar_get(hasty, "x", 0, 1, &out, NULL), CO_ERR_TIMEOUT);
    ar_close(hasty);
    char nobody[AR_URL_MAX_BYTES];
    snprintf(nobody, sizeof nobody, "s3://attic/x?endpoint=http://127.0.0.1:1");
    cr_assert_eq(ar_open(nobody, &(struct ar_options){.timeout_ms = 500}, &hasty), CO_ERR_CONNECT);
    cr_assert(strstr(co_sentence(), "127.0.0.1:1"), "%s", co_sentence());
}

static void *cancel(void *store)
{
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
    ar_cancel(store);
    return NULL;
}

Test(s3, canceled_within_a_transfer)
{
    /* A process that ends does not wait for a store that hangs. */
    pthread_t thread;
    struct co_buf out = {0};
    struct timespec before, after;
    fault("some/where/x", 1000, "slow");
    cr_assert_eq(pthread_create(&thread, NULL, cancel, s), 0);
    clock_gettime(CLOCK_MONOTONIC, &before);
    cr_assert_eq(ar_get(s, "x", 0, 1, &out, NULL), CO_ERR_CANCELED);
    clock_gettime(CLOCK_MONOTONIC, &after);
    cr_assert_leq(after.tv_sec - before.tv_sec, 5);
    pthread_join(thread, NULL);
}

Test(s3, wrong_bytes_are_noticed)
{
    /* On the way there by the MD5 that the store tells, on the way back by the SHA-256 that was
     * put. */
    struct co_buf out = {0};
    cr_assert_eq(ar_put(s, "first", text("1")), 0);
    fault("^PUT", 1, "mangle");
    cr_assert_eq(ar_put(s, "x", text("0123456789")), CO_ERR_IO);
    cr_assert(strstr(co_sentence(), "MD5"), "%s", co_sentence());
    cr_assert_eq(ar_put(s, "y", text("0123456789")), 0);
    fault("^GET", 1, "mangle");
    cr_assert_eq(ar_get(s, "y", 0, 1000, &out, NULL), CO_ERR_IO);
    cr_assert_eq(out.len, 0u);
    expect("y", "0123456789");
    co_buf_free(&out);
}

/* The conditions of the store from now on, as seen by an archive that is opened then. */
static void conditions(const char *how)
{
    char json[60];
    snprintf(json, sizeof json, "{'conditions':'%s'}", how);
    s3_control(json);
    ar_close(s);
    cr_assert_eq(ar_open(url, NULL, &s), 0, "%s", co_sentence());
}

Test(s3, names_are_claimed_where_conditions_are_refused)
{
    /* 501, 400, or not understood: taken is taken all the same, and no claim is left. */
    static const char *const kinds[] = {"501", "400", "ignore"};
    char name[20];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        snprintf(name, sizeof name, "c/%zu", i);
        conditions(kinds[i]);
        int puts = s3_count("PUT");
        cr_assert_eq(ar_put_if_absent(s, name, text("me")), 0, "%s", co_sentence());
        cr_assert_gt(s3_count("PUT /attic/some/where/.corallite/claims/c/"), (int)i);
        cr_assert_leq(s3_count("PUT") - puts, 4, "two for the question, a claim, the object");
        cr_assert_eq(ar_put_if_absent(s, name, text("you")), CO_ERR_EXISTS);
        cr_assert_eq(ar_put(s, name, text("me")), 0);
        cr_assert_eq(ar_put(s, name, text("you")), CO_ERR_EXISTS);
        expect(name, "me");
        fault("^PUT .*where/c/", 1, "lost");
        snprintf(name, sizeof name, "c/%zu-lost", i);
        cr_assert_eq(ar_put_if_absent(s, name, text("me")), 0, "%s", co_sentence());
        cr_assert_eq(s3_count("PUT /attic/some/where/.corallite/claims/"),
                     s3_count("DELETE /attic/some/where/.corallite/claims/"));
    }
    conditions("yes");
    int claims = s3_count("/.corallite/claims/");
    cr_assert_eq(ar_put_if_absent(s, "c/again", text("me")), 0);
    cr_assert_eq(s3_count("/.corallite/claims/"), claims);
}

Test(s3, ranges_by_a_store_that_knows_none)
{
    /* The whole comes, and is cut here. */
    struct co_buf out = {0};
    uint64_t size;
    cr_assert_eq(ar_put(s, "x", text("0123456789")), 0);
    fault("^GET", 3, "whole");
    cr_assert_eq(ar_get(s, "x", 3, 4, &out, &size), 0, "%s", co_sentence());
    cr_assert_eq(ar_get(s, "x", 20, 4, &out, &size), 0, "%s", co_sentence());
    cr_assert_eq(ar_get(s, "x", 0, 0, &out, &size), 0);
    cr_assert_eq(size, 10u);
    cr_assert(out.len == 4 && memcmp(out.data, "3456", 4) == 0);
    co_buf_free(&out);
}

static int note(void *arg, const char *name, uint64_t size)
{
    (void)size;
    strcat(strcat(arg, name), " ");
    return 0;
}

Test(s3, lists_of_many_pages)
{
    /* Three keys a page; what is ours and no object, and what others put there, is not told. */
    char names[400] = "";
    s3_control("{'page':3}");
    for (int i = 0; i < 10; i++) {
        char name[20];
        snprintf(name, sizeof name, "l/%d", i);
        cr_assert_eq(ar_put(s, name, text("x")), 0);
    }
    int before = s3_count("list-type=2");
    cr_assert_eq(ar_list(s, "", NULL, note, names), 0, "%s", co_sentence());
    cr_assert_str_eq(names, "l/0 l/1 l/2 l/3 l/4 l/5 l/6 l/7 l/8 l/9 ");
    cr_assert_eq(s3_count("list-type=2") - before, 4);
    names[0] = 0;
    fault("list-type", 2, "503 SlowDown");
    cr_assert_eq(ar_list(s, "l/", "l/6", note, names), 0, "%s", co_sentence());
    cr_assert_str_eq(names, "l/7 l/8 l/9 ");
    names[0] = 0;
    fault("list-type", 1, "stale"); /* may be missed, and does no harm */
    s3_control("{'page':1000}");
    cr_assert_eq(ar_list(s, "", NULL, note, names), 0);
    cr_assert_str_eq(names, "l/0 l/1 l/2 l/3 l/4 l/5 l/6 l/7 l/8 ");
    cr_assert_eq(ar_put(s, "l/9", text("x")), 0, "a put does not trust a list: %s", co_sentence());
}

Test(s3, lists_may_come_in_chunks)
{
    /* Whose length nobody tells: one that is cut is no short list, and is asked for again. */
    char names[200] = "";
    for (int i = 0; i < 7; i++) {
        char name[8];
        snprintf(name, sizeof name, "l/%d", i);
        cr_assert_eq(ar_put(s, name, text("x")), 0);
    }
    s3_control("{'like':'ceph','page':3}");
    fault("list-type", 2, "cut");
    cr_assert_eq(ar_list(s, "l/", NULL, note, names), 0, "%s", co_sentence());
    cr_assert_str_eq(names, "l/0 l/1 l/2 l/3 l/4 l/5 l/6 ");
    cr_assert_eq(s3_count("prefix=some%2Fwhere%2Fl%2F"), 5);
}

/* -- in parts -------------------------------------------------------------------------------------
 */

static struct co_span large(void)
{
    static uint8_t bytes[17 * CO_MIB + 5];
    for (size_t i = 0; i < sizeof bytes; i += 97)
        bytes[i] = (uint8_t)(i / 97);
    return co_span_of(bytes, sizeof bytes);
}

static void expect_large(const char *name)
{
    struct co_buf out = {0};
    cr_assert_eq(ar_get(s, name, 0, large().len, &out, NULL), 0, "%s", co_sentence());
    cr_assert(out.len == large().len && memcmp(out.data, large().data, out.len) == 0);
    co_buf_free(&out);
}

Test(s3, large_objects_travel_in_parts)
{
    /* Three parts; a part that fails is put again; the answer to the end may be lost, or be an
     * error with status 200. */
    cr_assert_eq(ar_put(s, "big/1", large()), 0, "%s", co_sentence());
    cr_assert_eq(s3_count("partNumber="), 3);
    expect_large("big/1");
    cr_assert_eq(ar_put(s, "big/1", large()), 0, "the same again: %s", co_sentence());
    cr_assert_eq(ar_put(s, "big/1", co_span_of(large().data + 1, large().len - 1)), CO_ERR_EXISTS);
    cr_assert_eq(s3_count("partNumber="), 3);
    fault("partNumber=2", 1, "reset");
    cr_assert_eq(ar_put(s, "big/2", large()), 0, "%s", co_sentence());
    fault("^POST .*uploadId", 1, "lost");
    cr_assert_eq(ar_put(s, "big/3", large()), 0, "%s", co_sentence());
    expect_large("big/3");
    fault("^POST .*uploadId", 1, "200 InternalError");
    cr_assert_eq(ar_put(s, "big/4", large()), 0, "%s", co_sentence());
    expect_large("big/4");
    s3_control("{'like':'ceph'}"); /* an end that is repeated is answered with 200 */
    fault("^POST .*uploadId", 1, "lost");
    cr_assert_eq(ar_put(s, "big/5", large()), 0, "%s", co_sentence());
    expect_large("big/5");
    cr_assert_eq(s3_count("DELETE"), 0);
}

Test(s3, what_is_not_ended_is_taken_back)
{
    /* No parts are left that somebody pays for and nobody sees. */
    cr_assert_eq(ar_put(s, "first", text("1")), 0);
    fault("partNumber=3", 1, "403 AccessDenied");
    cr_assert_eq(ar_put(s, "big/1", large()), CO_ERR_READONLY);
    cr_assert(strstr(co_sentence(), "credentials"), "%s", co_sentence());
    cr_assert_eq(s3_count("DELETE /attic/some/where/big/1?uploadId="), 1);
    fault("partNumber=1", 1, "mangle");
    cr_assert_eq(ar_put(s, "big/1", large()), CO_ERR_IO);
    cr_assert_eq(s3_count("DELETE /attic/some/where/big/1?uploadId="), 2);
    fault("^POST .*uploadId", 1, "200 AccessDenied");
    cr_assert_neq(ar_put(s, "big/1", large()), 0);
    cr_assert_eq(s3_count("DELETE /attic/some/where/big/1?uploadId="), 3);
    struct co_buf out = {0};
    cr_assert_eq(ar_get(s, "big/1", 0, 1, &out, NULL), CO_ERR_NOT_FOUND);
    /* A store with conditions, but not at the end of an upload: in one request then. */
    s3_control("{'conditions_of_parts':'501'}");
    cr_assert_eq(ar_put(s, "big/1", large()), 0, "%s", co_sentence());
    cr_assert_eq(s3_count("DELETE /attic/some/where/big/1?uploadId="), 4);
    expect_large("big/1");
}

Test(s3, a_large_object_too_has_one_owner)
{
    /* Ceph 16 overlooks the condition at the end of an upload: who wants a name for themselves
     * puts in one request, however large it is. */
    s3_control("{'like':'ceph'}");
    cr_assert_eq(ar_put_if_absent(s, "big/1", large()), 0, "%s", co_sentence());
    cr_assert_eq(ar_put_if_absent(s, "big/1", text("other")), CO_ERR_EXISTS);
    cr_assert_eq(ar_put_if_absent(s, "big/1", co_span_of(large().data + 1, large().len - 1)),
                 CO_ERR_EXISTS);
    expect_large("big/1");
    cr_assert_eq(s3_count("partNumber="), 0);
    cr_assert_eq(s3_count("PUT /attic/some/where/big/1"), 3);
}

/* -- who may, and where ---------------------------------------------------------------------------
 */

/* The code of an open, its sentence naming a word and no secret. */
static void refused(const char *address, int rc, const char *word)
{
    struct ar_store *none;
    cr_expect_eq(ar_open(address, &(struct ar_options){.timeout_ms = 3000}, &none), rc, "%s: %s",
                 address, co_sentence());
    cr_expect(strstr(co_sentence(), word), "%s lacks %s", co_sentence(), word);
    cr_expect(!strstr(co_sentence(), "wrong/secret") && !strstr(co_sentence(), "se/cr+et"), "%s",
              co_sentence());
}

Test(s3, refusals_have_sentences)
{
    /* Said when the archive is opened: nobody waits for the first put to learn that it will never
     * work. */
    char address[AR_URL_MAX_BYTES];
    snprintf(address, sizeof address, "s3://nowhere/x?endpoint=%s", s3_origin());
    refused(address, CO_ERR_NOT_FOUND, "there is no bucket nowhere");
    snprintf(address, sizeof address, "s3://locked/x?endpoint=%s", s3_origin());
    refused(address, CO_ERR_IO, "may not do that");
    snprintf(address, sizeof address, "s3://elsewhere/x?endpoint=%s", s3_origin());
    refused(address, CO_ERR_INVAL, "in the region eu-test-1");
    snprintf(address, sizeof address, "s3://attic/x?region=mars-1&endpoint=%s", s3_origin());
    refused(address, CO_ERR_INVAL, "in the region eu-test-1");
    fault("list-type", 1, "403 RequestTimeTooSkewed");
    refused(url, CO_ERR_IO, "set this machine's clock");
    setenv("AWS_SECRET_ACCESS_KEY", "wrong/secret", 1);
    refused(url, CO_ERR_IO, "AWS_SECRET_ACCESS_KEY");
    setenv("AWS_ACCESS_KEY_ID", "AKOTHER", 1);
    refused(url, CO_ERR_IO, "AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    refused(url, CO_ERR_INVAL, "AWS_SECRET_ACCESS_KEY is not set");
    setenv("AWS_SECRET_ACCESS_KEY", "se/cr+et\nX-Other: 1", 1);
    refused(url, CO_ERR_INVAL, "control character");
}

Test(s3, a_session_token_and_the_bucket_in_the_hosts_name)
{
    /* Temporary credentials; attic.localhost instead of a path; the endpoint from the environment.
     */
    struct ar_store *other;
    char endpoint[60];
    snprintf(endpoint, sizeof endpoint, "http://localhost:%s", strrchr(s3_origin(), ':') + 1);
    setenv("AWS_SESSION_TOKEN", "to+ken/=", 1);
    setenv("AWS_ENDPOINT_URL", endpoint, 1);
    cr_assert_eq(ar_open("s3://attic/some/where?style=virtual", NULL, &other), 0, "%s",
                 co_sentence());
    cr_assert_eq(ar_put(other, "x", text("by name")), 0, "%s", co_sentence());
    ar_close(other);
    expect("x", "by name");
    setenv("AWS_SESSION_TOKEN", "other", 1);
    refused("s3://attic/some/where", CO_ERR_IO, "session token");
}
