/* What the files of an exchange share. */
#ifndef SLUICE_SERVER_EXCHANGE_INTERNAL_H
#define SLUICE_SERVER_EXCHANGE_INTERNAL_H

#include "cache/object.h"
#include "cache/range.h"
#include "cache/status.h"
#include "server/exchange.h"

/* ---- exchange.c ---- */

/* The whole answer is queued: counts, frees, and lets the connection go on (or end, unless `keep_alive`). */
void exchange_finish(struct exchange *exchange, bool keep_alive);

/* What a request that the cache makes asks otherwise than its client has. */
struct exchange_asking {
    bool for_all; /* the answer may be given to others: a GET of all of it, the client's conditions stay behind */
    const struct cache_head *validating; /* whose validators go with it; NULL: none */
    const struct cache_head *completing; /* a stored part, whose rest is asked for; NULL: none */
    struct range rest;
    uint64_t complete_bytes;
};

/* Makes the fetch with its head. `asking` NULL: as the client has asked. */
MUST_USE enum result exchange_prepare_fetch(struct exchange *exchange, const struct exchange_start *start,
                                            const struct exchange_asking *asking);

/* Reads the answer of its own fetch from now on. */
void exchange_follow_fetch(struct exchange *exchange);

/* Lets go of its own fetch, if it has one. */
void exchange_drop_fetch(struct exchange *exchange);

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

/* The member of Cache-Status for what has been fetched, for a request that the cache did not look at for its method,
 * too; false: nothing to say. */
bool exchange_cache_status(const struct exchange *exchange, struct cache_status *ret_status);

/* What Age says of an answer that was on its way before this request came; false: it says what the origin has said. */
bool exchange_claim_age(const struct exchange *exchange, uint32_t *ret_age_s);

/* Lets go of everything. */
void exchange_cache_fini(struct exchange *exchange);

/* ---- exchange_invalidation.c ---- */

/* Has what an unsafe request makes out of date removed when its answer comes: the fetch has been prepared. *Borrows*
 * start. */
MUST_USE enum result exchange_invalidation_prepare(struct exchange *exchange, const struct exchange_start *start);

/* It is being removed: the answer has to wait. exchange_on_progress is called when it needs not any more. */
bool exchange_invalidation_is_open(const struct exchange *exchange);

/* Lets go of it; before the exchange lets go of its fetch. */
void exchange_invalidation_leave(struct exchange *exchange);

/* ---- exchange_answer.c ---- */

/* What every answer to this request has. */
struct conn_answer exchange_answer_of(const struct exchange *exchange);

/* The entry has news: moves on what can be moved. */
void exchange_on_progress(struct entry_reader *reader);

/* An interim response has come: passes it on to a client that knows such. */
void exchange_on_interim(struct fetch_interim *interim, const struct http_head *head, const char *base);

/* Answers with the route's fixed answer, and finishes. */
void exchange_answer_fixed(struct exchange *exchange);

/* Answers with an error in the route's dialect, and finishes. Nothing may have been sent yet. */
void exchange_answer_error(struct exchange *exchange, uint16_t status, const char *message, const char *code,
                           enum metrics_error kind);

/* Answers with a body that is ready (copied), and finishes. */
void exchange_answer_json(struct exchange *exchange, uint16_t status, struct bytes json);

/* Answers with an error and further lines, each with its end. */
void exchange_answer_error_with(struct exchange *exchange, uint16_t status, const char *message, const char *code,
                                enum metrics_error kind, struct bytes lines);

/* ---- exchange_admission.c ---- */

/* Says in the fetch's pass whose request it is and how urgent, and where it is a plain service's, at which gate.
 * *Borrows* start. */
void exchange_admission_prepare(struct exchange *exchange, const struct exchange_start *start);

/* Whether the gate depends on the model that the body names. */
bool exchange_admission_wants_model(const struct exchange *exchange);

/* The body is there: chooses the gate of the model that it names, and says what the request asks for and will cost.
 * Gives the model's name, as long as fetch and arena are there; .ptr NULL: it names none. */
struct bytes exchange_admission_choose(struct exchange *exchange);

/* What is read has been turned away: says why, and when it is worth trying again. */
void exchange_answer_shed(struct exchange *exchange);

/* ---- exchange_models.c ---- */

/* Begins to gather the model lists of all endpoints; false when there is one endpoint only, whose own list is
 * the answer. */
bool exchange_begin_model_list(struct exchange *exchange);

#endif
