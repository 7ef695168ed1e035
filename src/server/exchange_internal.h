/* What the files of an exchange share. */
#ifndef SLUICE_SERVER_EXCHANGE_INTERNAL_H
#define SLUICE_SERVER_EXCHANGE_INTERNAL_H

#include "server/exchange.h"

/* ---- exchange.c ---- */

/* The whole answer is queued: counts, frees, and lets the connection go on (or end, unless `keep_alive`). */
void exchange_finish(struct exchange *exchange, bool keep_alive);

/* ---- exchange_answer.c ---- */

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
