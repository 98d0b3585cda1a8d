/* What is read and written as text for an archive in a bucket: URL, XML, what an answer means. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "archive/s3_retry.h"
#include "archive/s3_url.h"
#include "archive/s3_xml.h"

TestSuite(s3_text, .timeout = 20);

/* "origin root prefix region", or the sentence. */
static const char *parsed(const char *rest, const char *endpoint, const char *region)
{
    static char text[1100];
    struct s3_url u;
    if (s3_url_parse(rest, endpoint, region, &u))
        return co_sentence();
    snprintf(text, sizeof text, "%s %s %s %s", u.origin, u.root, u.prefix, u.region);
    return text;
}

Test(s3_text, a_url_says_where)
{
    /* Amazon has the bucket in the host's name, everybody else in the path, unless it is said
     * otherwise. */
    cr_expect_str_eq(parsed("//attic/a/b", NULL, NULL),
                     "https://attic.s3.us-east-1.amazonaws.com / a/b/ us-east-1");
    cr_expect_str_eq(parsed("//attic?region=eu-west-3", NULL, "x-1"),
                     "https://attic.s3.eu-west-3.amazonaws.com /  eu-west-3");
    cr_expect_str_eq(parsed("//at.tic/a/", NULL, "eu-west-3"),
                     "https://s3.eu-west-3.amazonaws.com /at.tic/ a/ eu-west-3");
    cr_expect_str_eq(parsed("//attic/a?endpoint=http://127.0.0.1:9000", NULL, ""),
                     "http://127.0.0.1:9000 /attic/ a/ us-east-1");
    cr_expect_str_eq(
        parsed("//attic/a?endpoint=https%3A%2F%2F[::1]:9000%2Fs3/&style=path", NULL, NULL),
        "https://[::1]:9000 /s3/attic/ a/ us-east-1");
    cr_expect_str_eq(parsed("//attic/a?style=virtual", "http://store.local:9000", NULL),
                     "http://attic.store.local:9000 / a/ us-east-1");
    cr_expect_str_eq(parsed("//attic/a?endpoint=http://one", "http://two", NULL),
                     "http://one /attic/ a/ us-east-1");
}

Test(s3_text, a_url_that_is_none)
{
    /* Each with a sentence; none repeats what could be a secret. */
    static const char *const bad[] = {"",
                                      "attic",
                                      "//",
                                      "//a",
                                      "//Attic/x",
                                      "//attic//x",
                                      "//attic/.x",
                                      "//attic/a//b",
                                      "//attic/a b",
                                      "//attic/a?x=1",
                                      "//attic/a?region",
                                      "//attic/a?endpoint=ftp://x",
                                      "//attic/a?endpoint=http://",
                                      "//attic/a?endpoint=http://x/../y",
                                      "//attic/a?region=A%20B",
                                      "//attic/a?style=both",
                                      "//-attic/x",
                                      "//attic/a?",
                                      "//attic/a%2fb"};
    struct s3_url u;
    char longest[600];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_eq(s3_url_parse(bad[i], NULL, NULL, &u), CO_ERR_INVAL, "%s", bad[i]);
    snprintf(longest, sizeof longest, "//attic/%0201d", 1);
    cr_expect_eq(s3_url_parse(longest, NULL, NULL, &u), CO_ERR_INVAL);
    cr_expect_eq(s3_url_parse("//AKIA:sEcReT@attic/x", NULL, NULL, &u), CO_ERR_INVAL);
    cr_expect(!strstr(co_sentence(), "sEcReT") && strstr(co_sentence(), "AWS_ACCESS_KEY_ID"), "%s",
              co_sentence());
    cr_expect_eq(s3_url_parse("//attic/x?endpoint=https://AKIA:sEcReT@host", NULL, NULL, &u),
                 CO_ERR_INVAL);
    cr_expect(!strstr(co_sentence(), "sEcReT"), "%s", co_sentence());
}

/* "path=text;" of each element, or "!" where it is refused. */
static const char *elements(const char *xml)
{
    static char all[4000];
    struct s3_xml x;
    struct s3_xml_event e;
    size_t n = 0;
    int rc;
    all[0] = 0;
    s3_xml_init(&x, co_span_of(xml, strlen(xml)));
    while ((rc = s3_xml_next(&x, &e)) == 1)
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s%s;", e.path, e.text ? "=" : "",
                              e.text ? e.text : "");
    return rc == 0 ? all : "!";
}

Test(s3_text, xml_as_stores_write_it)
{
    /* Declarations, attributes, name spaces, entities, comments, CDATA, elements without content.
     */
    cr_expect_str_eq(elements("<?xml version=\"1.0\"?>\n<!-- x --><a x='>' y=\"/\"><s:b>1 "
                              "&lt;&#65;&#xe4;&amp;</s:b>\n<c/><d></d></a>\n"),
                     "a/b=1 <A\xc3\xa4&;a/c=;a/d=;a;");
    cr_expect_str_eq(elements("\xef\xbb\xbf<a><b><![CDATA[<x>&]]></b><b>2</b></a>"),
                     "a/b=<x>&;a/b=2;a;");
    cr_expect_str_eq(elements("<a/>"), "a=;");
    cr_expect_str_eq(elements("<a>x<b>y</b>z</a>"), "a/b=y;a;");
}

Test(s3_text, xml_that_is_refused)
{
    /* Nothing is looked up, nothing is guessed. */
    static const char *const bad[] = {
        "",
        "x",
        "<a>",
        "<a></b>",
        "</a>",
        "<a/><b/>",
        "<a/>x",
        "<!DOCTYPE a><a/>",
        "<a>&x;</a>",
        "<a>&#0;</a>",
        "<a>&#xd800;</a>",
        "<a>&#x110000;</a>",
        "<a>&lt</a>",
        "<a",
        "<a x='>",
        "<>",
        "<a><!-- </a>",
        "<a:></a:>",
        "<a><![CDATA[x</a>",
        "<?xml",
        "<a>&#;</a>",
        "<a>&#x;</a>",
        "<a>&#99999999;</a>",
        "<a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a>"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_expect_str_eq(elements(bad[i]), "!", "%s", bad[i]);
    static char longs[S3_XML_TEXT_MAX + 20];
    for (size_t n = S3_XML_TEXT_MAX; n <= S3_XML_TEXT_MAX + 1; n++) {
        struct s3_xml x;
        struct s3_xml_event e;
        memset(longs, 'x', sizeof longs);
        memcpy(longs, "<a>", 3);
        memcpy(longs + 3 + n, "</a>", 4);
        s3_xml_init(&x, co_span_of(longs, n + 7));
        cr_expect_eq(s3_xml_next(&x, &e), n == S3_XML_TEXT_MAX ? 1 : CO_ERR_PROTOCOL);
    }
}

Test(s3_text, an_error_is_read_for_people)
{
    /* Code, message and region; control characters do not reach a terminal. */
    struct s3_trouble t;
    const char *xml = "<Error><Code>SlowDown</Code><Message>a\x1b[1mb</Message><Region>eu-1</"
                      "Region><X><Code>no</Code></X></Error>";
    s3_trouble_read(co_span_of(xml, strlen(xml)), &t);
    cr_expect_str_eq(t.code, "SlowDown");
    cr_expect_str_eq(t.message, "a?[1mb");
    cr_expect_str_eq(t.region, "eu-1");
    s3_trouble_read(co_span_of("<html>", 6), &t);
    cr_expect_str_eq(t.code, "");
}

Test(s3_text, waits_grow_and_are_spread)
{
    /* From 0 to a bound that doubles up to its most. */
    for (unsigned tries = 0; tries < 40; tries++) {
        uint32_t most = 0, bound = tries < 7 ? 100u << tries : 10000u, below = 0;
        for (uint32_t i = 0; i < 20000; i++) {
            uint32_t w = s3_wait_ms(tries, i * 2654435761u);
            most = w > most ? w : most;
            below += w < bound / 2;
        }
        cr_expect_leq(most, bound);
        cr_expect_gt(most, bound - bound / 10);
        cr_expect(below > 8000 && below < 12000, "%u of 20000 below the half", below);
    }
}

Test(s3_text, each_refusal_says_what_to_do)
{
    /* Code of the seam, and the word that helps. */
    static const struct {
        long status;
        const char *code;
        bool writing;
        int rc;
        const char *word;
    } rows[] = {{403, "AccessDenied", true, CO_ERR_READONLY, "credentials"},
                {403, "AccessDenied", false, CO_ERR_IO, "credentials"},
                {403, "InvalidAccessKeyId", true, CO_ERR_IO, "AWS_ACCESS_KEY_ID"},
                {403, "SignatureDoesNotMatch", true, CO_ERR_IO, "AWS_SECRET_ACCESS_KEY"},
                {403, "RequestTimeTooSkewed", false, CO_ERR_IO, "clock"},
                {400, "ExpiredToken", true, CO_ERR_IO, "AWS_SESSION_TOKEN"},
                {404, "NoSuchBucket", true, CO_ERR_IO, "make it"},
                {301, "PermanentRedirect", false, CO_ERR_INVAL, "eu-9"},
                {400, "AuthorizationHeaderMalformed", false, CO_ERR_INVAL, "region="},
                {507, "", true, CO_ERR_FULL, "room"},
                {503, "SlowDown", true, CO_ERR_BUSY, "SlowDown"},
                {418, "Teapot", true, CO_ERR_IO, "418 Teapot"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct s3_trouble t = {.region = "eu-9"};
        const struct s3_context c = {"put",  "a/b",          "s3://x/y",
                                     "x",    "https://h",    "20260102T030405Z",
                                     "then", rows[i].writing};
        snprintf(t.code, sizeof t.code, "%s", rows[i].code);
        cr_expect_eq(s3_fail(&c, rows[i].status, &t), rows[i].rc, "%s", rows[i].code);
        cr_expect(strstr(co_sentence(), rows[i].word) && strstr(co_sentence(), "a/b") &&
                      strstr(co_sentence(), "s3://x/y"),
                  "%s", co_sentence());
    }
}
