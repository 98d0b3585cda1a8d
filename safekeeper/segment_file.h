/*
 * segment_file.h - the bytes of a timeline's log, in segment files. Knows LSNs, not records.
 *
 * DIR/timelines/<id>/log/<first LSN, 16 hex digits>.seg. Segment k holds the LSNs [k*P, (k+1)*P),
 * where P = SK_SEGMENT_DATA; the byte of an LSN is at file offset 4096 + (lsn - k*P). Every file is
 * exactly CO_SEGMENT_BYTES long. Its first page:
 *
 *      0   8  magic "CORALSEG"
 *      8   4  format version (1)
 *     12   4  node id
 *     16  16  cluster id
 *     32  16  timeline id
 *     48   8  first LSN (k*P)
 *     56   4  CRC-32C of the bytes before
 *     60      zero
 *
 * Invariants
 *   L1 segments are contiguous: from the one of the LSN that the log begins at to the last. Files
 *      below that are what a crash left of a removal.
 *   L2 a file appears under its name only when its header is durable (temporary name, fsync,
 * rename, fsync of the directory). L3 behind the end of the log every byte reads as zero, so that a
 * remnant of an older log can never be taken for a record behind a shorter newer one. L4 ahead of
 * the end lie written zeros (sk_segments_prepare), so that making a record durable overwrites
 * blocks that the file has already and fdatasync need not wait for the file system's journal. A log
 * that outruns the preparation still works, only slower.
 *
 * Threads: one user at a time.
 */
#ifndef CORALLITE_SAFEKEEPER_SEGMENT_FILE_H
#define CORALLITE_SAFEKEEPER_SEGMENT_FILE_H

#include "proto/lsn.h"
#include "safekeeper/control_file.h"

#define SK_SEGMENT_HEADER 4096u
#define SK_SEGMENT_DATA   (sk_segment_bytes - SK_SEGMENT_HEADER)
#define SK_SEGMENT_FDS    4u

/* CO_SEGMENT_BYTES; smaller only in the simulator, before the first log is made. */
extern unsigned long long sk_segment_bytes;

struct sk_segments {
    char dir[SK_PATH_MAX]; /* .../log */
    struct sk_owner owner;
    uint64_t first, last; /* segment numbers that exist */
    lsn_t prepared_lsn;   /* up to here the last segment holds written bytes or zeros */
    struct {
        uint64_t number;
        int fd; /* -1: free */
        bool dirty;
        uint64_t used; /* for the eviction of the least recently used */
    } open[SK_SEGMENT_FDS];
    uint64_t tick;
    uint64_t syncs; /* fdatasync calls made by sk_segments_sync */
};

/* Makes dir and the first segment, durable but for the entry of `dir` in its parent. Nobody relies
 * on the directory before it returns: a crash may leave the segment half made. */
CO_MUST_CHECK int sk_segments_create(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                                     struct sk_segments *out);
/* Opens, checking names, lengths and headers of all segments (L1, L2). CO_ERR_CORRUPT names the
 * file; CO_ERR_VERSION. */
CO_MUST_CHECK int sk_segments_open(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                                   struct sk_segments *out);
/* Makes files of a log that sk_segments_open refuses such that it takes them: missing ones are
 * made, empty; a wrong length or first page is put right. `aside` is called before a file is
 * changed (to keep a copy of it), `done` when it was. What the records in them are worth is not
 * looked at. */
struct sk_mend_files {
    int (*aside)(void *arg, const char *path);
    int (*done)(void *arg, const char *path);
    void *arg;
};
CO_MUST_CHECK int sk_segments_mend(const char *dir, const struct sk_owner *owner, lsn_t start_lsn,
                                   lsn_t known_lsn, const struct sk_mend_files *how);
/* Before an open, of a log whose begin was dropped: removes the files below the segment of lsn,
 * which a crash may have left. */
CO_MUST_CHECK int sk_segments_sweep(const char *dir, lsn_t lsn);
/* Before an open: no file of the log counts, it is empty and begins at lsn. */
CO_MUST_CHECK int sk_segments_restart(const char *dir, const struct sk_owner *owner, lsn_t lsn);
/* Says where the log ends, once the scan knows: the preparation goes on behind it. Where the
 * written zeros end the file system tells (SEEK_HOLE; where it keeps no count: the end of the
 * file). */
CO_MUST_CHECK int sk_segments_set_end(struct sk_segments *s, lsn_t end_lsn);
void sk_segments_close(struct sk_segments *s);
/* Closes the descriptors that hold nothing unsynced; they reopen by themselves. */
void sk_segments_rest(struct sk_segments *s);

/* First LSN behind the existing segments. */
lsn_t sk_segments_end(const struct sk_segments *s);
/* Path of the file that holds an LSN, and the LSN's offset in it. For sentences too. */
CO_MUST_CHECK int sk_segments_path(const struct sk_segments *s, lsn_t lsn, char path[SK_PATH_MAX],
                                   uint64_t *offset);

/* The first LSN at or behind `lsn` where the files hold bytes that were ever written, else
 * sk_segments_end: what lies between reads as zeros. A file system that keeps no count answers
 * `lsn`. */
CO_MUST_CHECK int sk_segments_next_data(struct sk_segments *s, lsn_t lsn, lsn_t *out);
/* Raw bytes; [lsn, lsn + len) lies within the segments. */
CO_MUST_CHECK int sk_segments_read(struct sk_segments *s, lsn_t lsn, void *out, size_t len);
/* Writes, making segments as needed; not durable until sk_segments_sync. */
CO_MUST_CHECK int sk_segments_write(struct sk_segments *s, lsn_t lsn, struct co_span bytes);
CO_MUST_CHECK int sk_segments_sync(struct sk_segments *s);
/* Syncs the segments from the one of `lsn` on, whoever wrote to them. */
CO_MUST_CHECK int sk_segments_sync_from(struct sk_segments *s, lsn_t lsn);

/* Makes every byte at and behind lsn zero, durably (L3). Segments behind are removed, last first.
 */
CO_MUST_CHECK int sk_segments_cut(struct sk_segments *s, lsn_t lsn);

/* Removes the segments below that of lsn, which lies within the log. */
CO_MUST_CHECK int sk_segments_drop(struct sk_segments *s, lsn_t lsn);
/* Removes all of them, and makes the one of lsn, empty. */
CO_MUST_CHECK int sk_segments_empty(struct sk_segments *s, lsn_t lsn);

/* One step of preparation (L4): at most 1 MiB of zeros, synced, or one new segment. *more: there is
 * another step to do before `ahead` bytes behind write_lsn are prepared. */
CO_MUST_CHECK int sk_segments_prepare(struct sk_segments *s, lsn_t write_lsn, uint64_t ahead,
                                      bool *more);

#endif
