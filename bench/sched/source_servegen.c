/* ServeGen: for each client a table of rates over the day (t_s, rate, cv, pattern, shape, scale) and, for some windows
 * of it, the distributions of its prompts' and answers' lengths. Gaps are Gamma or Weibull of the given shape, with the
 * mean that the rate says; a client whose table names neither is Poisson. */
#include "source.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "die.h"
#include "file.h"
#include "random.h"

enum { TAR_BLOCK = 512, CLIENTS_MAX = 4096, LENGTHS_MAX = 8 };

/* What is at the place of a quantile: lengths with the sums of their shares. */
struct lengths {
    uint32_t *tokens;
    double *shares;
    size_t count;
};

struct window {
    double from_s;
    struct lengths prompts, outputs;
};

struct client {
    const char *trace; /* text, up to trace_end */
    const char *trace_end;
    const char *dataset; /* likewise */
    const char *dataset_end;
    struct window windows[LENGTHS_MAX];
    size_t window_count;
};

/* ---- the archive ---- */

static void note_entry(struct client *clients, const char *name, const char *text, size_t count)
{
    const char *chunk = strstr(name, "chunk-");
    unsigned long number = chunk != NULL ? strtoul(chunk + 6, NULL, 10) : CLIENTS_MAX;
    if (number >= CLIENTS_MAX) {
        return;
    }
    if (strstr(name, "-trace.csv") != NULL) {
        clients[number].trace = text;
        clients[number].trace_end = text + count;
    } else if (strstr(name, "-dataset.json") != NULL) {
        clients[number].dataset = text;
        clients[number].dataset_end = text + count;
    }
}

/* Name and octal size at the head of each entry, contents in whole blocks behind it. */
static void read_tar(const struct bench_file *file, struct client *clients)
{
    size_t at = 0;
    while (at + TAR_BLOCK <= file->count && file->bytes[at] != '\0') {
        char name[101] = {0};
        memcpy(name, file->bytes + at, 100);
        size_t count = strtoull(file->bytes + at + 124, NULL, 8);
        at += TAR_BLOCK;
        if (count > file->count - at) {
            bench_die("the archive ends inside %s", name);
        }
        note_entry(clients, name, file->bytes + at, count);
        at += (count + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    }
}

/* ---- lengths ---- */

/* "{45: 0.0096, 46: 0.0117}" behind `"name":`, before `end`. */
static struct lengths read_lengths(const char *at, const char *end, const char *name)
{
    struct lengths lengths = {0};
    const char *found = strstr(at, name);
    const char *open = found != NULL && found < end ? strchr(found, '{') : NULL;
    const char *close = open != NULL ? strchr(open, '}') : NULL;
    if (close == NULL || close > end) {
        return lengths;
    }
    size_t room = (size_t)(close - open);
    lengths.tokens = bench_need(room, sizeof *lengths.tokens);
    lengths.shares = bench_need(room, sizeof *lengths.shares);
    double sum = 0;
    for (const char *next = open + 1; next < close;) {
        char *rest;
        double tokens = strtod(next, &rest);
        if (rest == next || *rest != ':') {
            break;
        }
        sum += strtod(rest + 1, &rest);
        lengths.tokens[lengths.count] = tokens >= 1 ? (uint32_t)tokens : 1;
        lengths.shares[lengths.count++] = sum;
        next = rest + strspn(rest, ", ");
    }
    return lengths;
}

static uint32_t draw_length(const struct lengths *lengths, uint64_t *random)
{
    double share = random_share(random) * lengths->shares[lengths->count - 1];
    size_t low = 0, high = lengths->count - 1;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (lengths->shares[middle] < share) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return lengths->tokens[low];
}

/* Windows are members of an object, named by the second they begin at. */
static void read_dataset(struct client *client)
{
    const char *at = client->dataset;
    while (at != NULL && client->window_count < LENGTHS_MAX) {
        const char *prompts = strstr(at, "\"input_tokens\"");
        if (prompts == NULL || prompts >= client->dataset_end) {
            return;
        }
        const char *key = prompts;
        while (key > client->dataset && *key != '{') {
            key--;
        }
        while (key > client->dataset && *key != '"') {
            key--;
        }
        while (key > client->dataset && key[-1] != '"') {
            key--;
        }
        struct window window = {.from_s = strtod(key, NULL)};
        window.prompts = read_lengths(prompts, client->dataset_end, "\"input_tokens\"");
        window.outputs = read_lengths(prompts, client->dataset_end, "\"output_tokens\"");
        if (window.prompts.count > 0 && window.outputs.count > 0) {
            client->windows[client->window_count++] = window;
        }
        at = prompts + 1;
    }
}

static const struct window *window_at(const struct client *client, double at_s)
{
    const struct window *best = &client->windows[0];
    for (size_t i = 1; i < client->window_count; i++) {
        best = client->windows[i].from_s <= at_s ? &client->windows[i] : best;
    }
    return best;
}

/* ---- arrivals ---- */

/* Marsaglia and Tsang 2000, of mean `shape`. */
static double draw_gamma(double shape, uint64_t *random)
{
    if (shape < 1) {
        double boost = pow(random_share(random), 1 / shape);
        return draw_gamma(shape + 1, random) * boost;
    }
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = random_normal(random), v = pow(1 + c * x, 3);
        if (v > 0 && log(random_share(random)) < x * x / 2 + d - d * v + d * log(v)) {
            return d * v;
        }
    }
}

struct rate {
    double from_s, per_s, shape;
    char pattern; /* G, W, or another: Poisson */
};

/* A gap of mean 1. */
static double draw_gap(const struct rate *rate, uint64_t *random)
{
    double gap = random_exponential(random, 1);
    if (rate->pattern == 'W' && rate->shape > 0) {
        return pow(gap, 1 / rate->shape) / tgamma(1 + 1 / rate->shape);
    }
    if (rate->pattern == 'G' && rate->shape > 0) {
        return draw_gamma(rate->shape, random) / rate->shape;
    }
    return gap;
}

/* One line of the table; false: there is none. */
static bool read_rate(const char **line, const char *end, struct rate *ret_rate)
{
    if (*line >= end) {
        return false;
    }
    char *rest;
    struct rate rate = {.from_s = strtod(*line, &rest)};
    rate.per_s = *rest == ',' ? strtod(rest + 1, &rest) : 0;
    double cv = *rest == ',' ? strtod(rest + 1, &rest) : 0;
    (void)cv; /* the shape says the same */
    rate.pattern = *rest == ',' ? rest[1] : '\0';
    const char *comma = *rest == ',' ? strchr(rest + 1, ',') : NULL;
    rate.shape = comma != NULL && comma < end ? strtod(comma + 1, NULL) : 0;
    const char *next = memchr(*line, '\n', (size_t)(end - *line));
    *line = next != NULL ? next + 1 : end;
    *ret_rate = rate;
    return true;
}

static void add_request(struct source *source, const struct client *client, unsigned number, double at_s,
                        uint64_t *random)
{
    struct source_row *row = source_add(source);
    const struct window *window = window_at(client, at_s);
    row->at_s = at_s;
    row->tenant = number + 1;
    row->prompt_tokens = draw_length(&window->prompts, random);
    row->output_tokens = draw_length(&window->outputs, random);
}

/* Goes through the table spending intensity: a gap that began in one window ends in the next, at its rate. */
static void draw_client(struct source *source, const struct client *client, unsigned number, double from_s, double to_s,
                        uint64_t *random)
{
    const char *line = client->trace;
    struct rate rate, next;
    if (!read_rate(&line, client->trace_end, &rate)) {
        return;
    }
    double gap = draw_gap(&rate, random);
    for (bool is_more = true; is_more; rate = next) {
        is_more = read_rate(&line, client->trace_end, &next);
        double end_s = is_more ? next.from_s : 86400, at_s = rate.from_s;
        while (rate.per_s > 0 && at_s + gap / rate.per_s < end_s) {
            at_s += gap / rate.per_s;
            if (at_s >= from_s && at_s < to_s) {
                add_request(source, client, number, at_s, random);
            }
            gap = draw_gap(&rate, random);
        }
        gap -= rate.per_s * (end_s - at_s);
    }
}

struct source *source_load_servegen(const char *path, double from_s, double length_s, uint64_t seed)
{
    struct bench_file file = bench_file_read(path);
    struct client *clients = bench_need(CLIENTS_MAX, sizeof *clients);
    struct source *source = bench_need(1, sizeof *source);
    read_tar(&file, clients);
    for (unsigned i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &clients[i];
        read_dataset(client);
        if (client->trace != NULL && client->window_count > 0) {
            uint64_t random = seed * 1000003 + i;
            draw_client(source, client, i, from_s, from_s + length_s, &random);
        }
        for (size_t k = 0; k < client->window_count; k++) {
            free(client->windows[k].prompts.tokens);
            free(client->windows[k].prompts.shares);
            free(client->windows[k].outputs.tokens);
            free(client->windows[k].outputs.shares);
        }
    }
    source_finish(source, length_s);
    free(clients);
    free(file.bytes);
    return source;
}
