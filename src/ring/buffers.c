/* The provided buffers that multishot receives fill: one pool per worker, lent for one dispatch. */
#include "ring/internal.h"

#include <sys/mman.h>

enum { BUFFER_GROUP = 0 };

enum result buffers_init(struct ring *ring, uint32_t count, uint32_t bytes)
{
    int error = 0;
    ring->buffer_ring = io_uring_setup_buf_ring(&ring->uring, count, BUFFER_GROUP, 0, &error);
    if (ring->buffer_ring == NULL) {
        return ring_result_from(error);
    }
    ring->buffers_mapped_bytes = (size_t)count * bytes;
    ring->buffers = mmap(NULL, ring->buffers_mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ring->buffers == MAP_FAILED) {
        ring->buffers = NULL;
        return RESULT_NO_MEMORY;
    }
    ring->buffer_count = count;
    ring->buffer_bytes = bytes;
    for (uint32_t id = 0; id < count; id++) {
        buffers_return(ring, (uint16_t)id);
    }
    io_uring_buf_ring_advance(ring->buffer_ring, (int)ring->buffers_returned);
    ring->buffers_returned = 0;
    return RESULT_OK;
}

void buffers_fini(struct ring *ring)
{
    if (ring->buffer_ring != NULL) {
        io_uring_free_buf_ring(&ring->uring, ring->buffer_ring, ring->buffer_count, BUFFER_GROUP);
        ring->buffer_ring = NULL;
    }
    if (ring->buffers != NULL) {
        munmap(ring->buffers, ring->buffers_mapped_bytes);
        ring->buffers = NULL;
    }
}

void buffers_return(struct ring *ring, uint16_t id)
{
    io_uring_buf_ring_add(ring->buffer_ring, buffers_at(ring, id), ring->buffer_bytes, id,
                          io_uring_buf_ring_mask(ring->buffer_count), (int)ring->buffers_returned);
    ring->buffers_returned++;
}
