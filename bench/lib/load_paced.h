/* The state of the mode paced, shared by what drives it and what prints it. See load_paced.c. */
#ifndef BENCH_LOAD_PACED_H
#define BENCH_LOAD_PACED_H

#include "answer.h"
#include "events.h"
#include "load.h"
#include "pace.h"
#include "spread.h"

enum {
    PACED_STATUS_MAX = 600,
};

struct paced_connection {
    struct answer answer;
    struct events events;
    uint64_t idle_since_ns, due_ns, sent_ns, first_event_ns, first_token_ns, last_token_ns;
    int next_idle; /* descriptor, or NONE */
    bool is_idle, is_asked, is_measured;
    char *request; /* its own copy when there are numbers in it */
};

struct interval {
    struct spread latency;
    uint64_t answered, failed, tokens;
};

struct paced {
    struct load load;
    struct pace pace;
    bool is_open; /* loop */
    uint64_t now_ns, begin_ns, window_begin_ns, window_end_ns, give_up_ns;
    uint64_t random;
    uint64_t number; /* of the next request, in {n} */

    uint64_t due, waited, late,
        outstanding; /* measured: due; without a free connection; sent late. All: not yet over */
    uint64_t good, failed, broken, unanswered, events, tokens, bytes;
    /* good ones that were over, and tokens that came, within the window, whenever the request was due */
    uint64_t in_window, tokens_in_window;
    uint64_t status[PACED_STATUS_MAX];
    uint64_t sent_ever, answered_ever, good_ever;
    uint64_t closed, connect_failures; /* of all time */
    struct spread latency, service, refusal, lag, first_event, first_token, token_gap;
    struct interval interval;

    int idle; /* a stack: few connections stay busy rather than all a little */
    long idle_count, missing;
    bool pace_armed;
    struct __kernel_timespec pace_timer, tick_timer, interval_timer;
    struct paced_connection connection[BENCH_FD_MAX];
};

/* Prints the figures of the interval that ends now, as a line, and begins the next. */
void paced_print_interval(struct paced *paced);

/* Prints the result, as a line; counts those without an answer first. */
void paced_print_result(struct paced *paced);

#endif
