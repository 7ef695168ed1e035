/* One end of a TCP connection as a stream, which notes what it is told; the other end is a raw descriptor. */
#ifndef TESTS_UNIT_RING_PEER_H
#define TESTS_UNIT_RING_PEER_H

#include "ring/stream.h"

struct peer {
    struct ring_stream stream;
    char got[65536];
    unsigned used; /* bytes received; past the end of `got` they are only counted */
    unsigned received_calls;
    unsigned sent_calls;
    unsigned sent_bytes;
    enum result sent_result;
    enum result why;
    enum result connect_result;
    const char *last_at;
    char *into_again; /* received arms a single receive of 8 bytes there */
    bool echoes;
    bool stops_loop_when_closed;
    bool is_connected;
    bool is_ended;
    bool is_hung_up;
    bool is_broken;
    bool is_closed;
};

extern const struct ring_stream_events peer_events;

/* Makes a connection over loopback and adopts one end; gives the other. */
int peer_adopt(struct peer *peer, struct ring *ring);

/* With socket buffers that hold little. */
int peer_adopt_small(struct peer *peer, struct ring *ring);

/* Closes the stream and waits until it is told so. */
void peer_close(struct peer *peer);

/* Closes a raw descriptor with a reset. */
void peer_reset(int fd);

/* Reads `bytes` bytes, waiting for them. */
bool peer_read_all(int fd, char *into, size_t bytes);

bool peer_never(void *context);

#endif
