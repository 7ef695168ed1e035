/* Where connections come in: every listener's sockets, one for each worker, opened by the main thread at the start.
 *
 *   an IP address           a socket of its own for each worker (SO_REUSEPORT): the kernel spreads the connections
 *   a unix socket           one socket, on which all workers accept in turn
 *   passed by the manager   the same (ring/passed.h); it stays open when this process ends
 *
 * A passed socket takes the place of the listener with its address, else of the one with its name. */
#ifndef SLUICE_SERVER_LISTENERS_H
#define SLUICE_SERVER_LISTENERS_H

#include "ring/passed.h"
#include "ring/stream.h"
#include "server/config.h"

struct listeners_one {
    struct ring_listener_share share; /* where the workers' descriptors are of one socket */
    bool is_shared;
    bool is_passed;
    bool is_own; /* opened here, and so ours to remove */
};

struct listeners {
    const struct config *config;
    unsigned count; /* the admin's included, which is the last */
    unsigned worker_count;
    struct listeners_one *each;
    int *fds; /* [worker][listener]; -1: none */
};

/* Which listener of the configuration a passed socket is for; the admin's is the one after the others. -1: none. */
int listeners_find(const struct config *config, const struct ring_passed_socket *socket);

/* Opens all. *Keeps* config. False: the log says why; listeners_close all the same. */
MUST_USE bool listeners_open(struct listeners *listeners, const struct config *config, unsigned worker_count);

/* What the worker accepts on; it *takes* the descriptor. */
int listeners_take(struct listeners *listeners, unsigned worker, unsigned index);

/* Removes the files of the unix sockets that were opened here, and frees. Nothing that is zeroed is closed twice. */
void listeners_close(struct listeners *listeners);

#endif
