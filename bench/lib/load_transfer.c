/* One big body down or up at full speed, every byte checked. Blocking calls on one connection: there is nothing to wait
 * for but the next piece, so a ring would only add to it. */
#include "http.h"
#include "load.h"
#include "pattern.h"

struct transfer {
    const struct load_options *options;
    struct pattern pattern;
    char buffer[PATTERN_PIECE_MAX];
    int fd;
    uint64_t bytes; /* of the body so far */
};

static void send_all(const struct transfer *transfer, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(transfer->fd, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0)
            bench_die("sending failed after %llu bytes of body: %s", (unsigned long long)transfer->bytes,
                      strerror(errno));
        bytes += sent;
        length -= (size_t)sent;
    }
}

/* Reads an answer to its end. Checks its body against the pattern if told to, else leaves it in buffer, terminated. */
static void read_answer(struct transfer *transfer, bool check)
{
    struct http_head head;
    size_t filled = 0;
    enum http_outcome outcome = HTTP_MORE;
    while (outcome == HTTP_MORE) {
        ssize_t got = recv(transfer->fd, transfer->buffer + filled, sizeof transfer->buffer - filled, 0);
        if (got <= 0)
            bench_die("the answer's head never came: %s", got < 0 ? strerror(errno) : "closed");
        filled += (size_t)got;
        outcome = http_head_parse(transfer->buffer, filled, &head);
    }
    if (head.status != 200)
        bench_die("status %u", head.status);

    struct http_body body;
    http_body_init(&body, &head);
    size_t at = head.bytes, small_bytes = 0;
    char small[256];
    for (;;) {
        while (at < filled) {
            const char *payload;
            size_t length, used;
            outcome = http_body_step(&body, transfer->buffer + at, filled - at, &payload, &length, &used);
            if (outcome == HTTP_BROKEN)
                bench_die("bad chunked framing after %llu bytes", (unsigned long long)transfer->bytes);
            if (check) {
                if (!pattern_holds(&transfer->pattern, transfer->bytes, payload, length))
                    bench_die("wrong bytes near %llu", (unsigned long long)transfer->bytes);
                transfer->bytes += length;
            } else if (small_bytes + length < sizeof small) {
                memcpy(small + small_bytes, payload, length);
                small_bytes += length;
            }
            at += used;
            if (outcome == HTTP_DONE) {
                memcpy(transfer->buffer, small, small_bytes);
                transfer->buffer[small_bytes] = '\0';
                return;
            }
        }
        ssize_t got = recv(transfer->fd, transfer->buffer, sizeof transfer->buffer, 0);
        if (got <= 0)
            bench_die("ended after %llu bytes of body: %s", (unsigned long long)transfer->bytes,
                      got < 0 ? strerror(errno) : "closed");
        at = 0;
        filled = (size_t)got;
    }
}

static void download(struct transfer *transfer)
{
    char head[512];
    int length = snprintf(head, sizeof head, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\n\r\n", transfer->options->path,
                          transfer->options->port);
    send_all(transfer, head, (size_t)length);
    read_answer(transfer, true);
}

static void upload(struct transfer *transfer)
{
    char head[512], wanted[64];
    uint64_t total = (uint64_t)transfer->options->bytes;
    int length = snprintf(head, sizeof head,
                          "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\nContent-Type: application/octet-stream\r\n"
                          "Content-Length: %llu\r\n\r\n",
                          transfer->options->path, transfer->options->port, (unsigned long long)total);
    send_all(transfer, head, (size_t)length);
    while (transfer->bytes < total) {
        uint64_t left = total - transfer->bytes;
        size_t piece = left < PATTERN_PIECE_MAX ? (size_t)left : PATTERN_PIECE_MAX;
        send_all(transfer, pattern_at(&transfer->pattern, transfer->bytes), piece);
        transfer->bytes += piece;
    }
    read_answer(transfer, false);
    snprintf(wanted, sizeof wanted, "{\"intact\":true,\"bytes\":%llu}", (unsigned long long)total);
    if (strcmp(transfer->buffer, wanted) != 0)
        bench_die("the backend got something else: %.100s", transfer->buffer);
}

void load_transfer(const struct load_options *options, bool up)
{
    struct transfer *transfer = calloc(1, sizeof *transfer);
    struct usage begin, end;
    if (transfer == NULL)
        bench_die("no memory");
    transfer->options = options;
    pattern_init(&transfer->pattern);
    struct sockaddr_in address = bench_loopback(options->port);
    transfer->fd = bench_socket();
    if (connect(transfer->fd, (struct sockaddr *)&address, sizeof address) != 0)
        bench_die("cannot connect to 127.0.0.1:%ld: %s", options->port, strerror(errno));
    usage_init(&begin, options->watch);
    usage_init(&end, options->watch);
    usage_take(&begin);
    if (up)
        upload(transfer);
    else
        download(transfer);
    usage_take(&end);
    double elapsed_s = (double)(end.at_ns - begin.at_ns) / 1e9;
    printf("{\"bytes\":%llu,\"mb_per_s\":%.1f,", (unsigned long long)transfer->bytes,
           (double)transfer->bytes / 1e6 / elapsed_s);
    usage_print(&begin, &end);
    printf("}\n");
}
