/* What the files of /api/performance share. */
#ifndef SLUICE_SERVER_PERFORMANCE_INTERNAL_H
#define SLUICE_SERVER_PERFORMANCE_INTERNAL_H

#include <yyjson.h>

#include "base/clock.h"
#include "base/histogram.h"

struct performance_history;
struct server;

/* A number, of three decimals; null when it is not finite. */
void performance_put(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, double value);

/* A length of time in milliseconds; null for NANOS_NEVER. */
void performance_put_ms(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, nanos length);

/* `name`: {"count", "mean", "p50", "p95", "p99", "max"}, in milliseconds; null but for the count when it is empty. */
void performance_put_latency(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, const struct histogram *h);

/* "models": what the schedulers say. False when memory is out. */
bool performance_put_models(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server);

/* "batching": what it says, for each route that has it. False when memory is out. */
bool performance_put_batching(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server);

/* "history": a list for each figure, all of one length; empty ones for NULL. */
void performance_put_history(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct performance_history *history);

#endif
