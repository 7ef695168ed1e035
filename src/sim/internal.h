/* What the files of the server share.
 *
 *     connection.c   bytes in, requests out of them, bytes out
 *     answer.c       an answer's framing, and the faults that break it
 *     routes.c       which function answers what
 *     openai.c       models, tokenize, errors; what a request for text asks
 *     generate.c     chat and text completions, by the engine's or the ticker's pace
 *     embeddings.c   vectors
 *     plain.c        endpoints for testing gateways
 *     streams.c      endpoints that last: /bytes, /drip, /delay, /ticker
 *     metrics.c      /metrics
 *     capacity.c     /sim/capacity
 *
 * A connection has one request at a time (what is pipelined behind it waits in `in`); its exchange is part of it. */
#ifndef SLUICE_SIM_INTERNAL_H
#define SLUICE_SIM_INTERNAL_H

#include <yyjson.h>

#include "base/check.h"
#include "http/http.h"
#include "ring/mailbox.h"
#include "ring/stream.h"
#include "sim/buffer.h"
#include "sim/server.h"
#include "sim/text.h"

enum {
    SIM_HEAD_BYTES_MAX = 65536,
    SIM_TARGET_BYTES_MAX = 32768,
    SIM_PIPELINED_BYTES_MAX = 65536, /* behind a request that is being answered */
    SIM_BUFFER_KEEP_BYTES = 65536,   /* that a connection keeps between requests */
    SIM_LINGER_MS = 1000,
    SIM_CHOICES_MAX = 128,     /* of one request: prompts × n */
    SIM_PATTERN_BYTES = 65521, /* a prime, so that a block in the wrong place is noticed */
};

struct sim_connection;
struct sim_job;

enum body_use {
    BODY_KEEP,  /* in `payload`, up to body_bytes_max */
    BODY_COUNT, /* length and CRC only */
};

struct route {
    const char *path; /* without /v1 */
    bool is_prefix;   /* the path continues */
    bool get, post;   /* HEAD goes with GET */
    bool any_method;
    bool inference; /* a half-closed connection means that the client has gone */
    enum body_use body;
    void (*answer)(struct sim_connection *c);
};

/* The request at hand. */
struct exchange {
    const struct route *route;
    struct bytes path; /* normalized, without /v1; these three lie in `target` */
    struct bytes query;
    struct bytes rest; /* of the path, behind a prefix route */
    bool is_head;
    bool keep_alive;
    bool http_1_0;
    bool chunked; /* how the answer is framed */
    bool head_sent;
    bool silent;        /* a fault: nothing more will be sent, so nothing is owed to a client that leaves */
    uint64_t body_sent; /* events of a stream, bytes of any other body */
    struct sim_fault fault;
    uint32_t crc;
    uint64_t left; /* of /bytes, /drip, /ticker */
    uint64_t done_count;
    uint64_t period_ns;
    nanos started_ns;
    uint32_t piece_bytes;
    void (*on_time)(struct sim_connection *c);    /* the timer fired */
    void (*on_drained)(struct sim_connection *c); /* everything was sent: more can be put */
    struct sim_job *job;                          /* sequences in the engine; taken out when the connection goes */
};

enum connection_state {
    CONNECTION_HEAD, /* between requests, or in a head */
    CONNECTION_BODY,
    CONNECTION_ANSWERING, /* the exchange is at work */
    CONNECTION_ENDING,    /* sends what is left, then ends as `ending` says */
    CONNECTION_LINGERING, /* FIN is sent; the client's is waited for */
    CONNECTION_CLOSING,
};

enum connection_ending { ENDING_LINGER, ENDING_RESET };

struct sim_connection {
    struct ring_stream stream;
    struct sim *sim;
    struct list_node node;
    struct ring_task task; /* look at `in` and `out` later in this turn */
    struct ring_timer timer;
    enum connection_state state;
    enum connection_ending ending;
    bool client_gone; /* it sent FIN, and the answer is still owed */
    struct sim_buffer in;
    struct sim_buffer out;     /* being filled */
    struct sim_buffer sending; /* in the kernel */
    size_t sending_at;
    struct sim_buffer payload;
    struct sim_buffer target;
    struct http_body body;
    struct exchange x;
    struct http_parser parser; /* last: large */
};

struct sim_counters {
    uint64_t connections;
    uint64_t connections_open;
    uint64_t requests;
    uint64_t cancelled; /* sequences taken out because their client left */
    uint64_t faults;
    uint64_t bad_requests;
    uint64_t prompt_tokens;
    uint64_t finished_stop;
    uint64_t finished_length;
    uint64_t ticks;
};

struct sim {
    struct sim_options options;  /* its profile as it is now */
    struct engine_profile whole; /* as it was at start */
    struct ring_group *group;
    struct ring_message stop_message;
    _Atomic bool stop_asked;
    struct ring *ring;
    struct ring_listener listener;
    bool listening;
    bool stopping;
    struct list_node connections;
    struct engine engine;
    struct ring_timer engine_timer;
    struct ring_task engine_task;
    int64_t started_unix_s;
    uint64_t fault_random;
    struct sim_counters counters;
    struct text_crc crc;
    char pattern[2 * SIM_PATTERN_BYTES]; /* twice, so that any run of one period lies in it */
};

/* ---- connection.c ---- */

void sim_connection_accept(struct sim *sim, int fd);

/* Sends what was put, and goes on with what arrived, later in this turn. */
void sim_connection_kick(struct sim_connection *c);

/* The answer is complete: on to the next request, or the end of the connection. */
void sim_connection_answered(struct sim_connection *c);

/* A fault: nothing more will be put, so nothing is owed to a client that leaves. */
void sim_connection_silent(struct sim_connection *c);

/* Ends the connection once what was put has been sent. */
void sim_connection_end(struct sim_connection *c, enum connection_ending ending);

/* Ends it now: the job is taken out, nothing more is sent. */
void sim_connection_close(struct sim_connection *c);

/* Arms the connection's one timer. */
void sim_connection_at(struct sim_connection *c, nanos when, void (*on_time)(struct sim_connection *c));

/* A field of the request's head; .ptr NULL when there is none. */
struct bytes sim_connection_field(const struct sim_connection *c, struct bytes name);

/* ---- answer.c ---- */

/* Begins the request's answer: chooses the fault and applies what comes before the first byte. */
void sim_answer_begin(struct sim_connection *c);

/* A whole answer. `extra`: further header lines, each with CRLF; may be empty. */
void sim_answer_full(struct sim_connection *c, unsigned status, const char *content_type, struct bytes extra,
                     struct bytes body);
void sim_answer_json(struct sim_connection *c, unsigned status, struct bytes body);

/* The same for what was put into `body`, which is then freed. */
void sim_answer_json_buffer(struct sim_connection *c, unsigned status, struct sim_buffer *body);

/* {"error":…} with the type that goes with the status. `message` is a format. */
void sim_answer_error(struct sim_connection *c, unsigned status, const char *message, ...)
    __attribute__((format(printf, 3, 4)));

/* An answer that comes in pieces. `length`: ANSWER_CHUNKED or its bytes. */
#define ANSWER_CHUNKED UINT64_MAX
void sim_answer_start(struct sim_connection *c, unsigned status, const char *content_type, uint64_t length);

/* Puts a piece; `counts`: what it is worth to a fault's "after". False: a fault ended the answer, or the connection is
 * gone, and nothing more may be put. */
bool sim_answer_piece(struct sim_connection *c, struct bytes piece, uint64_t counts);

/* As sim_answer_piece, for a piece in three parts. */
bool sim_answer_pieces(struct sim_connection *c, const struct bytes parts[3], uint64_t counts);

/* Ends an answer in pieces. */
void sim_answer_finish(struct sim_connection *c);

/* ---- routes.c ---- */

/* Finds the route of the head that has been parsed. NULL: it has been answered (404, 405). */
const struct route *sim_routes_find(struct sim_connection *c);

/* A number from the query; `otherwise` when it is not there or is none. */
uint64_t sim_query_u64(struct bytes query, const char *name, uint64_t otherwise);

/* ---- openai.c ---- */

void sim_openai_models(struct sim_connection *c);
void sim_openai_model(struct sim_connection *c);
void sim_openai_tokenize(struct sim_connection *c);
void sim_openai_detokenize(struct sim_connection *c);
void sim_openai_health(struct sim_connection *c);
void sim_openai_version(struct sim_connection *c);

/* Reads the body as a JSON object. NULL: it has been answered with 400. */
yyjson_doc *sim_openai_read(struct sim_connection *c);

/* The model that is asked for; NULL: it has been answered with 404 or 400. */
const char *sim_openai_choose_model(struct sim_connection *c, yyjson_val *root);

/* An unsigned member: `otherwise` when absent or null. False: of another type, and 400 has been answered. */
bool sim_openai_u64(struct sim_connection *c, yyjson_val *root, const char *name, uint64_t otherwise,
                    uint64_t *ret_value);

/* A prompt's length and hash. */
struct prompt {
    uint64_t tokens;
    uint64_t hash;
};

/* Reads `prompt` or `input`: a string, an array of strings, of token ids, or of arrays of token ids; from malloc.
 * Returns how many; 0: it has been answered with 400. */
unsigned sim_openai_prompts(struct sim_connection *c, yyjson_val *value, const char *name, unsigned max,
                            struct prompt **ret_prompts);

/* Reads `messages`. False: it has been answered with 400. */
bool sim_openai_messages(struct sim_connection *c, yyjson_val *messages, struct prompt *ret_prompt);

/* ---- jobs: sequences that the engine works on for one exchange (engine_glue.c) ---- */

struct sim_sequence {
    struct engine_sequence engine;
    struct sim_job *job;
};

struct sim_job {
    struct sim_connection *connection;
    void (*on_event)(struct sim_job *job, struct sim_sequence *sequence, const struct engine_event *event);
    void (*destroy)(struct sim_job *job);
    struct sim_sequence *(*sequence)(struct sim_job *job, unsigned index);
    unsigned sequence_count;
    bool in_engine;
};

void sim_glue_init(struct sim *sim);

/* Submits all of a job's sequences and makes it the exchange's. *Takes* the job. Its prompts and outputs are within
 * the context. */
void sim_glue_submit(struct sim_connection *c, struct sim_job *job);

/* Ends the exchange's job, if it has one; those that are still in the engine are cancelled. */
void sim_glue_drop(struct sim_connection *c);

/* ---- endpoints ---- */

void sim_generate_chat(struct sim_connection *c);
void sim_generate_text(struct sim_connection *c);
void sim_embeddings_answer(struct sim_connection *c);
void sim_metrics_answer(struct sim_connection *c);
void sim_capacity_answer(struct sim_connection *c);
void sim_plain_echo(struct sim_connection *c);
void sim_plain_upload(struct sim_connection *c);
void sim_plain_status(struct sim_connection *c);
void sim_plain_requests(struct sim_connection *c);
void sim_plain_compute(struct sim_connection *c);
void sim_streams_bytes(struct sim_connection *c);
void sim_streams_delay(struct sim_connection *c);
void sim_streams_drip(struct sim_connection *c);
void sim_streams_ticker(struct sim_connection *c);

#endif
