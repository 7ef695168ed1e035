/* Who is compared, and how its admission is set up: as the server's defaults are. */
#ifndef BENCH_SCHED_CONTENDER_H
#define BENCH_SCHED_CONTENDER_H

#include "run.h"
#include "sched/cost.h"

/* By its name: none, excess, aimd, vegas, gradient2, envoy, fixed:N. Ends the process at another. *Keeps* name. */
struct contender contender_from(const char *name);
struct contender contender_fixed(double limit);

struct admission_options contender_admission(const struct run_setup *setup);
struct cost_options contender_cost(const struct run_setup *setup);

#endif
