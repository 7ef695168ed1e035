/* Vary (RFC 9110 §12.5.5, RFC 9111 §4.1): which request fields select among the responses stored for one URI. Pure.
 *
 *   primary key ─▶ note: the sets of fields that responses of this URI varied by, newest first
 *                    "accept-encoding\n" "accept-language,cookie\n" "\n"
 *                        │ one key per set
 *                        ▼
 *   primary key + "accept-encoding:gzip\n" ─▶ response
 *
 * A lookup makes one key for each known set and takes the response with the latest Date among those it finds. */
#ifndef SLUICE_CACHE_VARY_H
#define SLUICE_CACHE_VARY_H

#include "base/bytes.h"
#include "base/result.h"
#include "http/http.h"

enum {
    VARY_NAMES_MAX = 16,      /* in one set */
    VARY_SET_BYTES_MAX = 256, /* of all its names, commas included */
    VARY_SETS_MAX = 8,        /* in one note */
    VARY_NOTE_BYTES_MAX = VARY_SETS_MAX * (VARY_SET_BYTES_MAX + 1),
};

/* A set of field names: lower case, sorted, each once, joined by ','. Empty: the response does not vary. */
struct vary_set {
    uint16_t bytes;
    char names[VARY_SET_BYTES_MAX];
};

static inline struct bytes vary_set_text(const struct vary_set *set)
{
    return (struct bytes){set->names, set->bytes};
}

/* Reads all Vary fields of a response. False when the response fits no other request: `*` is among the members, or what
 * stands there is no list of names, it is more than a set holds, or it varies by a field that this
 * gateway writes anew for each client (X-Forwarded-For, X-Request-Id). Such a response is not stored. */
bool vary_of_response(const struct http_head *response, const char *base, struct vary_set *ret_set);

/* The same from stored lines. */
bool vary_of_lines(struct bytes lines, struct vary_set *ret_set);

/* Appends to `out` (room for out_bytes_max) what `request` has of the set's fields, so that equal bytes mean that a
 * response selected by one of the requests is right for the other. `set` is a set's text; *ret_bytes: how many were
 * written. A field that is absent, or not passed on to the origin, differs from one that is empty. Several lines are
 * one, joined by commas; white space around commas goes (RFC 9111 §4.1). Accept-Encoding and Accept-Language are sorted
 * by quality and name, without regard to case; a coding that is refused by q=0 is as if it were not named, unless `*`
 * is. RESULT_LIMIT: there is no room. */
MUST_USE enum result vary_put_key(struct bytes set, const struct http_head *request, const char *base, char *out,
                                  size_t out_bytes_max, size_t *ret_bytes);

/* ---- the note kept with the primary key ---- */

/* Takes the next set's text from the front of *note: false at the end. What no set can be is passed over. */
bool vary_note_next(struct bytes *note, struct bytes *ret_set);

/* Writes the note with `set` in front and the others behind it, the oldest dropped when there are too many. `out` has
 * room for VARY_NOTE_BYTES_MAX and is not where `note` lies. Returns the length. */
size_t vary_note_merge(struct bytes note, struct bytes set, char *out);

#endif
