/* A growing run of bytes to write into: answers, and what has arrived of a request.
 *
 * When memory is out the buffer keeps what it has, drops what is put, and says so in `failed`: writers need not
 * look at every put, whoever sends the result does. */
#ifndef SLUICE_SIM_BUFFER_H
#define SLUICE_SIM_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

struct sim_buffer {
    char *data;
    size_t len;
    size_t cap;
    bool failed;
};

/* Frees the memory; the buffer is then empty, as one of all zeros is. */
void sim_buffer_fini(struct sim_buffer *buffer);

/* Empties it, and gives memory back when it holds more than `keep_bytes`. */
void sim_buffer_reset(struct sim_buffer *buffer, size_t keep_bytes);

/* Takes away the first `bytes`. */
void sim_buffer_drop_front(struct sim_buffer *buffer, size_t bytes);

/* Room for `bytes` more, to be written at the returned place and counted by adding to `len`. NULL: no memory. */
char *sim_buffer_room(struct sim_buffer *buffer, size_t bytes);

void sim_buffer_put(struct sim_buffer *buffer, struct bytes b);
void sim_buffer_put_u64(struct sim_buffer *buffer, uint64_t value);
void sim_buffer_format(struct sim_buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts a JSON string with its quotes. Bytes that are not UTF-8 become the characters U+0080 to U+00FF of the same
 * number, so that nothing is lost. */
void sim_buffer_put_json(struct sim_buffer *buffer, struct bytes b);

/* Whether all of `b` is UTF-8 (RFC 3629). */
bool sim_buffer_is_utf8(struct bytes b);

#define sim_buffer_text(buffer, literal) sim_buffer_put(buffer, BYTES(literal))

static inline struct bytes sim_buffer_bytes(const struct sim_buffer *buffer)
{
    return (struct bytes){buffer->data, buffer->len};
}

#endif
