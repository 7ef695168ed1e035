/* The bulk backend: sends a body of any size (GET /bytes/N) and swallows one of any size (POST), both in the pattern of
 * lib/pattern.h, which it checks. A thread per connection with blocking calls: a handful of big transfers is all it is
 * for, and its memory and speed are not what is measured. */
#include "bench.h"
#include "http.h"
#include "pattern.h"

#include <pthread.h>
#include <sys/socket.h>

struct bulk {
    const struct pattern *pattern;
    int fd;
    size_t filled; /* bytes in buffer not yet taken */
    char buffer[PATTERN_PIECE_MAX];
};

static bool send_all(const struct bulk *bulk, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(bulk->fd, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        bytes += sent;
        length -= (size_t)sent;
    }
    return true;
}

static bool receive_more(struct bulk *bulk)
{
    ssize_t got = recv(bulk->fd, bulk->buffer + bulk->filled, sizeof bulk->buffer - bulk->filled, 0);
    if (got <= 0)
        return false;
    bulk->filled += (size_t)got;
    return true;
}

static void take(struct bulk *bulk, size_t used)
{
    bulk->filled -= used;
    memmove(bulk->buffer, bulk->buffer + used, bulk->filled);
}

static bool send_body(const struct bulk *bulk, uint64_t total)
{
    char head[128];
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %llu\r\n\r\n",
                          (unsigned long long)total);
    bool sent = send_all(bulk, head, (size_t)length);
    for (uint64_t at = 0; sent && at < total;) {
        size_t piece = total - at < PATTERN_PIECE_MAX ? (size_t)(total - at) : PATTERN_PIECE_MAX;
        sent = send_all(bulk, pattern_at(bulk->pattern, at), piece);
        at += piece;
    }
    return sent;
}

/* Reads a request's body to its end and says what came. */
static bool swallow_body(struct bulk *bulk, const struct http_head *head)
{
    struct http_body body;
    uint64_t bytes = 0;
    bool intact = true;
    enum http_outcome outcome = HTTP_MORE;
    http_body_init(&body, head);
    if (!head->chunked && head->content_length == 0)
        outcome = HTTP_DONE;
    while (outcome == HTTP_MORE) {
        if (bulk->filled == 0 && !receive_more(bulk))
            return false;
        size_t at = 0;
        while (outcome == HTTP_MORE && at < bulk->filled) {
            const char *payload;
            size_t length, used;
            outcome = http_body_step(&body, bulk->buffer + at, bulk->filled - at, &payload, &length, &used);
            intact &= pattern_holds(bulk->pattern, bytes, payload, length);
            bytes += length;
            at += used;
        }
        take(bulk, at);
    }
    if (outcome == HTTP_BROKEN)
        return false;
    char said[64], answer[192];
    int said_bytes = snprintf(said, sizeof said, "{\"intact\":%s,\"bytes\":%llu}", intact ? "true" : "false",
                              (unsigned long long)bytes);
    int length =
        snprintf(answer, sizeof answer,
                 "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", said_bytes, said);
    return send_all(bulk, answer, (size_t)length);
}

static void *serve(void *argument)
{
    struct bulk *bulk = argument;
    static const char PREFIX[] = "GET /bytes/";
    bool open = true;
    while (open) {
        struct http_head head;
        if (http_head_parse(bulk->buffer, bulk->filled, &head) == HTTP_MORE) {
            open = bulk->filled < sizeof bulk->buffer && receive_more(bulk);
            continue;
        }
        bool sized = memcmp(bulk->buffer, PREFIX, sizeof PREFIX - 1) == 0;
        uint64_t total = sized ? strtoull(bulk->buffer + sizeof PREFIX - 1, NULL, 10) : 0;
        bool get = memcmp(bulk->buffer, "GET ", 4) == 0;
        take(bulk, head.bytes);
        open = get ? send_body(bulk, total) : swallow_body(bulk, &head);
    }
    close(bulk->fd);
    free(bulk);
    return NULL;
}

int main(int argc, char **argv)
{
    long port = 0, cpu = -1;
    const struct bench_option options[] = {
        {"--port", "listen on 127.0.0.1:PORT", &port, NULL},
        {"--cpu", "run on this core", &cpu, NULL},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    bench_pin(cpu);
    struct pattern *pattern = malloc(sizeof *pattern);
    if (pattern == NULL)
        bench_die("no memory");
    pattern_init(pattern);
    int listener = bench_listen(port);
    for (;;) {
        struct bulk *bulk = calloc(1, sizeof *bulk);
        if (bulk == NULL)
            bench_die("no memory for another connection");
        bulk->pattern = pattern;
        bulk->fd = accept(listener, NULL, NULL);
        pthread_t thread;
        if (bulk->fd < 0 || pthread_create(&thread, NULL, serve, bulk) != 0)
            bench_die("cannot serve another connection: %s", strerror(errno));
        pthread_detach(thread);
    }
}
