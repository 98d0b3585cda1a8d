#include "archive/report.h"

#include "proto/when.h"

bool ar_line_find(const Corallite__ArchiveState *state, const struct co_id *id, struct ar_line *out)
{
    for (size_t i = 0; i < state->n_lines; i++) {
        const Corallite__Timeline *t = state->lines[i]->timeline;
        if (t && t->id.len == sizeof id->b && memcmp(t->id.data, id->b, sizeof id->b) == 0)
            return ar_line_read(state->lines[i], out) == 0;
    }
    return false;
}

bool ar_line_whole(const Corallite__ArchiveState *state, const struct ar_line *line,
                   struct ar_line *lacks)
{
    struct ar_line at = *line, up;
    *lacks = (struct ar_line){.end = 0};
    for (unsigned depth = 0; !co_id_is_zero(&at.ancestor); depth++) {
        if (depth > CO_BRANCH_DEPTH_MAX || !ar_line_find(state, &at.ancestor, &up))
            return false;
        if (up.end < at.ancestor_lsn) {
            *lacks = up;
            return false;
        }
        at = up;
    }
    return true;
}

static void report_line(const Corallite__ArchiveState *state, const struct ar_line *line, FILE *out)
{
    struct ar_line lacks;
    char time[WHEN_TEXT], lsn[LSN_TEXT];
    lsn_format(line->end, lsn);
    if (!ar_line_whole(state, line, &lacks)) {
        fprintf(out, "  %-24s NOT THERE: it grew from %s, of which too little is archived\n",
                line->name, lacks.name[0] ? lacks.name : "a branch that is not archived");
        return;
    }
    if (line->time_us)
        fprintf(out, "  %-24s up to its commit of %s (lsn %s)", line->name,
                when_format(line->time_us, time), lsn);
    else
        fprintf(out, "  %-24s without commits of its own (lsn %s)", line->name, lsn);
    if (line->known > line->end)
        fprintf(out, "; %llu bytes of its log, committed by then, are MISSING",
                (unsigned long long)(line->known - line->end));
    fputc('\n', out);
}

void ar_report(const Corallite__ArchiveState *state, FILE *out)
{
    struct ar_line line;
    char time[WHEN_TEXT];
    when_format(state->time_us, time);
    fprintf(out, "archived as of %s (generation %llu, manifest %llu), %zu branches, %zu pins\n",
            time, (unsigned long long)state->generation, (unsigned long long)state->sequence,
            state->n_lines, state->n_pins);
    for (size_t i = 0; i < state->n_lines; i++)
        if (ar_line_read(state->lines[i], &line) == 0 && !line.timeline->hidden)
            report_line(state, &line, out);
    fprintf(out, "What was committed after %s may be missing: commits, branches, pins, drops.\n",
            time);
}
