/* A worker's proxying inside a test: a ring, an upstream, fetches that a reader follows, and backends on threads of
 * their own that speak by blocking calls. */
#ifndef TESTS_UNIT_PROXY_FETCHING_H
#define TESTS_UNIT_PROXY_FETCHING_H

#include <pthread.h>

#include "proxy/fetch.h"

struct backend {
    struct ring_address address;
    int listener;
    pthread_t thread;
    void (*serve)(struct backend *backend, int fd); /* one connection; it is closed afterwards */
    size_t body_bytes;                              /* for serve */
    _Atomic unsigned connections;
    _Atomic unsigned requests;
    _Atomic int ended; /* how the client's side of the last connection ended: 1 FIN, 2 reset */
};

void backend_start(struct backend *backend, void (*serve)(struct backend *backend, int fd));
void backend_stop(struct backend *backend);

/* Reads one head; false at the end. What follows it is put into rest, and its length into *io_rest. */
bool backend_read_head(struct backend *backend, int fd, char *rest, size_t *io_rest);
void backend_write(int fd, const char *bytes, size_t count);
void backend_say(int fd, const char *text);

/* The byte at a place of every body in these tests. */
static inline char body_byte(uint64_t at)
{
    return (char)(at * 7 + (at >> 8) + (at >> 16));
}

struct fetching {
    struct fetch *fetch;
    struct entry_reader reader;
    uint64_t got;
    uint16_t status;
    bool holds_back; /* reads nothing for now */
    bool is_wrong;   /* a byte was not what it should be */
    bool is_over;
    enum entry_state state;
    enum result failure;
};

struct world {
    struct ring *ring;
    struct chunk_pool pool;
    struct proxy proxy;
    struct upstream upstream;
};

void world_start(struct world *world, size_t pool_bytes_max, unsigned endpoints);
/* Checks that nothing is held any more. */
void world_stop(struct world *world);
void world_endpoint(struct world *world, unsigned index, const struct backend *backend);

/* Makes a GET; the caller may change its request before fetching_start. */
void fetching_make(struct world *world, struct fetching *fetching);
void fetching_start(struct fetching *fetching);
void fetching_read(struct fetching *fetching);
/* Makes, starts and follows one to its end. */
void fetching_do(struct world *world, struct fetching *fetching);
void fetching_await(struct world *world, struct fetching *fetching);
void fetching_done(struct fetching *fetching);

#endif
