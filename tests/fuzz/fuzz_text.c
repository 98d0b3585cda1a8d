/*
 * fuzz_text.c - what people and programs write: URIs, names, moments, addresses, sizes, references,
 * command lines, the files of a local cluster.
 *
 *   byte 0: which of the functions at the end; the rest: text
 *
 * What holds: what was accepted is written in its one spelling and read as the same; a proposed
 * name is a name; what is refused is refused with a sentence.
 */
#include "cli/args.h"
#include "cli/cluster.h"
#include "cli/ref.h"
#include "common/log.h"
#include "common/main_file.h"
#include "compute-vfs/uri.h"
#include "proto/peer_sock.h"
#include "proto/plain_path.h"
#include "proto/when.h"
#include "tests/fuzz/fuzz.h"

#define NOW 1700000000000000u

static bool ok(int rc)
{
    FUZZ_CHECK(rc == 0 || (rc < 0 && co_sentence()[0]));
    return rc == 0;
}

static void uri_and_back(const struct cv_uri *uri)
{
    char path[CV_PATH_MAX], again[CV_PATH_MAX];
    struct cv_uri back;
    cv_uri_filename(uri, path);
    FUZZ_CHECK(cv_uri_is_path(path));
    cv_uri_init(&back);
    back.usual_server = uri->usual_server;
    FUZZ_CHECK(cv_uri_from_path(&back, path) == 0);
    FUZZ_CHECK(strcmp(back.db, uri->db) == 0 && strcmp(back.branch, uri->branch) == 0);
    cv_uri_filename(&back, again);
    FUZZ_CHECK(strcmp(path, again) == 0);
}

/* Name, then parameters, each ended by a newline: as SQLite hands a URI over. */
static void uri(char *text)
{
    struct cv_uri u;
    char *name = strsep(&text, "\n"), *key;
    bool good = true;
    cv_uri_init(&u);
    u.usual_server = CV_SERVER_DEFAULT;
    good = ok(cv_uri_name(&u, name));
    while (text && (key = strsep(&text, "\n"))) {
        char *value = strchr(key, '=');
        if (value)
            *value++ = 0;
        (void)cv_uri_is_ours(key);
        good &= ok(cv_uri_param(&u, key, value ? value : ""));
    }
    if (good && ok(cv_uri_check(&u))) {
        FUZZ_CHECK(name_check(u.db) == 0 && name_check(u.branch) == 0);
        uri_and_back(&u);
    }
}

static void uri_whole(char *text)
{
    struct cv_uri u;
    const char *within = cv_uri_within(text);
    cv_uri_init(&u);
    u.usual_server = CV_SERVER_DEFAULT;
    if (within && ok(cv_uri_text(&u, within)))
        uri_and_back(&u);
    cv_uri_init(&u);
    u.usual_server = CV_SERVER_DEFAULT;
    if (cv_uri_is_path(text) && ok(cv_uri_from_path(&u, text)))
        uri_and_back(&u);
}

static void moment(char *text)
{
    char spelled[WHEN_TEXT], db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    char at[WHEN_AT_MAX];
    struct when w, again;
    if (ok(when_parse(text, NOW, &w))) {
        FUZZ_CHECK(w.kind <= WHEN_PIN && (w.kind != WHEN_TIME || w.time_us <= NOW));
        FUZZ_CHECK(w.kind != WHEN_PIN || name_check(w.pin) == 0);
        if (w.kind == WHEN_TIME) {
            when_format(w.time_us, spelled);
            FUZZ_CHECK(when_parse(spelled, NOW, &again) == 0);
            FUZZ_CHECK(again.kind == WHEN_TIME && again.time_us == w.time_us);
        }
    }
    if (ok(when_split_ref(text, db, branch, at)))
        FUZZ_CHECK(name_check(db) == 0 && name_check(branch) == 0);
}

static void position(char *text)
{
    char spelled[LSN_TEXT], id[LSN_COMMIT_ID_TEXT], hex[CO_ID_TEXT];
    lsn_t lsn, again;
    term_t term, term_again;
    struct co_id uuid, uuid_again;
    if (ok(lsn_parse(text, &lsn))) {
        FUZZ_CHECK(lsn_parse(lsn_format(lsn, spelled), &again) == 0 && again == lsn);
    }
    if (ok(lsn_commit_id_parse(text, &term, &lsn))) {
        lsn_commit_id_format(term, lsn, id);
        FUZZ_CHECK(lsn_commit_id_parse(id, &term_again, &again) == 0);
        FUZZ_CHECK(term_again == term && again == lsn);
    }
    if (ok(co_id_parse(text, &uuid))) {
        FUZZ_CHECK(co_id_parse(co_id_format(&uuid, hex), &uuid_again) == 0);
        FUZZ_CHECK(co_id_eq(&uuid, &uuid_again));
    }
}

static void name(char *text)
{
    char db[CO_NAME_MAX_BYTES + 1], branch[CO_NAME_MAX_BYTES + 1];
    name_propose(text, db);
    FUZZ_CHECK(name_check(db) == 0);
    if (ok(name_check(text)))
        FUZZ_CHECK(strlen(text) <= CO_NAME_MAX_BYTES);
    if (ok(name_split(text, db, branch)))
        FUZZ_CHECK(name_check(db) == 0 && name_check(branch) == 0);
    char *path = strchr(text, '\n');
    if (path)
        *path++ = 0;
    if (ok(plain_path_check(text)) && path)
        (void)plain_path_matches(text, path);
    if (path && *path == '/') {
        plain_path_database(path, db);
        FUZZ_CHECK(name_check(db) == 0);
    }
}

static void address(char *text)
{
    char host[256];
    uint16_t port;
    uint64_t n;
    uint32_t ms;
    enum co_log_level level;
    enum co_log_format format;
    if (ok(co_parse_address("--it", text, host, &port)))
        FUZZ_CHECK(host[0]);
    if (ok(co_split_address("it", text, 7, host, &port)))
        FUZZ_CHECK(host[0] && (co_is_loopback(host) || true));
    if (ok(psock_split_address(text, 7, host, &port)))
        FUZZ_CHECK(host[0]);
    (void)ok(co_parse_size("--it", text, &n));
    (void)ok(co_parse_duration("--it", text, &n));
    (void)ok(co_log_parse_level(text, &level));
    (void)ok(co_log_parse_format(text, &format));
    if (ok(cv_parse_ms("it", text, &ms)))
        (void)ms;
    if (ok(ref_parse_lifetime(text, &n)))
        FUZZ_CHECK(n > 0);
}

static void ref(char *text)
{
    struct ref r, again, source;
    char back[REF_TEXT], spelled[REF_TEXT + WHEN_AT_MAX + 2], at[REF_URI];
    if (ok(ref_parse(text, NOW, &r))) {
        FUZZ_CHECK(name_check(r.db) == 0 && name_check(r.branch) == 0);
        (void)ref_uri(&r, 4096, at);
        snprintf(spelled, sizeof spelled, "%s%s%s", ref_format(r.db, r.branch, back),
                 r.at[0] ? "@" : "", r.at);
        FUZZ_CHECK(ref_parse(spelled, NOW, &again) == 0);
        FUZZ_CHECK(strcmp(r.db, again.db) == 0 && strcmp(r.branch, again.branch) == 0);
        FUZZ_CHECK(strcmp(r.at, again.at) == 0);
        (void)ok(ref_parse_source(text, &r, NOW, &source));
    }
    (void)ok(ref_parse_head(text, "a branch", &r));
    (void)ok(ref_parse_branch(text, "branch create", &r));
}

static void cluster_files(char *text)
{
    struct cluster c = {.dir = "/d"}, again = {.dir = "/d"};
    char out[CLUSTER_TEXT_MAX];
    struct cluster_pid pid;
    uint64_t ticks;
    uint16_t port;
    unsigned node;
    if (ok(cluster_parse(text, "/d/cluster", &c))) {
        cluster_format(&c, out);
        FUZZ_CHECK(cluster_parse(out, "/d/cluster", &again) == 0);
        FUZZ_CHECK(co_id_eq(&c.id, &again.id) && c.port_base == again.port_base);
        FUZZ_CHECK(c.n == again.n && c.owner == again.owner && c.n <= CLUSTER_NODES_MAX);
        FUZZ_CHECK(cluster_owner(&c) < c.n);
    }
    if (cluster_parse_pid(text, &pid))
        FUZZ_CHECK(pid.pid > 0 && memchr(pid.boot, 0, sizeof pid.boot));
    (void)cluster_parse_stat(text, &ticks);
    (void)cluster_log_message(text);
    if (ok(cluster_parse_port_base(text, &port)))
        FUZZ_CHECK(port >= 1024 && port <= 65535 - 15);
    cluster_default(&c);
    if (ok(cluster_node_by_name(&c, text, &node)))
        FUZZ_CHECK(node < c.n);
}

/* Words, each ended by a newline. */
static void command_line(char *text)
{
    static const struct cli_option options[] = {{"--dir", 'd', "D", "a directory"},
                                                {"--json", 0, NULL, "as JSON"},
                                                {"--yes", 'y', NULL, "without asking"},
                                                {NULL, 0, NULL, NULL}};
    static const struct cli_grammar grammar = {"verb", options, 0, 4, false};
    char *argv[32];
    int argc = 0;
    struct cli_args args;
    while (text && argc < 31)
        argv[argc++] = strsep(&text, "\n");
    argv[argc] = NULL;
    if (ok(cli_parse(&grammar, argc, argv, &args)))
        FUZZ_CHECK(args.help || (args.n_words >= 0 && args.n_words <= 4));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const all[])(char *) = {uri,     uri_whole, moment,        position,    name,
                                          address, ref,       cluster_files, command_line};
    struct fuzz_in in = {data, size};
    unsigned which = (unsigned)fuzz_number(&in, 1);
    if (which >= FUZZ_SECOND) {
        fuzz_http(in);
        return 0;
    }
    which %= sizeof all / sizeof *all;
    AUTO_FREE char *text = (char *)fuzz_copy(co_span_of(in.p, in.n), true);
    all[which](text);
    return 0;
}
