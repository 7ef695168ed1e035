/* When memory that others may still be reading can be freed: quiescent states, and pins.
 *
 * Every worker passes a quiescent state at the top of each turn of its loop, where it holds no pointer into the cache,
 * and is offline while it sleeps. What an owner unlinks it retires with the epoch of that moment; when every
 * worker that is online has passed a quiescent state since then, nobody can have kept it from before. An epoch is never
 * held across a send: who needs an object longer pins it in its own hazard table, inside the epoch in which it was
 * found, with plain stores; the owner looks at all tables after the grace period and frees what is in none.
 *
 * The order that makes a pin sure: pin (store), then the worker's next quiescent state (release or seq_cst); the owner
 * waits for that quiescent state (acquire) before it looks at the table.
 *
 * Hart et al., "Performance of memory reclamation for lockless synchronization" (2007); Michael, "Hazard
 * pointers" (2004). */
#ifndef SLUICE_CACHE_QSBR_H
#define SLUICE_CACHE_QSBR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/result.h"

struct qsbr;

/* For `count` workers, all offline. NULL when memory is out. */
struct qsbr *qsbr_create(unsigned count);
void qsbr_destroy(struct qsbr *qsbr);

/* ---- each worker, for itself ---- */

/* Holds no pointer now; stays online. */
void qsbr_quiescent(struct qsbr *qsbr, unsigned worker);

/* About to sleep: holds no pointer, and will not look before qsbr_online. */
void qsbr_offline(struct qsbr *qsbr, unsigned worker);

/* Back: a seq_cst fence lies between this and its first load from an index. */
void qsbr_online(struct qsbr *qsbr, unsigned worker);

/* Keeps `object`, found in this epoch, beyond it. RESULT_LIMIT or RESULT_NO_MEMORY: the table has no room. *ret_slot is
 * for qsbr_unpin. One object may be pinned more than once. */
MUST_USE enum result qsbr_pin(struct qsbr *qsbr, unsigned worker, const void *object, uint32_t *ret_slot);
void qsbr_unpin(struct qsbr *qsbr, unsigned worker, uint32_t slot);

/* ---- owners ---- */

/* The epoch of what is unlinked before this call and retired with it. Advances the epoch. Any worker. */
uint64_t qsbr_retire(struct qsbr *qsbr);

/* The newest epoch that all online workers have left behind: what was retired with it or before can be freed, if it is
 * not pinned. */
uint64_t qsbr_passed(const struct qsbr *qsbr);

/* Which of `count` objects, sorted by address, are pinned by any worker: sets is_pinned[i]. After the grace period. */
void qsbr_find_pinned(const struct qsbr *qsbr, const void *const *objects, size_t count, bool *is_pinned);

#endif
