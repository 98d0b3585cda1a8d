/*
 * error.h - the one table of errors, and the sentence that goes with one.
 *
 * A function that can fail returns 0 or a negative CO_ERR_* and is marked CO_MUST_CHECK. Beside the
 * code it leaves a sentence for a person (what was wanted, what there was, what to do) with
 * co_fail(); co_sentence() reads the calling thread's last one. Library codes (errno, LMDB, uv,
 * zstd) are translated once, where the library is called.
 *
 * Threads: the sentence is thread-local. Whoever hands an error to another thread copies it.
 */
#ifndef CORALLITE_COMMON_ERROR_H
#define CORALLITE_COMMON_ERROR_H

#define CO_MUST_CHECK   __attribute__((warn_unused_result))
#define CO_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* What a caller may do about it. */
enum co_error_class {
    CO_CLASS_NONE,    /* not an error */
    CO_CLASS_RETRY,   /* may succeed later without a change by anybody */
    CO_CLASS_PEER,    /* the other side refused or is of another kind */
    CO_CLASS_INPUT,   /* the request cannot be right */
    CO_CLASS_STORAGE, /* durable state is damaged or cannot be written */
    CO_CLASS_BUG,     /* must not happen */
};

/* clang-format off */
#define CO_ERRORS(X) \
    X(INVAL,       1, INPUT,   "the argument is not valid") \
    X(NAME,        2, INPUT,   "the name is not allowed") \
    X(NOT_FOUND,   3, INPUT,   "there is no such thing") \
    X(EXISTS,      4, INPUT,   "it exists already") \
    X(READONLY,    5, INPUT,   "it is read-only") \
    X(TOO_LARGE,   6, INPUT,   "it is larger than the limit") \
    X(DROPPED,     7, INPUT,   "the timeline was dropped") \
    X(GONE,        8, INPUT,   "that moment is older than what is kept") \
    X(TIMEOUT,    20, RETRY,   "the deadline passed") \
    X(LAG,        21, RETRY,   "the pageserver has not got that far in the log yet") \
    X(CONNECT,    22, RETRY,   "no connection could be made") \
    X(CLOSED,     23, RETRY,   "the peer closed the connection") \
    X(NO_QUORUM,  24, RETRY,   "fewer than a majority of the safekeepers answer") \
    X(BUSY,       25, RETRY,   "somebody else holds it") \
    X(AGAIN,      26, RETRY,   "more input is needed, or ask again") \
    X(CANCELED,   27, RETRY,   "the caller gave up") \
    X(LOCKED,     28, RETRY,   "somebody else has a write transaction open") \
    X(FOLLOWER,   29, RETRY,   "only the pageserver that owns the catalog can do that") \
    X(TRUNCATED,  30, RETRY,   "that part of the log is kept no more; the archive has it") \
    X(REGRESSED,  31, STORAGE, "the disk of the safekeeper went back in time") \
    X(PROTOCOL,   40, PEER,    "the peer sent something that the protocol does not allow") \
    X(VERSION,    41, PEER,    "the format or protocol version is not one this build knows") \
    X(CLUSTER,    42, PEER,    "it belongs to another cluster") \
    X(NODE,       43, PEER,    "it is another node than the one expected") \
    X(STALE_TERM, 44, PEER,    "a newer term exists") \
    X(STALE_CONFIG,45,PEER,    "a newer configuration exists") \
    X(LOST,       46, PEER,    "the transaction is surely not in the database") \
    X(UNKNOWN,    47, PEER,    "it is not known whether the transaction is in the database") \
    X(CLOCK,      48, PEER,    "the clocks differ too much") \
    X(IO,         60, STORAGE, "input or output failed") \
    X(CORRUPT,    61, STORAGE, "stored bytes are damaged") \
    X(FULL,       62, STORAGE, "there is no space") \
    X(HALTED,     63, STORAGE, "the timeline is halted because its state contradicts itself") \
    X(NOMEM,      64, STORAGE, "there is no memory") \
    X(BUG,        80, BUG,     "this is a defect in Corallite")
/* clang-format on */

enum co_error {
    CO_OK = 0,
#define CO_X(name, number, cls, text) CO_ERR_##name = -(number),
    CO_ERRORS(CO_X)
#undef CO_X
};

/* Name ("NOT_FOUND"), text and class of a code; of an unknown one "?", "unknown error", BUG.
 * Static strings. */
const char *co_error_name(int code);
const char *co_error_text(int code);
enum co_error_class co_error_class(int code);

/* Keeps the sentence (at most CO_SENTENCE_MAX-1 bytes, cut) for this thread and returns `code`. */
#define CO_SENTENCE_MAX 1024
int co_fail(int code, const char *format, ...) CO_PRINTF(2, 3);

/* As co_fail, with ": " and the text of `err_no` (an errno value) appended. */
int co_fail_errno(int code, int err_no, const char *format, ...) CO_PRINTF(3, 4);

/* The last sentence of this thread, "" if there is none. Borrowed until the thread's next co_fail.
 */
const char *co_sentence(void);

#endif
