/* Fibers: pooled stacks and a switch of a few instructions.
 *
 *   low address                                                    high address
 *   +-----------+--------------------------------------+--------------+
 *   |  guard    |  stack, grows down   <------------   | struct fiber |
 *   +-----------+--------------------------------------+--------------+
 *
 * A switch saves the callee-saved registers on the stack that is left and changes the stack pointer. The
 * sanitizers are told of every switch, or they would take the new stack for an overflow. */
#include "ring/fiber.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "ring/internal.h"

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#endif
#endif
#ifdef FIBER_ASAN
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef FIBER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Where a stack was left: its stack pointer, and what the sanitizers want to know of it. */
struct context {
    void *stack_pointer;
#ifdef FIBER_ASAN
    void *fake_stack;
    const void *bottom;
    size_t bytes;
#endif
#ifdef FIBER_TSAN
    void *tsan_fiber;
#endif
};

struct fiber {
    struct context self;
    struct context resumer; /* who woke it: goes on when it suspends */
    struct fiber *outer;    /* the fiber that woke it, or NULL */
    struct fiber *next_free;
    struct ring *ring;
    void (*run)(void *context);
    void *run_context;
    char *mapping;
    struct ring_timer timer;
    bool is_suspended;
    bool is_over;
    bool timed_out;
};

/* Leaves this stack (its pointer goes to *from) and goes on where `to` was left. */
void fiber_switch(void **from, void *to);

/* What a new stack returns into: calls fiber_main with the fiber that was laid into a saved register. */
void fiber_entry(void);

/* The first frame of every fiber; never returns. */
void fiber_main(struct fiber *fiber);

/* The frame that fiber_switch.S pops, in words, and what stands where in it. */
#if defined(__x86_64__)
/* Six registers and the return address; the stack is then aligned for fiber_entry's call. */
enum { SWITCH_WORDS = 7, SWITCH_RETURN = 6, SWITCH_ARGUMENT = 3 /* r12 */ };
#elif defined(__aarch64__)
enum { SWITCH_WORDS = 20, SWITCH_RETURN = 11, SWITCH_ARGUMENT = 0 /* x19 */ };
#else
#error "fibers know x86-64 and aarch64"
#endif

/* *came_from: the stack that later switches back here, noted for AddressSanitizer; or NULL. */
static void context_switch(struct context *from, struct context *to, struct context *came_from, bool from_is_over)
{
    (void)from_is_over;
    (void)came_from;
#ifdef FIBER_ASAN
    __sanitizer_start_switch_fiber(from_is_over ? NULL : &from->fake_stack, to->bottom, to->bytes);
#endif
#ifdef FIBER_TSAN
    from->tsan_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
    fiber_switch(&from->stack_pointer, to->stack_pointer);
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(from->fake_stack, came_from == NULL ? NULL : &came_from->bottom,
                                    came_from == NULL ? NULL : &came_from->bytes);
#endif
}

static void fiber_on_timer(struct ring_timer *timer)
{
    struct fiber *fiber = CONTAINER_OF(timer, struct fiber, timer);
    fiber->timed_out = true;
    fiber_wake(fiber);
}

static struct fiber *fiber_map(struct ring *ring)
{
    struct fiber_pool *pool = &ring->fibers;
    if (pool->count == pool->count_max) {
        return NULL;
    }
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    size_t bytes = guard + FIBER_STACK_BYTES;
    char *mapping =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (mapping == MAP_FAILED) {
        return NULL;
    }
    if (mprotect(mapping, guard, PROT_NONE) != 0) {
        munmap(mapping, bytes);
        return NULL;
    }
    size_t own = (sizeof(struct fiber) + 63) & ~(size_t)63;
    struct fiber *fiber = (struct fiber *)(void *)(mapping + bytes - own);
    fiber->mapping = mapping;
    fiber->ring = ring;
    ring_timer_init(&fiber->timer, fiber_on_timer);
#ifdef FIBER_ASAN
    fiber->self.bottom = mapping + guard;
    fiber->self.bytes = (size_t)((char *)fiber - (mapping + guard));
#endif
#ifdef FIBER_TSAN
    fiber->self.tsan_fiber = __tsan_create_fiber(0);
#endif
    pool->count++;
    return fiber;
}

/* Lays out the stack as if fiber_entry had just been left by a switch. */
static void fiber_prepare(struct fiber *fiber)
{
    uintptr_t top = (uintptr_t)fiber & ~(uintptr_t)15;
    void **stack = (void **)top;
    stack -= SWITCH_WORDS;
    for (unsigned i = 0; i < SWITCH_WORDS; i++) {
        stack[i] = NULL;
    }
    stack[SWITCH_RETURN] = (void *)(uintptr_t)fiber_entry;
    stack[SWITCH_ARGUMENT] = fiber;
    fiber->self.stack_pointer = stack;
}

void fiber_main(struct fiber *fiber)
{
#ifdef FIBER_ASAN
    __sanitizer_finish_switch_fiber(NULL, &fiber->resumer.bottom, &fiber->resumer.bytes);
#endif
    fiber->run(fiber->run_context);
    fiber->is_over = true;
    context_switch(&fiber->self, &fiber->resumer, NULL, true);
}

static void fiber_resume(struct fiber *fiber)
{
    struct fiber_pool *pool = &fiber->ring->fibers;
    fiber->outer = pool->current;
    fiber->is_suspended = false;
    pool->current = fiber;
    context_switch(&fiber->resumer, &fiber->self, NULL, false);
    pool->current = fiber->outer;
    if (fiber->is_over) {
        counter_add(&fiber->ring->counters.fibers, (uint64_t)-1);
#ifdef FIBER_TSAN
        /* Its first frame never returns, so that the race detector's idea of the stack would grow with each use. */
        __tsan_destroy_fiber(fiber->self.tsan_fiber);
        fiber->self.tsan_fiber = __tsan_create_fiber(0);
#endif
        fiber->next_free = pool->free;
        pool->free = fiber;
    }
}

bool fiber_start(struct ring *ring, void (*run)(void *context), void *context)
{
    struct fiber_pool *pool = &ring->fibers;
    struct fiber *fiber = pool->free;
    if (fiber != NULL) {
        pool->free = fiber->next_free;
    } else {
        fiber = fiber_map(ring);
        if (fiber == NULL) {
            return false;
        }
    }
    counter_add(&ring->counters.fibers, 1);
    fiber->run = run;
    fiber->run_context = context;
    fiber->is_over = false;
    fiber_prepare(fiber);
    fiber_resume(fiber);
    return true;
}

struct fiber *fiber_current(const struct ring *ring)
{
    return ring->fibers.current;
}

enum result fiber_wait(struct ring *ring, nanos deadline_ns)
{
    struct fiber *fiber = ring->fibers.current;
    CHECK(fiber != NULL);
    fiber->timed_out = false;
    fiber->is_suspended = true;
    ring_timer_set(ring, &fiber->timer, deadline_ns);
    context_switch(&fiber->self, &fiber->resumer, &fiber->resumer, false);
    ring_timer_cancel(ring, &fiber->timer);
    return fiber->timed_out ? RESULT_TIMEOUT : RESULT_OK;
}

void fiber_wake(struct fiber *fiber)
{
    CHECK(fiber->is_suspended);
    fiber_resume(fiber);
}

void fiber_pool_init(struct ring *ring, uint32_t count_max)
{
    ring->fibers = (struct fiber_pool){.count_max = count_max};
}

void fiber_pool_fini(struct ring *ring)
{
    struct fiber *fiber = ring->fibers.free;
    while (fiber != NULL) {
        struct fiber *next = fiber->next_free;
#ifdef FIBER_TSAN
        __tsan_destroy_fiber(fiber->self.tsan_fiber);
#endif
        munmap(fiber->mapping, (size_t)sysconf(_SC_PAGESIZE) + FIBER_STACK_BYTES);
        fiber = next;
    }
}
