/* Fibers: work that must wait, written top to bottom.
 *
 * A fiber has a stack of its own (FIBER_STACK_BYTES with a guard page below; what runs on it keeps no
 * large arrays and recurses into nothing unbounded: JSON is read by yyjson, which does not recurse).
 * It runs until it suspends, and whoever woke it goes on then. One thread; nothing here is locked. */
#ifndef SLUICE_RING_FIBER_H
#define SLUICE_RING_FIBER_H

#include "ring/ring.h"

enum { FIBER_STACK_BYTES = 64 * 1024 };

struct fiber;

/* Starts `run(context)` on a fiber at once; returns when it first suspends or ends. False, and nothing
 * was run, when fibers_max are in use or memory is out. */
MUST_USE bool fiber_start(struct ring *ring, void (*run)(void *context), void *context);

/* The running fiber, or NULL in a plain callback. */
struct fiber *fiber_current(const struct ring *ring);

/* Suspends the running fiber until fiber_wake (RESULT_OK) or the moment `deadline_ns` (RESULT_TIMEOUT;
 * NANOS_NEVER: no deadline). */
MUST_USE enum result fiber_wait(struct ring *ring, nanos deadline_ns);

/* Goes on with a suspended fiber, inside this call, until it suspends again or ends. */
void fiber_wake(struct fiber *fiber);

#endif
