/* OpenAI-compatible routes: where a request goes, and which model it asks for. */
#ifndef SLUICE_API_INFERENCE_H
#define SLUICE_API_INFERENCE_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/bytes.h"

/* The path a backend knows: with /v1 before the paths of the API that came without it ("/chat/completions"),
 * every other path as it is. *Borrows* path; the answer is `path` or lies in `arena`. */
struct bytes inference_upstream_path(struct arena *arena, struct bytes path);

/* True for GET /v1/models and /models, which is answered with the union of what the backends offer. */
bool inference_is_model_list(struct bytes upstream_path);

/* The model that a path asks about, of /v1/models/NAME; *ret_model lies in `arena`. */
bool inference_model_in_path(struct arena *arena, struct bytes upstream_path, struct bytes *ret_model);

/* Finds the string value of the top-level "model" in a JSON body; *ret_model lies in `arena`. False when there
 * is none, or the body is not a JSON object. */
bool inference_model(struct arena *arena, struct bytes body, struct bytes *ret_model);

#endif
