/* What the files of an exchange share. */
#ifndef SLUICE_SERVER_EXCHANGE_INTERNAL_H
#define SLUICE_SERVER_EXCHANGE_INTERNAL_H

#include "cache/status.h"
#include "server/exchange.h"

/* ---- exchange.c ---- */

/* The whole answer is queued: counts, frees, and lets the connection go on (or end, unless `keep_alive`). */
void exchange_finish(struct exchange *exchange, bool keep_alive);

/* Makes the fetch with its head. `validating`: a stored answer whose validators go with it, in the place of the client's
 * conditions; `for_all`: the answer may be given to others. */
MUST_USE enum result exchange_prepare_fetch(struct exchange *exchange, const struct exchange_start *start, bool for_all,
                                            const struct cache_head *validating);

/* Reads the fetch's answer, and starts it. */
void exchange_start_fetch(struct exchange *exchange);

/* ---- exchange_cache.c ---- */

/* Prepares for asking the cache; *borrows* start. */
MUST_USE enum result exchange_cache_prepare(struct exchange *exchange, const struct exchange_start *start);

/* Looks in the cache, and answers from it or has the answer fetched. */
void exchange_cache_run(struct exchange *exchange);

/* ---- exchange_inference.c ---- */

/* The same for a request on an inference route; the fetch is prepared already. */
MUST_USE enum result exchange_inference_prepare(struct exchange *exchange, const struct exchange_start *start);

/* ---- exchange_cache.c ---- */

/* The entry has news before anything of it was shown: true when it was dealt with (it is not for this client, or
 * something stale serves better). */
bool exchange_cache_intercept(struct exchange *exchange);

/* The member of Cache-Status for what has been fetched; false: nothing to say. */
bool exchange_cache_status(const struct exchange *exchange, struct cache_status *ret_status);

/* Lets go of everything. */
void exchange_cache_fini(struct exchange *exchange);

/* ---- exchange_answer.c ---- */

/* What every answer to this request has. */
struct conn_answer exchange_answer_of(const struct exchange *exchange);

/* The entry has news: moves on what can be moved. */
void exchange_on_progress(struct entry_reader *reader);

/* Answers with the route's fixed answer, and finishes. */
void exchange_answer_fixed(struct exchange *exchange);

/* Answers with an error in the route's dialect, and finishes. Nothing may have been sent yet. */
void exchange_answer_error(struct exchange *exchange, uint16_t status, const char *message, const char *code,
                           enum metrics_error kind);

/* Answers with a body that is ready (copied), and finishes. */
void exchange_answer_json(struct exchange *exchange, uint16_t status, struct bytes json);

/* ---- exchange_models.c ---- */

/* Begins to gather the model lists of all endpoints; false when there is one endpoint only, whose own list is
 * the answer. */
bool exchange_begin_model_list(struct exchange *exchange);

#endif
