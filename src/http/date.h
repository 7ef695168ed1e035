/* IMF-fixdate (RFC 9110 §5.6.7). */
#ifndef SLUICE_HTTP_DATE_H
#define SLUICE_HTTP_DATE_H

#include <stdint.h>

enum { HTTP_DATE_BYTES = 29 };

/* Writes e.g. "Sun, 06 Nov 1994 08:49:37 GMT" (29 bytes, no NUL) for seconds since 1970. */
void http_date_format(int64_t unix_s, char out[HTTP_DATE_BYTES]);

#endif
