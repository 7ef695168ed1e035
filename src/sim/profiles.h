/* Engines that were measured, as constants of the model in engine.h. */
#ifndef SLUICE_SIM_PROFILES_H
#define SLUICE_SIM_PROFILES_H

#include "base/bytes.h"
#include "sim/engine.h"

/* All of them; the first is the default. Static. */
const struct engine_profile *profiles_all(unsigned *ret_count);

/* The profile with this name; NULL when there is none. */
const struct engine_profile *profiles_find(struct bytes name);

#endif
