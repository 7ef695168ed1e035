/* What the files of batching share: batching.c (the client's side: tickets), batching_owner.c (formers),
 * batching_call.c (a merged call), batching_head.c (heads of requests and answers). */
#ifndef SLUICE_API_BATCHING_INTERNAL_H
#define SLUICE_API_BATCHING_INTERNAL_H

#include "api/batching.h"
#include "ring/mailbox.h"

struct batching_call;
struct batching_former;
struct batching_ticket;

/* A stretch of a request's items. The owner's. */
struct batching_run {
    struct batch_item item;
    struct array_run run;
    struct batching_ticket *ticket;
    struct batching_call *call;  /* that it is in; NULL: none */
    struct batching_call *spare; /* for a call that begins with it: memory cannot be short when it leaves */
    bool is_settled;
    struct bytes answer; /* from malloc */
};

enum batching_stage { BATCHING_AWAY, BATCHING_IS_ALONE, BATCHING_BACK };

enum batching_verdict {
    BATCHING_NONE,     /* it is canceled */
    BATCHING_ALONE,    /* it is to go by itself */
    BATCHING_ANSWERED, /* head and answer are there */
    BATCHING_FAILED,
};

struct batching_ticket {
    struct fetch_detour detour;

    /* constant while it is away */
    struct batching *home;
    struct batching *owner;
    const struct batching_route *route;
    struct bytes model;
    struct bytes line;
    struct bytes host;
    struct bytes lines; /* those that all it can be merged with have alike */
    struct bytes request_id;
    uint64_t endpoints_allowed;
    char *body;
    size_t body_bytes;
    struct array_request array;
    uint8_t class;
    uint32_t weight;
    uint64_t tenant;
    uint64_t account; /* as in gate_pass: all that it can be merged with have the same credentials */
    nanos arrived_ns;
    nanos deadline_ns;
    bool is_patient; /* as in sched_request */

    /* the client's side */
    struct fetch *fetch; /* NULL: it has ended */
    enum batching_stage stage;
    unsigned away; /* messages that are with the owner */
    nanos alone_ns;

    /* the owner's until it is given back */
    struct batching_former *former;
    unsigned runs_open;
    bool is_open; /* not given back yet */
    bool is_decided;
    struct ring_timer late; /* its deadline, while it waits */
    enum batching_verdict verdict;
    bool is_counted; /* BATCHING_ALONE: the former counts it as a call, and is to hear of its end */
    char *head;      /* of the answer, from malloc */
    size_t head_bytes;
    bool has_body;
    struct bytes answer; /* from malloc */
    unsigned endpoint;
    uint32_t batch_items;
    uint32_t batch_requests;
    struct fetch_failure failure;

    /* then the client's again, who tells how it went when it went alone */
    nanos took_ns;
    bool has_failed;
    bool tells_nothing; /* of the backend: it was canceled, say */

    struct ring_message message;
    struct ring_message cancel;
    char *text; /* what the bytes above lie in */
    unsigned run_count;
    struct batching_run runs[];
};

/* What is formed for one model of a route's. */
struct batching_former {
    struct batching *batching;
    const struct batching_route *route;
    struct batch_former *former;
    struct list_node node;
    struct ring_timer timer;
    unsigned uses;        /* tickets and calls */
    nanos apart_until_ns; /* its answers could not be taken apart: nothing is merged until then */
    uint64_t told_waiting;
    uint64_t told_calls;
    size_t model_bytes;
    char model[];
};

/* One upstream call for runs of several tickets, or for a part of one. */
struct batching_call {
    struct batching_former *former;
    struct list_node node; /* on starting */
    struct list_node runs; /* by item.node, in the order of their items */
    unsigned run_count;
    unsigned live; /* runs that somebody still waits for */
    uint32_t items;
    uint64_t key;
    nanos flushed_ns;
    bool is_counted; /* the former is to hear of its end */
    bool is_apart;   /* it is a second try: what cannot be taken apart now has failed */
    struct array_run *array_runs;
    struct fetch *fetch;
    struct entry_reader reader;
    char *answer;
    size_t answer_bytes;
    size_t answer_capacity;
};

/* ---- batching.c ---- */

/* The path that the backend is asked for by a request line; with its query, or without. */
struct bytes batching_path_of(struct bytes line, bool with_query);

void batching_ticket_free(struct batching_ticket *ticket);

/* It has come back to its own worker. */
void batching_ticket_on_back(struct ring *ring, struct ring_message *message);
void batching_ticket_on_cancel_back(struct ring *ring, struct ring_message *message);

/* ---- batching_owner.c ---- */

/* At the owner: it has come; it is canceled; it went alone, and is over. */
void batching_on_submit(struct ring *ring, struct ring_message *message);
void batching_on_cancel(struct ring *ring, struct ring_message *message);
void batching_on_ended(struct ring *ring, struct ring_message *message);

/* Gives all of a ticket up but its verdict, which stands from now on. It may be given back. */
void batching_decide(struct batching_ticket *ticket, enum batching_verdict verdict);

/* This run needs nothing more. The ticket may be given back. */
void batching_run_settle(struct batching_run *run);

/* It goes by itself. `is_counted`: as a call of the former's. */
void batching_go_alone(struct batching_ticket *ticket, bool is_counted);

/* A call of the former's has ended. */
void batching_former_on_end(struct batching_former *former, const struct batch_end *end);
void batching_former_arm(struct batching_former *former);
void batching_former_unuse(struct batching_former *former);

static inline struct batching_counters *batching_counters_of(const struct batching_former *former)
{
    return &former->batching->counters[former->route->index];
}

static inline void batching_count(const struct batching_former *former, enum batching_count what, uint64_t by)
{
    counter_add(&batching_counters_of(former)->counts[what], by);
}

/* ---- batching_call.c ---- */

/* *Takes* the runs linked by item.node, and the first one's spare memory. It begins later in this turn. */
struct batching_call *batching_call_make(struct batching_former *former, struct list_node *items, uint64_t key);
void batching_call_on_start(struct ring_task *task);

/* One fewer waits for it: with nobody left it is canceled. May free it. */
void batching_call_leave(struct batching_call *call);

/* ---- batching_head.c ---- */

/* What a request's lines say to merging. */
struct batching_lines {
    bool is_coded;           /* its body has a content coding */
    struct bytes request_id; /* within the fields */
    size_t shared_bytes;
};

/* Copies the lines that requests must have alike to `out` (room for fields.len), and finds what else matters. */
struct batching_lines batching_read_lines(struct bytes fields, char *out);

/* The fields of a merged call, in `arena`; .ptr NULL: memory is out. */
struct bytes batching_call_fields(struct arena *arena, const struct batching_ticket *first);

/* Begins the head of a ticket's answer with that of a call. False: memory is out. `is_part`: the body will not be the
 * call's own. Then, when ticket->answer is there, its end. */
bool batching_answer_begin(struct batching_ticket *ticket, const struct entry *entry, bool is_part);
void batching_answer_end(struct batching_ticket *ticket);

/* Whether the answer's body has a content coding. */
bool batching_is_coded(const struct entry *entry);

#endif
