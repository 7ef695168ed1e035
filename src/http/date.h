/* Dates (RFC 9110 §5.6.7): written as IMF-fixdate, read in all three formats. */
#ifndef SLUICE_HTTP_DATE_H
#define SLUICE_HTTP_DATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum { HTTP_DATE_BYTES = 29 };

/* Writes e.g. "Sun, 06 Nov 1994 08:49:37 GMT" (29 bytes, no NUL) for seconds since 1970. */
void http_date_format(int64_t unix_s, char out[HTTP_DATE_BYTES]);

/* Reads IMF-fixdate, RFC 850's format or asctime()'s, in any letter case (RFC 9111 §4.2) but otherwise to the byte; a
 * weekday must be one but need not be the right one. A year of two digits is the last such year that is not more than
 * 50 years after `now_s`. Returns false, and leaves *ret_unix_s alone, for anything else. Seconds since 1970, negative
 * before it. */
bool http_date_parse(struct bytes text, int64_t now_s, int64_t *ret_unix_s);

#endif
