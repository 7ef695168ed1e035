/* Endpoints that have nothing to do with inference, for testing what stands in front. */
#include <stdio.h>
#include <stdlib.h>

#include "sim/internal.h"

enum { COMPUTE_MAX = 1000000 };

/* ---- /echo ---- */

static void put_fields(const struct sim_connection *c, struct sim_buffer *body)
{
    const struct http_head *head = &c->parser.head;
    sim_buffer_text(body, "\"headers\":[");
    for (unsigned i = 0; i < head->field_count; i++) {
        sim_buffer_put(body, i > 0 ? BYTES(",[") : BYTES("["));
        sim_buffer_put_json(body, http_field_name(&head->fields[i], c->in.data));
        sim_buffer_text(body, ",");
        sim_buffer_put_json(body, http_field_value(&head->fields[i], c->in.data));
        sim_buffer_text(body, "]");
    }
    sim_buffer_text(body, "]");
}

void sim_plain_echo(struct sim_connection *c)
{
    const struct http_head *head = &c->parser.head;
    struct sim_buffer body = {0};
    sim_buffer_text(&body, "{\"method\":");
    sim_buffer_put_json(&body, http_head_method(head, c->in.data));
    sim_buffer_text(&body, ",\"target\":");
    sim_buffer_put_json(&body, http_head_target(head, c->in.data));
    sim_buffer_format(&body, ",\"version\":\"1.%u\",", head->version_minor);
    put_fields(c, &body);
    sim_buffer_format(&body, ",\"body_bytes\":%zu,\"body_encoding\":\"%s\",\"body\":", c->payload.len,
                      sim_buffer_is_utf8(sim_buffer_bytes(&c->payload)) ? "utf-8" : "latin-1");
    sim_buffer_put_json(&body, sim_buffer_bytes(&c->payload));
    sim_buffer_text(&body, ",\"trailers\":");
    sim_buffer_put_json(&body, (struct bytes){c->body.trailers, c->body.trailer_bytes});
    sim_buffer_text(&body, "}");
    sim_answer_json_buffer(c, 200, &body);
}

/* ---- /upload, /status ---- */

void sim_plain_upload(struct sim_connection *c)
{
    struct sim_buffer body = {0};
    sim_buffer_format(&body, "{\"bytes\":%llu,\"crc32\":\"%08x\"}", (unsigned long long)c->body.received_bytes,
                      c->x.crc);
    sim_answer_json_buffer(c, 200, &body);
}

void sim_plain_status(struct sim_connection *c)
{
    uint64_t status;
    if (!bytes_to_u64(c->x.rest, &status) || status < 200 || status > 599) {
        sim_answer_error(c, 400, "The status must be 200 to 599.");
        return;
    }
    uint64_t retry_after = sim_query_u64(c->x.query, "retry-after", UINT64_MAX);
    if (retry_after <= UINT32_MAX) {
        c->x.fault.has_retry_after = true;
        c->x.fault.retry_after_s = (uint32_t)retry_after;
    }
    if (status >= 400) {
        struct bytes reason = http_reason((unsigned)status);
        sim_answer_error(c, (unsigned)status, "%.*s", BYTES_ARG(reason));
        return;
    }
    struct sim_buffer body = {0};
    sim_buffer_format(&body, "{\"status\":%u}", (unsigned)status);
    sim_answer_json_buffer(c, (unsigned)status, &body);
}

/* ---- /api ---- */

void sim_plain_requests(struct sim_connection *c)
{
    yyjson_doc *doc = sim_openai_read(c);
    if (doc == NULL) {
        return;
    }
    yyjson_doc_free(doc);
    struct sim_buffer body = {0};
    sim_buffer_format(&body, "{\"id\":\"req-%016llx\",\"status\":\"accepted\",\"bytes\":%zu}",
                      (unsigned long long)ring_random(c->sim->ring), c->payload.len);
    sim_answer_json_buffer(c, 202, &body);
}

/* The sieve of Eratosthenes over odd numbers: at most 61 KB and about a millisecond. */
static bool count_primes(uint32_t below, uint32_t *ret_count, uint32_t *ret_largest)
{
    uint32_t odd_count = below / 2; /* 1, 3, 5, … */
    uint64_t *composite = calloc(odd_count / 64 + 1, sizeof(*composite));
    if (composite == NULL) {
        return false;
    }
    uint32_t count = below > 2 ? 1 : 0;
    uint32_t largest = below > 2 ? 2 : 0;
    for (uint32_t i = 1; i < odd_count; i++) {
        if (composite[i / 64] >> (i % 64) & 1) {
            continue;
        }
        uint32_t prime = 2 * i + 1;
        count++;
        largest = prime;
        for (uint64_t k = (uint64_t)prime * prime / 2; k < odd_count; k += prime) {
            composite[k / 64] |= UINT64_C(1) << (k % 64);
        }
    }
    free(composite);
    *ret_count = count;
    *ret_largest = largest;
    return true;
}

void sim_plain_compute(struct sim_connection *c)
{
    yyjson_doc *doc = sim_openai_read(c);
    if (doc == NULL) {
        return;
    }
    uint64_t n;
    uint32_t count, largest;
    if (sim_openai_u64(c, yyjson_doc_get_root(doc), "n", 1000, &n)) {
        if (n > COMPUTE_MAX) {
            sim_answer_error(c, 400, "'n' must be at most %u.", COMPUTE_MAX);
        } else if (!count_primes((uint32_t)n, &count, &largest)) {
            sim_connection_close(c);
        } else {
            struct sim_buffer body = {0};
            sim_buffer_format(&body, "{\"n\":%u,\"primes\":%u,\"largest\":%u}", (unsigned)n, count, largest);
            sim_answer_json_buffer(c, 200, &body);
        }
    }
    yyjson_doc_free(doc);
}
