/* The machine and the plan made of it, for people and for programs. */
#ifndef SLUICE_SERVER_MACHINE_PRINT_H
#define SLUICE_SERVER_MACHINE_PRINT_H

#include <stdio.h>

#include "server/machine_plan.h"

/* What stands before a finding's key: the command that explains it. */
#define MACHINE_TUNE "tuning/tune.sh explain "

void machine_print_text(FILE *out, const struct machine *machine, const struct machine_plan *plan);

/* One object; docs/operations.md says what is in it. RESULT_NO_MEMORY: nothing was written. */
MUST_USE enum result machine_print_json(FILE *out, const struct machine *machine, const struct machine_plan *plan);

#endif
