#include "cli/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/terminal_file.h"
#include "cli/text.h"

lsn_t status_commit_lsn(const struct status *s, const struct status_timeline *t)
{
    lsn_t newest = 0;
    for (uint32_t i = 0; i < s->n_safekeepers; i++)
        if (t->copy[i].known && t->copy[i].commit_lsn > newest)
            newest = t->copy[i].commit_lsn;
    return newest;
}

uint64_t status_lag_bytes(const struct status *s, const struct status_timeline *t)
{
    lsn_t commit = status_commit_lsn(s, t);
    return commit > t->last_record_lsn ? commit - t->last_record_lsn : 0;
}

void status_count_unread(struct status *s)
{
    for (uint32_t i = 0; i < s->n_timelines; i++)
        if (s->timelines[i].at_pageserver)
            s->archive.lag_bytes += status_lag_bytes(s, &s->timelines[i]);
    if (s->archive.lag_bytes && !s->archive.behind_us)
        s->archive.behind_us = 1;
}

bool status_all_up(const struct status *s)
{
    bool all = s->pageserver.up && s->n_safekeepers > 0;
    for (uint32_t i = 0; i < s->n_safekeepers; i++)
        all = all && s->safekeepers[i].up;
    for (uint32_t i = 0; i < s->n_more; i++)
        all = all && s->more[i].up;
    return all;
}

void status_free(struct status *s)
{
    free(s->timelines);
    s->timelines = NULL;
    s->n_timelines = 0;
}

/* -- Text ---------------------------------------------------------------------------------------
 */

static void print_head(const struct status_node *n, FILE *out)
{
    char pid[32] = "-";
    if (n->pid)
        snprintf(pid, sizeof pid, "%d", n->pid);
    fprintf(out, "%-13s %s%-6s%s %-21s %-8s ", n->name, terminal_tone(n->up ? TONE_GOOD : TONE_BAD),
            n->up    ? "up"
            : n->pid ? "silent"
                     : "down",
            terminal_end(), n->address, pid);
}

static void print_safekeeper(const struct status_node *n, FILE *out)
{
    char up[TEXT_MAX], disk[TEXT_MAX], in[TEXT_MAX], sent[TEXT_MAX];
    print_head(n, out);
    if (!n->up) {
        fprintf(out, "%s\n", n->trouble);
        return;
    }
    fprintf(out, "%-13s %-11s %-10s %-10s %4u timelines, %llu records in %llu syncs\n",
            text_duration(n->uptime_us, up), text_bytes(n->disk_bytes, disk),
            text_bytes(n->bytes_in, in), text_bytes(n->bytes_out, sent), (unsigned)n->timelines,
            (unsigned long long)n->records, (unsigned long long)n->syncs);
}

static void print_pageserver(const struct status_node *n, bool two, FILE *out)
{
    char up[TEXT_MAX], disk[TEXT_MAX], in[TEXT_MAX], sent[TEXT_MAX];
    print_head(n, out);
    if (!n->up) {
        fprintf(out, "%s\n", n->trouble);
        return;
    }
    fprintf(out, "%-13s %-11s %-10s %-10s %4u timelines, %llu records, %llu pages served%s%s",
            text_duration(n->uptime_us, up), text_bytes(n->disk_bytes, disk),
            text_bytes(n->bytes_in, in), text_bytes(n->bytes_out, sent), (unsigned)n->timelines,
            (unsigned long long)n->records, (unsigned long long)n->pages_served,
            n->http[0] ? ", http " : "", n->http);
    if (two)
        fprintf(out, ", %s%s, %s behind", n->follows[0] ? "follows " : "owns the catalog",
                n->follows, text_bytes(n->lag_bytes, disk));
    if (n->follows[0] && n->owner_silent_us == UINT64_MAX)
        fputs(", never heard that one", out);
    else if (n->follows[0] && n->owner_silent_us > 3000000)
        fprintf(out, ", last heard that one %s ago", text_duration(n->owner_silent_us, up));
    fputc('\n', out);
}

static void print_copy(const struct status_node *n, const struct status_copy *c, FILE *out)
{
    char flush[LSN_TEXT], commit[LSN_TEXT], in[TEXT_MAX], each[TEXT_MAX];
    fprintf(out, "  %-13s ", n->name);
    if (!c->known) {
        fprintf(out, "%s\n", n->up ? "does not have it" : "no answer");
        return;
    }
    if (c->refused[0]) {
        fprintf(out, "refuses it: %s\n", c->refused);
        return;
    }
    fprintf(out, "term %-6llu flush %s  commit %s  %s  %llu records, %s in",
            (unsigned long long)c->term, lsn_format(c->flush_lsn, flush),
            lsn_format(c->commit_lsn, commit), c->lease_held ? "lease held" : "lease free",
            (unsigned long long)c->records, text_bytes(c->bytes_in, in));
    if (c->records)
        fprintf(out, " (%s a record)", text_bytes(c->bytes_in / c->records, each));
    fputc('\n', out);
}

/* What the pageserver keeps of this branch alone; what it shares is told of the branch it grew
 * from.
 */
static void print_stored(const struct status_timeline *t, FILE *out)
{
    char stored[TEXT_MAX], each[TEXT_MAX], commit[TEXT_MAX];
    uint64_t all = t->version_bytes + t->commit_bytes;
    fprintf(out, "  %-13s %s stored: %llu versions of pages", "", text_bytes(all, stored),
            (unsigned long long)t->versions);
    if (t->versions)
        fprintf(out, " (%llu whole, %s each)", (unsigned long long)t->images,
                text_bytes(t->version_bytes / t->versions, each));
    fprintf(out, ", %llu commits", (unsigned long long)t->commits);
    if (t->commits)
        fprintf(out, " (%s each)", text_bytes(all / t->commits, commit));
    fputc('\n', out);
}

static void print_timeline(const struct status *s, const struct status_timeline *t, FILE *out)
{
    char lsn[LSN_TEXT], size[TEXT_MAX], lag[TEXT_MAX];
    fprintf(out, "\n%s", t->name);
    if (t->at_pageserver)
        fprintf(out, "  %s, pageserver at %s, %s behind the log\n",
                text_bytes((uint64_t)t->db_pages * t->page_size, size),
                lsn_format(t->last_record_lsn, lsn), text_bytes(status_lag_bytes(s, t), lag));
    else
        fprintf(out, "  %s\n",
                s->pageserver.up
                    ? "not listed by the pageserver (a dropped branch is kept for those that grew "
                      "from it)"
                    : "");
    if (t->at_pageserver)
        print_stored(t, out);
    for (uint32_t i = 0; i < s->n_safekeepers; i++)
        print_copy(&s->safekeepers[i], &t->copy[i], out);
}

static void print_archive(const struct status *s, FILE *out)
{
    char lag[TEXT_MAX], behind[TEXT_MAX], when[TEXT_MAX];
    if (!s->archive.url[0])
        return;
    fprintf(out, "\narchive %s\n", s->archive.url);
    if (s->archive.behind_us == 0)
        fprintf(out, "  has everything that is committed; its newest manifest is of %s\n",
                text_time(s->archive.archived_us, when));
    else
        fprintf(out, "  %s of log behind, for %s; has what was committed by %s\n",
                text_bytes(s->archive.lag_bytes, lag), text_duration(s->archive.behind_us, behind),
                text_time(s->archive.archived_us, when));
    if (s->archive.trouble[0])
        fprintf(out, "  not archived, tried again: %s\n", s->archive.trouble);
}

void status_print(const struct status *s, FILE *out)
{
    char id[CO_ID_TEXT];
    if (!co_id_is_zero(&s->cluster))
        fprintf(out, "cluster %s%s%s\n\n", co_id_format(&s->cluster, id), s->dir[0] ? " in " : "",
                s->dir);
    fprintf(out, "%-13s %-6s %-21s %-8s %-13s %-11s %-10s %-10s\n", "DAEMON", "STATE", "ADDRESS",
            "PID", "UPTIME", "ON DISK", "RECEIVED", "SENT");
    print_pageserver(&s->pageserver, s->n_more > 0 || s->pageserver.follows[0], out);
    for (uint32_t i = 0; i < s->n_more; i++)
        print_pageserver(&s->more[i], true, out);
    for (uint32_t i = 0; i < s->n_safekeepers; i++)
        print_safekeeper(&s->safekeepers[i], out);
    print_archive(s, out);
    for (uint32_t i = 0; i < s->n_timelines; i++)
        print_timeline(s, &s->timelines[i], out);
}

/* -- JSON ---------------------------------------------------------------------------------------
 */

static json_t *number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *lsn_json(lsn_t lsn)
{
    char text[LSN_TEXT];
    return json_string(lsn_format(lsn, text));
}

static json_t *id_json(const struct co_id *id)
{
    char text[CO_ID_TEXT];
    return json_string(co_id_format(id, text));
}

static json_t *archive_json(const struct status *s)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "url",
                                  s->archive.url[0] ? json_string(s->archive.url) : json_null());
    bad |= json_object_set_new(o, "lag_bytes", number(s->archive.lag_bytes));
    bad |= json_object_set_new(o, "behind_us", number(s->archive.behind_us));
    bad |= json_object_set_new(o, "archived_us", number(s->archive.archived_us));
    bad |= json_object_set_new(
        o, "trouble", s->archive.trouble[0] ? json_string(s->archive.trouble) : json_null());
    if (!bad)
        return o;
    json_decref(o);
    return NULL;
}

static json_t *node_json(const struct status_node *n, bool pageserver)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "name", json_string(n->name));
    bad |= json_object_set_new(o, "address", json_string(n->address));
    bad |= json_object_set_new(o, "up", json_boolean(n->up));
    if (n->local)
        bad |= json_object_set_new(o, "pid", n->pid ? number((uint64_t)n->pid) : json_null());
    if (!pageserver)
        bad |= json_object_set_new(o, "node", number(n->node));
    if (!n->up) {
        bad |= json_object_set_new(o, "trouble", json_string(n->trouble));
    } else {
        bad |= json_object_set_new(o, "uptime_us", number(n->uptime_us));
        bad |= json_object_set_new(o, "disk_bytes", number(n->disk_bytes));
        bad |= json_object_set_new(o, "records", number(n->records));
        bad |= json_object_set_new(o, "bytes_in", number(n->bytes_in));
        bad |= json_object_set_new(o, "bytes_out", number(n->bytes_out));
        bad |= json_object_set_new(o, "timelines", number(n->timelines));
        if (pageserver) {
            bad |= json_object_set_new(o, "pages_served", number(n->pages_served));
            bad |= json_object_set_new(o, "lag_bytes", number(n->lag_bytes));
            bad |= json_object_set_new(o, "follows",
                                       n->follows[0] ? json_string(n->follows) : json_null());
        }
        if (!pageserver)
            bad |= json_object_set_new(o, "syncs", number(n->syncs));
    }
    if (!bad)
        return o;
    json_decref(o);
    return NULL;
}

static json_t *copy_json(const struct status_node *n, const struct status_copy *c)
{
    json_t *o = json_object();
    int bad = json_object_set_new(o, "node", number(n->node));
    bad |= json_object_set_new(o, "known", json_boolean(c->known));
    if (c->known) {
        bad |= json_object_set_new(o, "term", number(c->term));
        bad |= json_object_set_new(o, "flush_lsn", lsn_json(c->flush_lsn));
        bad |= json_object_set_new(o, "commit_lsn", lsn_json(c->commit_lsn));
        bad |= json_object_set_new(o, "lease_held", json_boolean(c->lease_held));
        bad |= json_object_set_new(o, "records", number(c->records));
        bad |= json_object_set_new(o, "bytes_in", number(c->bytes_in));
        bad |= json_object_set_new(o, "refused",
                                   c->refused[0] ? json_string(c->refused) : json_null());
    }
    if (!bad)
        return o;
    json_decref(o);
    return NULL;
}

static json_t *timeline_json(const struct status *s, const struct status_timeline *t)
{
    json_t *o = json_object(), *copies = json_array();
    int bad = json_object_set_new(o, "name", json_string(t->name));
    bad |= json_object_set_new(o, "id", id_json(&t->id));
    bad |= json_object_set_new(o, "listed", json_boolean(t->at_pageserver));
    bad |= json_object_set_new(o, "last_record_lsn", lsn_json(t->last_record_lsn));
    bad |= json_object_set_new(o, "commit_lsn", lsn_json(status_commit_lsn(s, t)));
    bad |= json_object_set_new(o, "lag_bytes", number(status_lag_bytes(s, t)));
    bad |= json_object_set_new(o, "db_pages", number(t->db_pages));
    bad |= json_object_set_new(o, "page_size", number(t->page_size));
    bad |= json_object_set_new(o, "logical_bytes", number((uint64_t)t->db_pages * t->page_size));
    bad |= json_object_set_new(o, "stored_bytes", number(t->version_bytes + t->commit_bytes));
    bad |= json_object_set_new(o, "versions", number(t->versions));
    bad |= json_object_set_new(o, "images", number(t->images));
    bad |= json_object_set_new(o, "version_bytes", number(t->version_bytes));
    bad |= json_object_set_new(o, "commits", number(t->commits));
    bad |= json_object_set_new(o, "commit_bytes", number(t->commit_bytes));
    for (uint32_t i = 0; i < s->n_safekeepers; i++)
        bad |= json_array_append_new(copies, copy_json(&s->safekeepers[i], &t->copy[i]));
    bad |= json_object_set_new(o, "safekeepers", copies);
    if (!bad)
        return o;
    json_decref(o);
    return NULL;
}

int status_print_json(const struct status *s, FILE *out)
{
    json_t *root = json_object(), *nodes = json_array(), *timelines = json_array();
    json_t *all = json_array();
    int bad = json_object_set_new(root, "cluster", id_json(&s->cluster));
    bad |= json_object_set_new(root, "dir", s->dir[0] ? json_string(s->dir) : json_null());
    bad |= json_object_set_new(root, "all_up", json_boolean(status_all_up(s)));
    bad |= json_object_set_new(root, "pageserver", node_json(&s->pageserver, true));
    for (uint32_t i = 0; i < s->n_safekeepers; i++)
        bad |= json_array_append_new(nodes, node_json(&s->safekeepers[i], false));
    bad |= json_object_set_new(root, "safekeepers", nodes);
    bad |= json_object_set_new(root, "archive", archive_json(s));
    bad |= json_array_append_new(all, node_json(&s->pageserver, true));
    for (uint32_t i = 0; i < s->n_more; i++)
        bad |= json_array_append_new(all, node_json(&s->more[i], true));
    bad |= json_object_set_new(root, "pageservers", all);
    for (uint32_t i = 0; i < s->n_timelines; i++)
        bad |= json_array_append_new(timelines, timeline_json(s, &s->timelines[i]));
    bad |= json_object_set_new(root, "timelines", timelines);
    int rc = bad ? co_fail(CO_ERR_NOMEM, "there is no memory for the answer") : 0;
    if (!rc && (json_dumpf(root, out, JSON_INDENT(2)) != 0 || fputc('\n', out) == EOF))
        rc = co_fail(CO_ERR_IO, "the answer cannot be written");
    json_decref(root);
    return rc;
}
