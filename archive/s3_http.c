#include "archive/s3_http.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "archive/s3_curl_http.h"
#include "common/clock_file.h"
#include "common/log.h"
#include "proto/limits.h"

#define CONNECT_TIMEOUT_MS 5000
#define STALLED_S          10 /* a transfer that moves less than STALLED_BYTES a second for so long */
#define STALLED_BYTES      100
#define ERROR_BODY_MAX     (64 * CO_KIB)

struct s3_client {
    const struct s3_curl *api;
    CURL *curl;
    struct s3_url url;
    char archive_url[1024], host[340];
    char key_id[200], secret[200], token[4096];
    const char *ca_file; /* NULL: the system's */
    uint32_t timeout_ms;
    uint64_t deadline_us;
    atomic_bool *canceled;
    char our_time[S3_TIME_TEXT];
};

/* -- a client -------------------------------------------------------------------------------------
 */

static int take_secret(const char *variable, bool needed, char *out, size_t cap)
{
    const char *value = getenv(variable);
    if ((!value || !*value) && needed)
        return co_fail(CO_ERR_INVAL,
                       "an archive in a bucket takes its credentials from AWS_ACCESS_KEY_ID and "
                       "AWS_SECRET_ACCESS_KEY; %s is not set",
                       variable);
    size_t len = value ? strlen(value) : 0;
    if (len >= cap)
        return co_fail(CO_ERR_INVAL, "%s is longer than %zu bytes", variable, cap - 1);
    for (size_t i = 0; i < len; i++)
        if (value[i] <= ' ' || value[i] == 0x7f)
            return co_fail(CO_ERR_INVAL, "%s holds a blank or a control character", variable);
    memcpy(out, value ? value : "", len + 1);
    return 0;
}

int s3_client_new(const struct s3_url *url, const char *archive_url, uint32_t timeout_ms,
                  atomic_bool *canceled, struct s3_client **out)
{
    struct s3_client *c = calloc(1, sizeof *c);
    if (!c)
        return co_fail(CO_ERR_NOMEM, "no memory for an archive");
    c->url = *url;
    c->timeout_ms = timeout_ms;
    c->canceled = canceled;
    c->ca_file = getenv("AWS_CA_BUNDLE");
    snprintf(c->archive_url, sizeof c->archive_url, "%s", archive_url);
    snprintf(c->host, sizeof c->host, "%s", strstr(url->origin, "://") + 3);
    int rc = take_secret("AWS_ACCESS_KEY_ID", true, c->key_id, sizeof c->key_id);
    rc = rc ? rc : take_secret("AWS_SECRET_ACCESS_KEY", true, c->secret, sizeof c->secret);
    rc = rc ? rc : take_secret("AWS_SESSION_TOKEN", false, c->token, sizeof c->token);
    rc = rc ? rc : s3_curl_load(&c->api);
    if (!rc && !(c->curl = c->api->easy_init()))
        rc = co_fail(CO_ERR_NOMEM, "no memory for a connection to an archive");
    if (rc)
        s3_client_free(c);
    else
        *out = c;
    return rc;
}

void s3_client_free(struct s3_client *c)
{
    if (!c)
        return;
    if (c->curl)
        c->api->easy_cleanup(c->curl);
    OPENSSL_cleanse(c, sizeof *c);
    free(c);
}

void s3_begin(struct s3_client *c)
{
    c->deadline_us = co_now_us() + (uint64_t)c->timeout_ms * 1000;
}

void s3_answer_free(struct s3_answer *a)
{
    co_buf_free(&a->body);
}

/* -- callbacks of the library ---------------------------------------------------------------------
 */

struct transfer {
    struct s3_client *client;
    struct s3_answer *answer;
    size_t body_max;
    bool too_long, no_memory;
};

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t max = t->answer->status < 300 ? t->body_max : ERROR_BODY_MAX;
    if (size * n > max - t->answer->body.len) {
        t->too_long = true;
        return 0;
    }
    t->no_memory = co_buf_append(&t->answer->body, bytes, size * n) != 0;
    return t->no_memory ? 0 : size * n;
}

/* The value of a header if it has that name, trimmed and in `out`; too long or not printable: "".
 */
static bool take_header(const char *line, size_t len, const char *name, char *out, size_t cap)
{
    size_t n = strlen(name);
    if (len <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
        return false;
    line += n + 1;
    len -= n + 1;
    while (len && (*line == ' ' || *line == '\t'))
        line++, len--;
    while (len && (unsigned char)line[len - 1] <= ' ')
        len--;
    bool good = len < cap;
    for (size_t i = 0; good && i < len; i++)
        good = line[i] >= ' ' && line[i] < 0x7f;
    snprintf(out, cap, "%.*s", good ? (int)len : 0, line);
    return true;
}

static uint64_t number(const char *text)
{
    char *end;
    if (*text < '0' || *text > '9')
        return UINT64_MAX;
    unsigned long long n = strtoull(text, &end, 10);
    return *end ? UINT64_MAX : n;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct s3_answer *a = ((struct transfer *)arg)->answer;
    size_t len = size * n;
    char text[100];
    if (len >= 12 && strncmp(line, "HTTP/", 5) == 0) { /* another answer begins (100 Continue) */
        snprintf(text, sizeof text, "%.*s", 3, line + 9);
        a->status = (long)number(text);
    } else if (take_header(line, len, "content-range", text, sizeof text)) {
        char *slash = strchr(text, '/'), *dash = strchr(text, '-');
        if (dash)
            *dash = 0;
        a->first = dash && strncmp(text, "bytes ", 6) == 0 ? number(text + 6) : UINT64_MAX;
        a->total = slash ? number(slash + 1) : UINT64_MAX;
    } else if (take_header(line, len, "content-length", text, sizeof text)) {
        a->length = number(text);
    } else if (take_header(line, len, "etag", text, sizeof text)) {
        size_t quotes = text[0] == '"' ? 1 : 0, end = strlen(text);
        end -= quotes && end > 1 && text[end - 1] == '"' ? 1 : 0;
        snprintf(a->etag, sizeof a->etag, "%.*s", (int)(end - quotes), text + quotes);
    }
    take_header(line, len, "date", a->date, sizeof a->date);
    take_header(line, len, "x-amz-bucket-region", a->trouble.region, sizeof a->trouble.region);
    take_header(line, len, "x-amz-meta-corallite-id", a->id, sizeof a->id);
    take_header(line, len, "x-amz-meta-corallite-sha256", a->sha256, sizeof a->sha256);
    take_header(line, len, "x-amz-server-side-encryption", a->encryption, sizeof a->encryption);
    return len;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    return atomic_load(((struct transfer *)arg)->client->canceled);
}

/* -- one try --------------------------------------------------------------------------------------
 */

static void time_text(char out[S3_TIME_TEXT])
{
    time_t now = (time_t)(co_wall_us() / 1000000);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(out, S3_TIME_TEXT, "%Y%m%dT%H%M%SZ", &utc);
}

/* The message with the headers of its signature. The texts are borrowed until it was sent. */
static void compose(struct s3_client *c, const struct s3_request *r, const char *path,
                    const char *digest, struct s3_message *m)
{
    *m = (struct s3_message){.method = r->method, .path = path, .payload_sha256 = digest};
    memcpy(m->query, r->query, sizeof r->query);
    m->n_query = r->n_query;
    memcpy(m->headers, r->headers, sizeof r->headers);
    m->n_headers = r->n_headers;
    m->headers[m->n_headers++] = (struct s3_pair){"host", c->host};
    m->headers[m->n_headers++] = (struct s3_pair){"x-amz-content-sha256", digest};
    m->headers[m->n_headers++] = (struct s3_pair){"x-amz-date", c->our_time};
    if (c->token[0])
        m->headers[m->n_headers++] = (struct s3_pair){"x-amz-security-token", c->token};
}

static int add_header(struct s3_client *c, struct curl_slist **list, const char *name,
                      const char *value)
{
    size_t cap = strlen(name) + strlen(value) + 3;
    char *line = malloc(cap);
    struct curl_slist *longer = NULL;
    if (line) {
        snprintf(line, cap, *value ? "%s: %s" : "%s:", name, value);
        longer = c->api->slist_append(*list, line);
        OPENSSL_cleanse(line, cap);
        free(line);
    }
    if (!longer)
        return co_fail(CO_ERR_NOMEM, "no memory for a request to an archive");
    *list = longer;
    return 0;
}

static int add_headers(struct s3_client *c, const struct s3_message *m, struct curl_slist **list)
{
    struct co_buf authorization = {0};
    const struct s3_keys keys = {c->key_id, c->secret};
    int rc = s3_authorization(m, &keys, c->url.region, c->our_time, &authorization);
    rc = rc ? rc : co_buf_append(&authorization, "", 1);
    rc = rc ? rc : add_header(c, list, "authorization", (const char *)authorization.data);
    for (unsigned i = 0; i < m->n_headers && !rc; i++)
        rc = add_header(c, list, m->headers[i].name, m->headers[i].value);
    /* What the library would add by itself. */
    static const char *const not_wanted[] = {"content-type", "expect", "accept"};
    for (size_t i = 0; i < sizeof not_wanted / sizeof *not_wanted && !rc; i++)
        rc = add_header(c, list, not_wanted[i], "");
    co_buf_free(&authorization);
    return rc;
}

static void set_up(struct s3_client *c, const struct s3_request *r, const char *address,
                   struct curl_slist *headers, struct transfer *t)
{
    CURLcode (*set)(CURL *, CURLoption, ...) = c->api->easy_setopt;
    CURL *h = c->curl;
    uint64_t now = co_now_us();
    long left_ms = c->deadline_us > now + 1000 ? (long)((c->deadline_us - now) / 1000) : 1;
    c->api->easy_reset(h);
    set(h, CURLOPT_URL, address);
    set(h, CURLOPT_PATH_AS_IS, 1L);
    set(h, CURLOPT_PROTOCOLS_STR, "http,https");
    set(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    set(h, CURLOPT_NOSIGNAL, 1L);
    set(h, CURLOPT_TIMEOUT_MS, left_ms);
    set(h, CURLOPT_CONNECTTIMEOUT_MS,
        left_ms < CONNECT_TIMEOUT_MS ? left_ms : (long)CONNECT_TIMEOUT_MS);
    set(h, CURLOPT_LOW_SPEED_LIMIT, (long)STALLED_BYTES);
    set(h, CURLOPT_LOW_SPEED_TIME, (long)STALLED_S);
    set(h, CURLOPT_HTTPHEADER, headers);
    set(h, CURLOPT_USERAGENT, "corallite");
    set(h, CURLOPT_WRITEFUNCTION, on_body);
    set(h, CURLOPT_WRITEDATA, t);
    set(h, CURLOPT_HEADERFUNCTION, on_header);
    set(h, CURLOPT_HEADERDATA, t);
    set(h, CURLOPT_XFERINFOFUNCTION, on_progress);
    set(h, CURLOPT_XFERINFODATA, t);
    set(h, CURLOPT_NOPROGRESS, 0L);
    if (c->ca_file && *c->ca_file)
        set(h, CURLOPT_CAINFO, c->ca_file);
    if (strcmp(r->method, "HEAD") == 0) {
        set(h, CURLOPT_NOBODY, 1L);
    } else if (strcmp(r->method, "GET") != 0) {
        if (strcmp(r->method, "DELETE") != 0) {
            set(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
            set(h, CURLOPT_POSTFIELDS, r->body.len ? (const char *)r->body.data : "");
        }
        set(h, CURLOPT_CUSTOMREQUEST, r->method);
    }
}

/* One signed request. What the library says is in *code; CO_ERR_NOMEM alone is returned. */
static int try_once(struct s3_client *c, const struct s3_request *r, const char *digest,
                    struct transfer *t, CURLcode *code)
{
    struct s3_message m;
    struct co_buf address = {0};
    struct curl_slist *headers = NULL;
    char path[1000];
    snprintf(path, sizeof path, "%s%s%s", c->url.root, r->name ? c->url.prefix : "",
             r->name ? r->name : "");
    time_text(c->our_time);
    compose(c, r, path, digest, &m);
    int rc = co_buf_append(&address, c->url.origin, strlen(c->url.origin));
    rc = rc ? rc : s3_target(&m, &address);
    rc = rc ? rc : co_buf_append(&address, "", 1);
    rc = rc ? rc : add_headers(c, &m, &headers);
    if (!rc) {
        struct s3_answer *a = t->answer;
        s3_answer_free(a);
        *a = (struct s3_answer){.length = UINT64_MAX, .first = UINT64_MAX, .total = UINT64_MAX};
        set_up(c, r, (const char *)address.data, headers, t);
        *code = c->api->easy_perform(c->curl);
        c->api->easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL);
    }
    c->api->slist_free_all(headers);
    co_buf_free(&address);
    return rc;
}

/* -- until it is settled --------------------------------------------------------------------------
 */

static bool is_temporary(CURLcode code)
{
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_WEIRD_SERVER_REPLY:
        return true;
    default:
        return false;
    }
}

static const char *at(const struct s3_request *r)
{
    return r->name && *r->name ? r->name : "what is there";
}

static int fail_transfer(struct s3_client *c, const struct s3_request *r, const struct transfer *t,
                         CURLcode code)
{
    if (atomic_load(c->canceled))
        return co_fail(CO_ERR_CANCELED, "the archive %s was closed meanwhile", c->archive_url);
    if (t->no_memory)
        return co_fail(CO_ERR_NOMEM, "no memory for %s of the archive %s", at(r), c->archive_url);
    if (t->too_long)
        return co_fail(CO_ERR_IO,
                       "cannot %s %s in the archive %s: the store sends more than %zu bytes",
                       r->doing, at(r), c->archive_url, r->answer_max_bytes);
    int rc = code == CURLE_OPERATION_TIMEDOUT                                      ? CO_ERR_TIMEOUT
             : code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ? CO_ERR_CONNECT
                                                                                   : CO_ERR_IO;
    bool stranger = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE;
    return co_fail(rc, "cannot %s %s in the archive %s: %s: %s%s", r->doing, at(r), c->archive_url,
                   c->url.origin, c->api->easy_strerror(code),
                   stranger ? "; AWS_CA_BUNDLE names a file with the certificate to trust" : "");
}

int s3_pause(struct s3_client *c, unsigned tries, const char *what)
{
    uint32_t random;
    co_random_bytes(&random, sizeof random);
    uint64_t until = co_now_us() + (uint64_t)s3_wait_ms(tries, random) * 1000;
    if (until >= c->deadline_us)
        return co_fail(CO_ERR_TIMEOUT, "cannot %s in the archive %s within %u ms", what,
                       c->archive_url, c->timeout_ms);
    for (uint64_t now; (now = co_now_us()) < until;) {
        if (atomic_load(c->canceled))
            return co_fail(CO_ERR_CANCELED, "the archive %s was closed meanwhile", c->archive_url);
        uint64_t left = until - now < 50000 ? until - now : 50000;
        nanosleep(&(struct timespec){.tv_nsec = (long)left * 1000}, NULL);
    }
    return 0;
}

int s3_refused(struct s3_client *c, const struct s3_request *r, const struct s3_answer *a)
{
    const struct s3_context context = {.doing = r->doing,
                                       .name = at(r),
                                       .url = c->archive_url,
                                       .bucket = c->url.bucket,
                                       .origin = c->url.origin,
                                       .our_time = c->our_time,
                                       .their_time = a->date,
                                       .writing = r->writing};
    return s3_fail(&context, a->status, &a->trouble);
}

int s3_call(struct s3_client *c, const struct s3_request *r, struct s3_answer *a)
{
    char digest[S3_SHA256_TEXT], region[sizeof a->trouble.region];
    struct transfer t = {.client = c, .answer = a, .body_max = r->answer_max_bytes};
    *a = (struct s3_answer){.status = 0};
    s3_sha256_text(r->body, digest);
    for (unsigned tries = 0;; tries++) {
        CURLcode code = CURLE_OK;
        t.too_long = t.no_memory = false;
        int rc = try_once(c, r, digest, &t, &code);
        if (rc)
            return rc;
        if (code == CURLE_OK && a->status >= 300) {
            snprintf(region, sizeof region, "%s", a->trouble.region);
            s3_trouble_read(co_buf_span(&a->body), &a->trouble);
            if (!a->trouble.region[0])
                snprintf(a->trouble.region, sizeof a->trouble.region, "%s", region);
        }
        bool again = code == CURLE_OK ? s3_is_temporary(a->status, a->trouble.code)
                                      : is_temporary(code) && !atomic_load(c->canceled);
        if (!again && code == CURLE_OK)
            return 0;
        rc = code == CURLE_OK ? s3_refused(c, r, a) : fail_transfer(c, r, &t, code);
        if (!again || tries + 1 >= S3_TRIES || co_now_us() >= c->deadline_us)
            return rc;
        co_debug("archive/s3", "asks again method=%s name=%s status=%ld code=%s tries=%u: %s",
                 r->method, at(r), a->status, a->trouble.code, tries + 1, co_sentence());

        char why[CO_SENTENCE_MAX];
        snprintf(why, sizeof why, "%s", co_sentence());
        if (s3_pause(c, tries, r->doing)) /* the time is over: the reason is that of the last try */
            return atomic_load(c->canceled) ? CO_ERR_CANCELED : co_fail(rc, "%s", why);
    }
}
