/* A client's connection.
 *
 *            a request that must wait
 *   READY ───────────────────────────▶ EXCHANGE ──┐
 *     ▲  ◀── answered: the next one ─────────────┘
 *     │ error, `Connection: close`, drained
 *     └────▶ ENDING ── all sent: FIN ──▶ LINGERING ── client's FIN, or time ──▶ closed
 *
 * Between requests it is this struct, an armed receive and nothing else. What can be answered at once is
 * answered in the completion handler, and pipelined answers leave in one send. Everything else becomes an
 * exchange, one at a time; what the client sends meanwhile is kept, up to a bound, and then not received. */
#ifndef SLUICE_SERVER_CONN_H
#define SLUICE_SERVER_CONN_H

#include "api/error.h"
#include "proxy/forward.h"
#include "proxy/outbox.h"
#include "ring/stream.h"
#include "server/worker.h"

enum conn_state { CONN_READY, CONN_EXCHANGE, CONN_ENDING, CONN_LINGERING, CONN_CLOSED };

/* Bytes that came and are not used yet, with the parser that has read the first head among them so far. */
struct conn_input {
    bool has_parser;
    struct http_parser parser;
    size_t used;
    size_t capacity;
    char *bytes;
};

struct conn {
    struct ring_stream stream;
    struct worker *worker;
    struct list_node node; /* on worker->conns */
    struct ring_task task; /* goes on with kept input */
    struct ring_timer timer;
    struct exchange *exchange; /* NULL: none */
    struct outbox *outbox;     /* NULL: nothing to send */
    struct conn_input *input;  /* NULL: nothing kept */
    nanos active_ns;           /* when the last request was answered, or the connection came */
    nanos phase_ns;            /* when the head, or the lingering, began */
    nanos send_ns;             /* when the send in flight began, or was last seen to move */
    uint32_t send_taken;       /* ring_stream_taken at that time */
    uint32_t requests;
    uint8_t client_bytes; /* of client; 0: none, or not asked yet */
    bool client_is_known;
    char client[INET6_ADDRSTRLEN];
    enum conn_state state;
    uint8_t send_looks; /* at the send since send_ns, all of which found it stuck */
    bool is_admin;
    bool is_processing; /* in conn_process: do not recurse */
    bool peer_closed;   /* its FIN came */
    bool receive_paused;
};

_Static_assert(sizeof(struct conn) <= 384, "an idle connection is small");

/* A connection was accepted; *takes* the descriptor. */
void conn_accept(struct worker *worker, int fd, bool is_admin);

/* Ends it now. With `abort` the client sees a reset. */
void conn_close(struct conn *conn, bool abort);

/* No further request: what is queued is sent, then the client's remaining bytes are read away. */
void conn_end(struct conn *conn);

/* The worker drains: an idle connection is closed, a busy one after its answer. */
void conn_drain(struct conn *conn);

/* ---- for exchanges ---- */

/* The outbox, made when there is none. NULL when memory is out: the connection is to be closed. */
struct outbox *conn_outbox(struct conn *conn);

/* Sends what is queued, if nothing is in flight. */
void conn_flush(struct conn *conn);

/* The exchange is over; goes on with the next request, or ends. */
void conn_exchange_over(struct conn *conn, bool keep_alive);

/* Holds back, and resumes, receiving: a body's window. */
void conn_pause_receive(struct conn *conn);
void conn_resume_receive(struct conn *conn);

/* Looks at the deadline again after something that may have moved it nearer. */
void conn_arm_timer(struct conn *conn);

/* The client's address without port, as text; empty for unix sockets. Asked of the kernel once per connection. */
struct bytes conn_client(struct conn *conn);

/* ---- answering at once ---- */

struct conn_answer {
    struct bytes fixed_head; /* status line and content fields, whole lines */
    struct bytes body;       /* empty for HEAD; copied when small, else it has to outlive the process's routes */
    struct bytes request_id;
    uint8_t version_minor;
    bool keep_alive;
    bool copy_body; /* whatever its size */
};

/* Queues a whole answer: the fixed head, the fields every answer has, the body. */
MUST_USE enum result conn_answer(struct conn *conn, const struct conn_answer *answer);

/* What a 503 for want of memory, descriptors or fibers says besides, in the words of a shed request's: most such
 * moments are short. */
#define CONN_OVERLOADED_LINES \
    BYTES("Retry-After: 1\r\nretry-after-ms: 1000\r\nx-should-retry: true\r\nX-Sluice-Reason: overloaded\r\n")

/* Queues an error in the dialect given. `extra`: further field lines, or empty. */
MUST_USE enum result conn_answer_error(struct conn *conn, enum api_dialect dialect, const struct api_error *error,
                                       struct bytes extra, struct conn_answer *answer, bool is_head);

/* Writes 32 hexadecimal digits. */
void conn_make_request_id(struct conn *conn, char out[FORWARD_REQUEST_ID_BYTES]);

/* Puts the fields that every answer has (Date unless `has_date`, X-Request-Id, Connection) and the blank line
 * at `at`, for which CONN_COMMON_BYTES_MAX and the id's length are enough. Returns the end. */
char *conn_put_common_fields(struct conn *conn, char *at, const struct conn_answer *answer, bool has_date);
enum { CONN_COMMON_BYTES_MAX = 160 };

#endif
