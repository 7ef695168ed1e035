/* Faults on demand: what a backend does wrong, as `name=value;name;…` in a request's x-sim-fault or on the command
 * line. docs/simulator.md lists them all. */
#ifndef SLUICE_SIM_FAULT_H
#define SLUICE_SIM_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/clock.h"

/* How a connection is done away with before a byte of the answer. */
enum fault_start {
    FAULT_START_NONE,
    FAULT_START_RESET,  /* RST */
    FAULT_START_CLOSE,  /* FIN */
    FAULT_START_SILENT, /* nothing, until the client leaves */
};

/* How an answer breaks in its middle. */
enum fault_middle {
    FAULT_MIDDLE_NONE,
    FAULT_MIDDLE_RESET,     /* RST */
    FAULT_MIDDLE_CLOSE,     /* FIN, without the end that the framing promised */
    FAULT_MIDDLE_STALL,     /* nothing more, until the client leaves */
    FAULT_MIDDLE_ERROR,     /* an error event, then FIN without [DONE] */
    FAULT_MIDDLE_BAD_CHUNK, /* a chunk size that is none, then FIN */
};

struct sim_fault {
    uint32_t probability_ppm; /* of a default fault to be chosen; 1,000,000: always */
    enum fault_start start;
    enum fault_middle middle;
    uint64_t middle_after; /* events of a stream, or bytes of any other body, that still go out */
    uint64_t late_ns;      /* before the first byte */
    uint32_t slow_milli;   /* tokens come so many thousandths slower; 0: as they are */
    uint16_t status;       /* answer this instead; 0: none */
    bool has_retry_after;
    uint32_t retry_after_s;
    uint32_t huge_head_bytes; /* of padding in the head */
    uint32_t extra_bytes;     /* behind the end of the answer */
    uint32_t interim_count;   /* 1xx answers first */
    uint32_t split_bytes;     /* at most so many a send */
    bool two_lengths;         /* two Content-Length that differ */
    bool length_and_chunked;  /* Content-Length with Transfer-Encoding */
    bool bad_status_line;
    bool bad_field;     /* a space before the colon */
    bool no_length;     /* neither: the end of the connection ends the body */
    bool no_keep_alive; /* Connection: close */
};

/* Reads a specification; an empty one is no fault. False, with the item that was not understood, leaves
 * *ret_fault alone. */
bool sim_fault_parse(struct bytes spec, struct sim_fault *ret_fault, struct bytes *ret_bad);

#endif
