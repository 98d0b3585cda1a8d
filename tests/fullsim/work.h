/* work.h - what the files of the workload share: work.c reads, moves money, appends and draws what
 * is next; work_paged.c changes pages and schema; work_branch.c goes to branches and to the past,
 * work_pin.c gives its moments names, work_restore.c brings it back, work_drop.c drops it;
 * work_duel.c has a writer displaced behind its back. */
#ifndef CORALLITE_TESTS_FULLSIM_WORK_H
#define CORALLITE_TESTS_FULLSIM_WORK_H

#include "proto/frame.h"
#include "proto/message.h"
#include "tests/fullsim/client.h"

/* A transaction that stays open for a while meets what happens to others. */
void work_linger(void);
/* So many bytes as hexadecimal digits, to be freed; dense: they cannot be compressed. */
char *work_noise(uint32_t bytes, bool dense);
/* Begins a transaction of the workload; the code of BEGIN. */
int work_begin(struct conn *c);
/* Leaves the transaction's number in the table `log`. */
int work_sign(struct conn *c);
/* COMMIT after rc = 0, else ROLLBACK; who was refused may read instead. */
void work_finish(struct conn *c, int rc);
/* A transaction of any kind. */
void work_some(struct conn *c);

/* Writes the transaction's mark into a row of `mark`; and what is written there. */
int work_mark(struct conn *c, uint32_t row);
uint32_t work_mark_of(uint64_t txn);

/* Somebody is about to be displaced: true, and it took a while, or a part in it. */
bool work_duel(struct conn *c);
void work_be_displaced(struct conn *c);

void work_paged(struct conn *c);
void work_large(struct conn *c);

void work_go_to_branch(struct conn *c);
void work_go_to_past(struct conn *c);
/* Asks whoever owns the catalog. 0: *out is the answer, to be freed. */
int work_ask(struct conn *c, enum frame_type type, const ProtobufCMessage *q,
             enum frame_type answer, const ProtobufCMessageDescriptor *how, ProtobufCMessage **out);
/* Asks the pageserver for a change of branches. 0: *out is the answer, to be freed. */
int work_change(struct conn *c, enum frame_type type, const ProtobufCMessage *q,
                Corallite__Branched **out);
/* Is the name by which c began to open its branch another's since, or may it be? */
bool work_name_moved(const struct conn *c);

void work_restore(struct conn *c);
void work_settle_restores(struct conn *c);
/* A restore is under way that brings back a moment of t, or makes t. */
bool work_restore_needs(const struct timeline *t);

void work_drop(struct conn *c);
void work_settle_drops(struct conn *c);
/* It was dropped by the first question for that. */
bool work_dropped_at_once(const struct timeline *t);
/* It has a pin that was told, and that no disk took along. */
bool work_has_pin(const struct timeline *t);

void work_pin(struct conn *c);

#endif
