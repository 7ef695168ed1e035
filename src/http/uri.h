/* Request targets (RFC 9112 §3.2), authorities and paths (RFC 3986), as slices and in place. */
#ifndef SLUICE_HTTP_URI_H
#define SLUICE_HTTP_URI_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/result.h"

enum http_target_form { HTTP_TARGET_ORIGIN, HTTP_TARGET_ABSOLUTE, HTTP_TARGET_AUTHORITY, HTTP_TARGET_ASTERISK };

struct http_target {
    enum http_target_form form;
    struct bytes scheme;         /* ABSOLUTE */
    struct bytes authority;      /* ABSOLUTE: it wins over Host; AUTHORITY */
    struct bytes path;           /* begins with '/'; "/" where an absolute form has none; "*" for ASTERISK */
    struct bytes query;          /* without '?'; .ptr NULL when there is no '?' */
    struct bytes path_and_query; /* what goes upstream; when the absolute form has no path: see below */
    bool path_is_empty;          /* absolute form without a path: "/" has to be put before the query */
};

/* Splits a request target. *Borrows*; the slices lie in `target` (or are static). RESULT_PROTOCOL when it
 * is of no form, or of one the method does not allow (authority-form is for CONNECT only, `*` for
 * OPTIONS), has a fragment, user information, or characters that RFC 3986 does not allow unescaped. */
MUST_USE enum result http_target_parse(bool is_connect, bool is_options, struct bytes target,
                                       struct http_target *ret_target);

/* True for `host [":" port]` as RFC 3986 §3.2 writes it, without user information: a name of
 * unreserved, sub-delims and percent-encoded characters, an IPv4 address, or an IP literal in brackets;
 * the port is empty or 0–65535. An empty host is not valid here (RFC 9110 §4.2.1). */
bool http_authority_is_valid(struct bytes authority);

/* Splits a valid authority; *ret_port is "" when there is none. Brackets stay on the host. */
void http_authority_split(struct bytes authority, struct bytes *ret_host, struct bytes *ret_port);

/* Writes the path that routes are matched against: percent-encoded unreserved characters are decoded,
 * other escapes get upper-case digits, "." and ".." segments are removed (RFC 3986 §5.2.4, §6.2.2), and a
 * run of slashes becomes one. `out` has room for path.len bytes; returns the length, or 0 when an escape is
 * malformed, stands for NUL, or ".." would leave the root. A path that is already in this form is not
 * copied: *ret_same is set, and `out` untouched. */
size_t http_path_normalize(struct bytes path, char *out, bool *ret_same);

/* True when servers differ in which resource `path` names: it has a dot segment, escaped or not, which some resolve and
 * others take for a name, or begins with "//", which some read as an authority. */
bool http_path_is_ambiguous(struct bytes path);

#endif
