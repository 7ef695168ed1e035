/* What the files of a filling share. */
#ifndef SLUICE_PROXY_FILLING_INTERNAL_H
#define SLUICE_PROXY_FILLING_INTERNAL_H

#include "proxy/filling.h"

/* ---- filling.c ---- */

struct ring *filling_ring(const struct filling *filling);

/* Asks the origin. */
void filling_fetch(struct filling *filling);

/* Whoever waits finds what has just been made fresh, or asks anew. */
void filling_look_again(struct filling *filling);

/* All is settled: frees it. */
void filling_finish(struct filling *filling);

/* ---- filling_tier.c ---- */

/* Looks in the second tier, and goes on from what is there. False: it cannot be asked. */
MUST_USE bool filling_look_in_tier(struct filling *filling);

/* What has just been stored in memory goes there, too, when it is worth it; if not, what is there goes. */
void filling_write_behind(struct filling *filling);

#endif
