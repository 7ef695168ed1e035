/* Replays a trace through one cache: the policies of src/cache/evict.h, and two exact ones to compare them with. */
#ifndef BENCH_REPLAY_H
#define BENCH_REPLAY_H

#include "trace.h"

enum replay_policy {
    REPLAY_LRU,
    REPLAY_GDSF, /* GreedyDual-Size-Frequency with a heap; lets everything in, remembers nothing that has gone */
    REPLAY_S3FIFO,
    REPLAY_COST,
    REPLAY_POLICIES,
};

extern const char *const replay_names[REPLAY_POLICIES];

struct replay_missed {
    double objects; /* ÷ requests */
    double cost;    /* ÷ cost of all requests */
};

/* Room is made before an object is put in, and evict_admits is asked when room must be made, as a store does. */
struct replay_missed replay(const struct trace *trace, enum replay_policy policy, uint64_t bytes_max);

#endif
