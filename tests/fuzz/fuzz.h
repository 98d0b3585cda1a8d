/*
 * fuzz.h - what the harnesses share: taking the input apart, and checks that end the process.
 *
 * A harness is one LLVMFuzzerTestOneInput. Its first byte selects what is decoded, so that decoders
 * of one module share a binary; what is decoded lies in memory without a byte to spare, so that the
 * sanitizer sees a read past the end.
 */
#ifndef CORALLITE_TESTS_FUZZ_H
#define CORALLITE_TESTS_FUZZ_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A first byte from here on is of the second file of a harness of two. */
#define FUZZ_SECOND 128u

/* What must hold whatever the input is. */
#define FUZZ_CHECK(cond)                                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: does not hold: %s (%s)\n", __FILE__, __LINE__, #cond,          \
                    co_sentence());                                                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct fuzz_in {
    const uint8_t *p;
    size_t n;
};

/* The second files. */
void fuzz_pages(struct fuzz_in in); /* of records */
void fuzz_http(struct fuzz_in in);  /* of text */

/* The next number of `bytes` bytes (at most 8); what the input lacks is zero. */
static inline uint64_t fuzz_number(struct fuzz_in *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && in->n; i++) {
        v |= (uint64_t)*in->p << (8 * i);
        in->p++;
        in->n--;
    }
    return v;
}

static inline bool fuzz_bool(struct fuzz_in *in)
{
    return fuzz_number(in, 1) & 1;
}

/* The next `want` bytes, or as many as there are; borrowed. */
static inline struct co_span fuzz_span(struct fuzz_in *in, size_t want)
{
    struct co_span s = co_span_of(in->p, want < in->n ? want : in->n);
    in->p += s.len;
    in->n -= s.len;
    return s;
}

/* A copy without a byte to spare, ended by a zero when `text`; the caller's to free. */
static inline uint8_t *fuzz_copy(struct co_span s, bool text)
{
    uint8_t *p = malloc(s.len + text + (s.len + text == 0));
    FUZZ_CHECK(p);
    if (s.len)
        memcpy(p, s.data, s.len);
    if (text)
        p[s.len] = 0;
    return p;
}

static inline bool fuzz_same(struct co_span a, struct co_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Fields that this build does not know are kept as they came, and protobuf-c keeps some that it
 * would not take again (a field with number 0). Nobody of ours looks at them. */
static inline bool fuzz_has_unknown(const ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    bool any = m->n_unknown_fields > 0;
    for (unsigned i = 0; i < d->n_fields && !any; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        const char *at = (const char *)m;
        if (f->type != PROTOBUF_C_TYPE_MESSAGE)
            continue;
        bool many = f->label == PROTOBUF_C_LABEL_REPEATED;
        const ProtobufCMessage *one, *const *list = &one;
        size_t n = 1;
        memcpy(&one, at + f->offset, sizeof one);
        if (many) {
            memcpy(&list, at + f->offset, sizeof list);
            memcpy(&n, at + f->quantifier_offset, sizeof n);
        }
        for (size_t k = 0; k < n && !any; k++)
            any = list[k] && fuzz_has_unknown(list[k]);
    }
    return any;
}

static inline void fuzz_free(void *p)
{
    free(*(void **)p);
}

#define AUTO_BUF  __attribute__((cleanup(co_buf_free))) struct co_buf
#define AUTO_FREE __attribute__((cleanup(fuzz_free)))

#endif
