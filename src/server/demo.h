/* `sluice demo`: the gateway in front of a simulated model, to look at and to load. */
#ifndef SLUICE_SERVER_DEMO_H
#define SLUICE_SERVER_DEMO_H

/* Runs until a signal; returns the exit code. `arguments` are those behind the subcommand. */
int demo_run(int argument_count, char **arguments);

#endif
