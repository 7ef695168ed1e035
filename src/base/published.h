/* A value that one thread writes now and then, and that any thread may read whole.
 *
 * Two copies: the writer fills the one that is not the latest and then says so, so that a reader never waits for a
 * writer that was stopped in the middle. Only a reader that is overtaken by a whole write looks again.
 *
 *   count: 7 ──▶ room: [ copy 0: being written as number 8 ][ copy 1: number 7, to be read ]
 *
 * Memory: twice the value. The writer is one at a time; who hands it over does so with its own ordering. */
#ifndef SLUICE_BASE_PUBLISHED_H
#define SLUICE_BASE_PUBLISHED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/result.h"

struct published {
    _Atomic uint64_t count; /* of writes */
    size_t bytes;
    _Atomic uint64_t *room; /* two copies, in words */
};

/* For values of `bytes`. RESULT_NO_MEMORY when memory is out. */
MUST_USE enum result published_init(struct published *published, size_t bytes);
void published_fini(struct published *published);

/* Makes *value what is read from now on; *borrows*. */
void published_write(struct published *published, const void *value);

/* False, and *ret_value untouched, when nothing was written yet. From any thread. */
MUST_USE bool published_read(const struct published *published, void *ret_value);

#endif
