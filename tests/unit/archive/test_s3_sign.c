/* Amazon's own examples of signed requests, and escapes. Many random requests are compared with an
 * independent signer by tests/integration/test_archive_s3.py. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "archive/s3_sign.h"

TestSuite(s3_sign, .timeout = 20);

/* Credentials, time and bucket of "Authenticating Requests: Using the Authorization Header" in the
 * S3 API's reference; they open nothing. */
static const struct s3_keys keys = {"AKIAIOSFODNN7EXAMPLE",
                                    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
#define WHEN "20130524T000000Z"
#define HOST                                                                                       \
    {                                                                                              \
        "host", "examplebucket.s3.amazonaws.com"                                                   \
    }
#define DATE                                                                                       \
    {                                                                                              \
        "x-amz-date", WHEN                                                                         \
    }

static const char *signature(const struct s3_message *m)
{
    static char text[65];
    struct co_buf out = {0};
    cr_assert_eq(s3_authorization(m, &keys, "us-east-1", WHEN, &out), 0);
    cr_assert_gt(out.len, 64u);
    memcpy(text, out.data + out.len - 64, 64);
    co_buf_free(&out);
    return text;
}

Test(s3_sign, the_published_examples)
{
    /* What Amazon says that these requests are signed with. */
    struct s3_message get = {
        .method = "GET",
        .path = "/test.txt",
        .headers = {HOST, {"range", "bytes=0-9"}, {"x-amz-content-sha256", S3_EMPTY_PAYLOAD}, DATE},
        .n_headers = 4,
        .payload_sha256 = S3_EMPTY_PAYLOAD};
    cr_expect_str_eq(signature(&get),
                     "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");

    char digest[S3_SHA256_TEXT];
    s3_sha256_text(co_span_of("Welcome to Amazon S3.", 21), digest);
    cr_expect_str_eq(digest, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
    struct s3_message put = {.method = "PUT",
                             .path = "/test$file.text",
                             .headers = {{"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                         HOST,
                                         {"x-amz-content-sha256", digest},
                                         DATE,
                                         {"x-amz-storage-class", "REDUCED_REDUNDANCY"}},
                             .n_headers = 5,
                             .payload_sha256 = digest};
    cr_expect_str_eq(signature(&put),
                     "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");

    struct s3_message life = {.method = "GET",
                              .path = "/",
                              .query = {{"lifecycle", ""}},
                              .n_query = 1,
                              .headers = {HOST, {"x-amz-content-sha256", S3_EMPTY_PAYLOAD}, DATE},
                              .n_headers = 3,
                              .payload_sha256 = S3_EMPTY_PAYLOAD};
    cr_expect_str_eq(signature(&life),
                     "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");

    struct s3_message list = life;
    list.query[0] = (struct s3_pair){"prefix", "J"};
    list.query[1] = (struct s3_pair){"max-keys", "2"};
    list.n_query = 2;
    cr_expect_str_eq(signature(&list),
                     "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

Test(s3_sign, every_header_and_byte_counts)
{
    /* Another value, order kept: another signature. The order in which they are given does not
     * matter. */
    struct s3_message m = {.method = "GET",
                           .path = "/a",
                           .query = {{"b", "1"}, {"a", "2"}},
                           .n_query = 2,
                           .headers = {HOST, DATE, {"x-amz-meta-x", "v"}},
                           .n_headers = 3,
                           .payload_sha256 = S3_EMPTY_PAYLOAD};
    char first[65];
    snprintf(first, sizeof first, "%s", signature(&m));
    m.headers[2].value = " v ";
    cr_expect_str_eq(signature(&m), first, "blanks around a value do not count");
    m.headers[2].value = "w";
    cr_expect_str_neq(signature(&m), first);
    m.headers[2] = (struct s3_pair)HOST;
    m.headers[0] = (struct s3_pair){"x-amz-meta-x", "v"};
    m.query[0] = (struct s3_pair){"a", "2"};
    m.query[1] = (struct s3_pair){"b", "1"};
    cr_expect_str_eq(signature(&m), first);
    m.method = "PUT";
    cr_expect_str_neq(signature(&m), first);
}

Test(s3_sign, what_is_sent_is_escaped_once)
{
    /* Everything but A-Z a-z 0-9 - . _ ~, and / within the path. */
    struct s3_message m = {.path = "/a b+c%2F/\xc3\xa4~-._",
                           .query = {{"x y", "/&="}, {"x-", "1"}, {"x", "2"}, {"x", "1"}},
                           .n_query = 4};
    struct co_buf out = {0};
    cr_assert_eq(s3_target(&m, &out), 0);
    cr_assert_eq(co_buf_append(&out, "", 1), 0);
    cr_expect_str_eq((const char *)out.data,
                     "/a%20b%2Bc%252F/%C3%A4~-._?x=1&x=2&x%20y=%2F%26%3D&x-=1");
    co_buf_free(&out);
}
