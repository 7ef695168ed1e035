/* A worker's loop inside a test: turned until something has happened, or it has taken too long. */
#ifndef TESTS_SUPPORT_LOOP_H
#define TESTS_SUPPORT_LOOP_H

#include <stdbool.h>

#include "ring/ring.h"

enum { LOOP_PATIENCE_MS = 20000 };

/* Makes a ring with the options given (NULL: the defaults). Ends the program with 77 when the kernel has no io_uring.
 */
struct ring *loop_create(const struct ring_options *options);

/* Turns the loop until done(context), looked at once a millisecond. False when LOOP_PATIENCE_MS have passed. */
bool loop_until(struct ring *ring, bool (*done)(void *context), void *context);

/* The same for a flag and for a number that is to be reached. */
bool loop_until_true(struct ring *ring, const bool *flag);
bool loop_until_count(struct ring *ring, const unsigned *count, unsigned wanted);

/* Turns it for about so long. */
void loop_for_ms(struct ring *ring, unsigned ms);

/* How many descriptors this process has open. */
unsigned loop_open_descriptors(void);

#endif
