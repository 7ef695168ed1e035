/* APIs that take arrays: requests of several clients made into one, and its answer taken apart again.
 *
 *   request of A  {"model":"m","input":["a","b"]}   ─┐
 *   request of B  {"input":"c","model":"m"}         ─┴▶ {"model":"m","input":["a","b","c"]}
 *                                                         │
 *   answer to A   data 0, 1 and its share of `usage`     ◀┤
 *   answer to B   data 2 as index 0, and its share       ◀┘
 *
 * A *run* is a stretch of one request's items that stays together: all of them, or a part of a list that is over a
 * budget, whose answers are put together again. Only runs of requests with equal digests are merged: equal in the
 * canonical JSON of everything but the items, in the kind of items, in path and credentials. A merged body is the first
 * request's own, byte for byte, with the array replaced. A request that goes alone and whole needs none of this: what
 * the client sent is sent, and what comes is passed on.
 *
 * Kept apart are requests whose answers could not be told apart: streams, completions with `n`, `best_of` or `echo`,
 * scores of pairs. Of a rerank `top_n` is taken out and obeyed here; since the order of its answer is that of the
 * scores, the order is kept for each client, and parts are merged by score.
 *
 * Pure; no state. Memory from malloc, proportional to the bodies; reading a request takes up to 8 times the body for a
 * moment. Time: one pass over each text, n log n where scores are merged. */
#ifndef SLUICE_API_ARRAY_H
#define SLUICE_API_ARRAY_H

#include "base/bytes.h"
#include "base/result.h"

enum { ARRAY_DIGEST_BYTES = 32, ARRAY_TOP_ALL = -1 };

/* Where an API has its arrays. All of it static, or the configuration's. */
struct array_shape {
    struct bytes items;   /* the request's member: an array, or one item */
    struct bytes results; /* the answer's member: an array with as many */
    struct bytes index;   /* of a result: which item it is for; .len 0: they come in order */
    struct bytes score;   /* of a result: they come with the highest first; .len 0: they do not */
    bool takes_ids;       /* an array of numbers is one item, of token ids */
    bool takes_objects;   /* items may be objects */
    bool takes_any;       /* or anything at all; what is not an array is then no item either */
    bool is_completion;   /* `n`, `best_of` and `echo` keep it apart */
    bool is_score;        /* `text_1` is to be one text */
};

/* Of an OpenAI-compatible path: embeddings, completions, rerank, score. NULL: it takes no arrays. */
const struct array_shape *array_shape_of(struct bytes upstream_path);

enum array_reason {
    ARRAY_OK,
    ARRAY_NOT_JSON,
    ARRAY_NO_ITEMS,     /* the member is missing, empty, or nothing that is known */
    ARRAY_MIXED_ITEMS,  /* of several kinds */
    ARRAY_STREAM,       /* `stream` is true, or odd */
    ARRAY_MANY_CHOICES, /* `n`, `best_of`, `echo` */
    ARRAY_PAIRS,        /* the score of lists against lists */
    ARRAY_ODD_MEMBER,   /* twice the same, or one with escapes in its name, or a `top_n` that is no count */
    ARRAY_OUT_OF_MEMORY,
};

/* Static, lower case with underscores. */
const char *array_reason_name(enum array_reason reason);

struct array_item {
    struct bytes text; /* within the body */
    uint32_t tokens;   /* estimated, at least 1 */
};

struct array_request {
    const struct array_shape *shape;
    struct bytes body;
    struct bytes array;   /* the value of the items' member, within the body */
    struct bytes dropped; /* what a merged body does without, within the body (`top_n`); .len 0: nothing */
    struct array_item *items;
    uint32_t item_count;
    int64_t top;  /* results the client wants; ARRAY_TOP_ALL */
    uint64_t key; /* the digest's beginning: for struct batch_item */
    unsigned char digest[ARRAY_DIGEST_BYTES];
};

struct array_terms {
    struct bytes path;        /* with its query */
    struct bytes credentials; /* whatever else keeps requests apart: upstream credentials, headers that shape answers */
    double bytes_per_token;
};

/* Reads a request. On ARRAY_OK *gives* ret_request, for array_request_fini, which *keeps* shape and body; else there is
 * nothing to be finished, and the request is to go alone for the reason given. *Borrows* terms. */
enum array_reason array_request_read(const struct array_shape *shape, const struct array_terms *terms,
                                     struct bytes body, struct array_request *ret_request);
void array_request_fini(struct array_request *request);

/* ---- runs ---- */

struct array_run {
    const struct array_request *request;
    uint32_t first;
    uint32_t count;
    uint64_t tokens;
    uint64_t bytes; /* of the items, and of what stands around them */
};

struct array_budget {
    uint32_t items_max; /* ≥ 1 */
    uint64_t tokens_max;
    uint64_t bytes_max;
};

/* The longest run from `first` (< item_count) on within a budget; a single item over it is a run by itself. */
struct array_run array_run_from(const struct array_request *request, uint32_t first, const struct array_budget *budget);

/* Whether it is all of its request: sent alone, the client's own body serves. */
static inline bool array_run_is_whole(const struct array_run *run)
{
    return run->count == run->request->item_count;
}

/* *Gives* the body of one call for all runs, in this order. RESULT_INTERNAL: their digests differ, though their keys
 * may be equal; RESULT_NO_MEMORY. */
enum result array_merge(const struct array_run *runs, unsigned run_count, struct bytes *ret_body);

/* Whether an answer's status can be the fault of single items (400, 413, 422): then a merged call is tried again in two
 * halves. 401, 404, 429 and the like are for all of them; and what is the backend's own trouble is not to be doubled.
 */
bool array_status_is_items(unsigned status);

/* Where to cut runs whose call has failed so: *gives* how many are in the first half, with half of the items if it can
 * be. 0: it is a single run, which gets the backend's answer. Cut until then, n runs take at most 2n - 2 further calls,
 * and one bad one among n about 2 log2 n. */
unsigned array_bisect(const struct array_run *runs, unsigned run_count);

/* ---- answers ---- */

/* Takes apart the answer to a merged call: ret_answers[i] (from malloc, for the caller to free) is that to runs[i],
 * with indexes of its request. Whole numbers in `usage` are shared out by estimated tokens (those of the completion by
 * the bytes of the results), so that their sums over the runs are exact. RESULT_PROTOCOL: it is not what was asked for,
 * and *ret_error (static) says why; then, and on RESULT_NO_MEMORY, nothing is given: no client gets a doubtful answer.
 */
enum result array_answer_split(const struct array_run *runs, unsigned run_count, struct bytes answer,
                               struct bytes *ret_answers, const char **ret_error);

/* Puts the answers to all runs of one request, two or more, in order, each from array_answer_split, together: *gives*
 * *ret_answer. Members beside results and usage are the first one's; numbers in `usage` are summed. RESULT_PROTOCOL,
 * RESULT_NO_MEMORY: as above. */
enum result array_answer_join(const struct array_request *request, const struct bytes *answers, unsigned answer_count,
                              struct bytes *ret_answer, const char **ret_error);

#endif
