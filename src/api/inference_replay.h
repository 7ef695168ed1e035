/* One stored answer for every client: the shape that was stored becomes the shape that is asked for.
 *
 *                       asks for JSON     a stream            a stream with usage
 *   JSON                as it is          unrolled            unrolled, with usage
 *   STREAM              not possible      as it is            not possible
 *   STREAM_WITH_USAGE   put together      without the usage   as it is
 *   STREAM_TELLING      put together      as it is            not possible
 *
 * What is not possible lacks the usage, which every JSON answer tells, or has it elsewhere than the backend would have
 * put it for who asks: it is a miss. An answer that is a JSON object
 * of its own kind (embeddings, rerank, score) has one shape; of the Responses API, JSON is not unrolled.
 *
 * Put together: the choices by index; their strings and lists joined; tool calls by index; what is unknown in a delta
 * treated by its type, beside the choices taken from the last chunk that has it. Unrolled: for each choice the
 * role, the content in pieces, the finish reason; then the usage, iff asked for, and [DONE]. Without the usage: the
 * chunk that carries nothing else goes, and `"usage": null` from the others, as the backend would have had it; every
 * other byte stays. Numbers are never read as numbers: they survive digit by digit. */
#ifndef SLUICE_API_INFERENCE_REPLAY_H
#define SLUICE_API_INFERENCE_REPLAY_H

#include <stdbool.h>

#include "api/inference_capture.h"
#include "base/bytes.h"
#include "base/result.h"

enum inference_replay {
    INFERENCE_REPLAY_IMPOSSIBLE, /* treat it as a miss */
    INFERENCE_REPLAY_AS_IS,      /* send the stored bytes and field lines */
    INFERENCE_REPLAY_CONVERTED,  /* by inference_convert; the content type and length differ from what was stored */
};

/* How an answer of this form serves a client who wants that. Embeddings and the like have no stream: for them
 * wants_stream changes nothing. */
enum inference_replay inference_can_serve(enum inference_family family, enum inference_form form, bool wants_stream,
                                          bool wants_usage);

/* What a converted answer is: `application/json` or `text/event-stream; charset=utf-8`. */
struct bytes inference_replay_content_type(bool wants_stream);

struct inference_conversion {
    enum inference_form form;
    bool wants_stream;
};

/* Whether a line of the stored head is true of the converted answer, too: what tells of the bytes, or of how a stream
 * is to be passed on, is not. For lines_put_kept; `context` is a struct inference_conversion. */
bool inference_replay_keeps_line(const void *context, struct bytes name);

/* Converts. *Borrows* stored, the whole body; *gives* ret_converted, from malloc, for free(). It takes at most 16 times
 * the stored bytes and 64 KiB, all that it needs on the way included four times that.
 *
 * RESULT_PROTOCOL: the body is not what its form says, or not in a way that is understood; RESULT_LIMIT: the answer
 * would be larger than that. Both are a miss. RESULT_NO_MEMORY. */
MUST_USE enum result inference_convert(enum inference_family family, enum inference_form form, bool wants_stream,
                                       bool wants_usage, struct bytes stored, struct bytes *ret_converted);

#endif
