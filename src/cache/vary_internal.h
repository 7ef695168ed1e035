/* Between vary.c and vary_weighted.c. */
#ifndef SLUICE_CACHE_VARY_INTERNAL_H
#define SLUICE_CACHE_VARY_INTERNAL_H

#include "cache/lines.h"

/* A key being written; once a run did not fit, it is worth nothing. */
struct vary_out {
    char *at;
    size_t bytes_max;
    size_t used;
    bool is_full;
};

void vary_put(struct vary_out *out, struct bytes run);

/* Writes the names that `values` weigh by quality in one order, spelt one way. False, and nothing is written, when they
 * are no such list, or too many: then only equal spelling shows that two requests are alike. `is_coding`: content
 * codings, of which one refused is as good as one not named. */
bool vary_put_weighted(struct vary_out *out, struct head_values values, bool is_coding);

#endif
