#include "proxy/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct outbox *outbox_acquire(struct chunk_pool *pool)
{
    struct chunk *home = chunk_acquire(pool, CHUNK_SMALL);
    if (home == NULL) {
        return NULL;
    }
    struct outbox *outbox = (struct outbox *)(void *)home->data;
    _Static_assert(offsetof(struct chunk, data) % _Alignof(struct outbox) == 0, "aligned in its chunk");
    outbox->home = home;
    outbox->copy = home;
    outbox->taken = NULL;
    outbox->too_long = NULL;
    outbox->pending_bytes = 0;
    outbox->first = 0;
    outbox->count = 0;
    atomic_store_explicit(&home->used_bytes, (uint32_t)sizeof(*outbox), memory_order_relaxed);
    return outbox;
}

static void outbox_drop_copy(struct outbox *outbox)
{
    if (outbox->copy != outbox->home) {
        chunk_unref(outbox->copy);
        outbox->copy = outbox->home;
    }
}

void outbox_release(struct outbox *outbox)
{
    for (unsigned i = outbox->first; i < outbox->count; i++) {
        if (outbox->spans[i].hold != NULL) {
            hold_unref(outbox->spans[i].hold);
        }
    }
    outbox_drop_copy(outbox);
    free(outbox->taken);
    free(outbox->too_long);
    chunk_unref(outbox->home);
}

char *outbox_reserve(struct outbox *outbox, size_t bytes)
{
    struct chunk *copy = outbox->copy;
    uint32_t used = chunk_used(copy);
    if (UNLIKELY(bytes > CHUNK_LARGE_BYTES - sizeof(struct chunk))) {
        free(outbox->too_long);
        outbox->too_long = malloc(bytes);
        return outbox->too_long;
    }
    if (chunk_capacity(copy) - used < bytes) {
        copy = chunk_acquire(outbox->home->pool, CHUNK_LARGE);
        if (copy == NULL) {
            return NULL;
        }
        outbox_drop_copy(outbox);
        outbox->copy = copy;
        used = 0;
    }
    return copy->data + used;
}

static __attribute__((noinline)) enum result commit_too_long(struct outbox *outbox, size_t bytes)
{
    char *text = outbox->too_long;
    outbox->too_long = NULL;
    enum result result = outbox_copy(outbox, (struct bytes){text, bytes});
    free(text);
    return result;
}

enum result outbox_commit(struct outbox *outbox, size_t bytes)
{
    if (UNLIKELY(outbox->too_long != NULL)) {
        return commit_too_long(outbox, bytes);
    }
    struct chunk *copy = outbox->copy;
    uint32_t used = chunk_used(copy);
    char *at = copy->data + used;
    struct outbox_span *last = outbox->count > outbox->first ? &outbox->spans[outbox->count - 1] : NULL;
    if (last != NULL && last->ptr + last->bytes == at) {
        last->bytes += bytes;
    } else {
        if (outbox->count == OUTBOX_SPANS_MAX) {
            return RESULT_LIMIT;
        }
        struct hold *held = copy == outbox->home ? NULL : &copy->hold;
        if (held != NULL) {
            hold_ref(held);
        }
        outbox->spans[outbox->count++] = (struct outbox_span){at, bytes, held};
    }
    atomic_store_explicit(&copy->used_bytes, used + (uint32_t)bytes, memory_order_relaxed);
    outbox->pending_bytes += bytes;
    return RESULT_OK;
}

enum result outbox_copy(struct outbox *outbox, struct bytes run)
{
    while (run.len > 0) {
        struct chunk *copy = outbox->copy;
        size_t room = chunk_capacity(copy) - chunk_used(copy);
        /* What does not fit begins a new chunk, but for long runs, which fill what is left first. */
        size_t part = run.len <= room || run.len <= OUTBOX_COPY_BYTES_MAX ? run.len : room;
        if (part == 0) {
            part = run.len < OUTBOX_COPY_BYTES_MAX ? run.len : OUTBOX_COPY_BYTES_MAX;
        }
        char *at = outbox_reserve(outbox, part);
        if (at == NULL) {
            return RESULT_NO_MEMORY;
        }
        memcpy(at, run.ptr, part);
        enum result result = outbox_commit(outbox, part);
        if (result != RESULT_OK) {
            return result;
        }
        run.ptr += part;
        run.len -= part;
    }
    return RESULT_OK;
}

enum result outbox_pin(struct outbox *outbox, struct bytes run, struct hold *hold)
{
    if (outbox->count == OUTBOX_SPANS_MAX) {
        return RESULT_LIMIT;
    }
    if (hold != NULL) {
        hold_ref(hold);
    }
    outbox->spans[outbox->count++] = (struct outbox_span){run.ptr, run.len, hold};
    outbox->pending_bytes += run.len;
    return RESULT_OK;
}

enum result outbox_take(struct outbox *outbox, char *text, size_t bytes)
{
    struct bytes run = {text, bytes};
    if (outbox->taken == NULL && bytes > OUTBOX_COPY_BYTES_MAX) {
        outbox->taken = text;
        return outbox_pin(outbox, run, NULL);
    }
    enum result result = outbox_copy(outbox, run); /* one is held already: pipelined behind another */
    free(text);
    return result;
}

enum result outbox_add(struct outbox *outbox, struct bytes run, struct hold *hold)
{
    return run.len <= OUTBOX_COPY_BYTES_MAX ? outbox_copy(outbox, run) : outbox_pin(outbox, run, hold);
}

void outbox_send(struct outbox *outbox, struct ring_stream *stream, bool lazily)
{
    struct iovec iov[OUTBOX_SPANS_MAX];
    unsigned count = 0;
    for (unsigned i = outbox->first; i < outbox->count; i++) {
        iov[count++] = (struct iovec){(void *)(uintptr_t)outbox->spans[i].ptr, outbox->spans[i].bytes};
    }
    if (lazily && outbox->pending_bytes <= OUTBOX_LAZY_BYTES_MAX) {
        ring_stream_send_lazily(stream, iov, count);
    } else {
        ring_stream_send(stream, iov, count);
    }
}

void outbox_sent(struct outbox *outbox, size_t bytes)
{
    CHECK(bytes <= outbox->pending_bytes);
    outbox->pending_bytes -= bytes;
    while (bytes > 0) {
        struct outbox_span *span = &outbox->spans[outbox->first];
        if (bytes < span->bytes) {
            span->ptr += bytes;
            span->bytes -= bytes;
            return;
        }
        bytes -= span->bytes;
        if (span->hold != NULL) {
            hold_unref(span->hold);
        }
        outbox->first++;
    }
    if (outbox->first == outbox->count) {
        /* Empty: begin anew at the start of the home chunk, which is warm. */
        outbox->first = 0;
        outbox->count = 0;
        outbox_drop_copy(outbox);
        if (UNLIKELY(outbox->taken != NULL)) {
            free(outbox->taken);
            outbox->taken = NULL;
        }
        atomic_store_explicit(&outbox->home->used_bytes, (uint32_t)sizeof(*outbox), memory_order_relaxed);
    } else if (outbox->first > OUTBOX_SPANS_MAX / 2) {
        memmove(outbox->spans, outbox->spans + outbox->first,
                (outbox->count - outbox->first) * sizeof(outbox->spans[0]));
        outbox->count -= outbox->first;
        outbox->first = 0;
    }
}
