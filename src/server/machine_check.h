/* `sluice check --machine`: prints what the server would make of this machine, and what about it will hurt. */
#ifndef SLUICE_SERVER_MACHINE_CHECK_H
#define SLUICE_SERVER_MACHINE_CHECK_H

/* `arguments`: those behind `check`. Returns the exit code: 0, warnings or not; 1 when the server could not start here,
 * the configuration is wrong, or with --strict when there are warnings; 2 for wrong arguments. */
int machine_check_run(int argument_count, char **arguments);

#endif
