/*
 * assert.h - asserts that stay on in every build.
 *
 * co_assert states what this program's own logic guarantees; it aborts with the text and the place.
 * It is never used on bytes that came from a disk or a network: those get an error and a sentence.
 */
#ifndef CORALLITE_COMMON_ASSERT_H
#define CORALLITE_COMMON_ASSERT_H

__attribute__((noreturn, cold)) void co_assert_failed(const char *text, const char *file, int line);

#define co_assert(cond) ((cond) ? (void)0 : co_assert_failed(#cond, __FILE__, __LINE__))

#endif
