#include "ring/fiber.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "loop.h"
#include "ring/internal.h"

static struct ring *ring;
static char trace[256];
static size_t trace_used;

static void say(char c)
{
    cr_assert_lt(trace_used, sizeof(trace) - 1);
    trace[trace_used++] = c;
}

struct sleeper {
    struct fiber *fiber;
    nanos deadline_ns;
    enum result result;
    bool is_over;
    struct sleeper *wakes; /* woken by this one once it runs again */
    char name;
};

static void sleep_once(void *context)
{
    struct sleeper *sleeper = context;
    say(sleeper->name);
    sleeper->fiber = fiber_current(ring);
    sleeper->result = fiber_wait(ring, sleeper->deadline_ns);
    if (sleeper->wakes != NULL) {
        say('<');
        fiber_wake(sleeper->wakes->fiber);
        say('>');
        cr_assert_eq(fiber_current(ring), sleeper->fiber, "after a nested wake the waker runs on");
    }
    say(sleeper->name);
    sleeper->is_over = true;
}

static void setup(void)
{
    ring = loop_create(NULL);
}

static void teardown(void)
{
    ring_destroy(ring);
}

TestSuite(fiber, .init = setup, .fini = teardown);

Test(fiber, runs_at_once_until_it_waits_and_goes_on_inside_the_wake)
{
    struct sleeper a = {.name = 'a', .deadline_ns = NANOS_NEVER};
    cr_assert(fiber_start(ring, sleep_once, &a));
    cr_assert_null(fiber_current(ring));
    say('-');
    fiber_wake(a.fiber);
    cr_assert(a.is_over);
    cr_assert_eq(a.result, RESULT_OK);
    cr_assert_str_eq(trace, "a-a");
}

Test(fiber, wakes_nest)
{
    struct sleeper c = {.name = 'c', .deadline_ns = NANOS_NEVER};
    struct sleeper b = {.name = 'b', .deadline_ns = NANOS_NEVER, .wakes = &c};
    struct sleeper a = {.name = 'a', .deadline_ns = NANOS_NEVER, .wakes = &b};
    cr_assert(fiber_start(ring, sleep_once, &a) && fiber_start(ring, sleep_once, &b) &&
              fiber_start(ring, sleep_once, &c));
    fiber_wake(a.fiber);
    cr_assert_str_eq(trace, "abc<<c>b>a");
    cr_assert_null(fiber_current(ring));
}

static void start_another(void *context)
{
    struct sleeper *inner = context;
    say('(');
    cr_assert(fiber_start(ring, sleep_once, inner));
    say(')');
}

Test(fiber, a_fiber_may_start_another)
{
    struct sleeper inner = {.name = 'i', .deadline_ns = NANOS_NEVER};
    cr_assert(fiber_start(ring, start_another, &inner));
    say('-');
    fiber_wake(inner.fiber);
    cr_assert_str_eq(trace, "(i)-i");
}

Test(fiber, a_deadline_ends_the_wait)
{
    struct sleeper a = {.name = 'a', .deadline_ns = ring_now(ring) + 20 * NANOS_PER_MS};
    cr_assert(fiber_start(ring, sleep_once, &a));
    cr_assert(loop_until_true(ring, &a.is_over));
    cr_assert_eq(a.result, RESULT_TIMEOUT);
    cr_assert_geq(ring_now(ring), a.deadline_ns);
}

Test(fiber, a_wake_before_the_deadline_disarms_it)
{
    struct sleeper a = {.name = 'a', .deadline_ns = ring_now(ring) + 20 * NANOS_PER_MS};
    cr_assert(fiber_start(ring, sleep_once, &a));
    fiber_wake(a.fiber);
    cr_assert_eq(a.result, RESULT_OK);
    struct sleeper b = {.name = 'b', .deadline_ns = NANOS_NEVER}; /* on the same stack */
    cr_assert(fiber_start(ring, sleep_once, &b));
    loop_for_ms(ring, 60);
    cr_assert_not(b.is_over, "the old deadline does not wake the new fiber");
    fiber_wake(b.fiber);
}

Test(fiber, a_wait_that_timed_out_may_be_followed_by_one_that_does_not)
{
    struct sleeper a = {.name = 'a', .deadline_ns = ring_now(ring)};
    for (int i = 0; i < 3; i++) {
        a.is_over = false;
        cr_assert(fiber_start(ring, sleep_once, &a));
        cr_assert(loop_until_true(ring, &a.is_over));
        cr_assert_eq(a.result, RESULT_TIMEOUT);
        struct sleeper b = {.name = 'b', .deadline_ns = NANOS_NEVER};
        cr_assert(fiber_start(ring, sleep_once, &b));
        fiber_wake(b.fiber);
        cr_assert_eq(b.result, RESULT_OK);
    }
}

static void remember_stack(void *context)
{
    volatile char here = 0;
    *(uintptr_t *)context = (uintptr_t)&here;
}

Test(fiber, stacks_are_used_again)
{
    uintptr_t first = 0;
    cr_assert(fiber_start(ring, remember_stack, &first));
    for (int i = 0; i < 1000; i++) {
        uintptr_t at = 0;
        cr_assert(fiber_start(ring, remember_stack, &at));
        cr_assert_eq(at, first);
    }
    cr_assert_eq(ring->fibers.count, 1);
    cr_assert_eq(ring_counters(ring)->fibers, 0);
}

static void use_most_of_the_stack(void *context)
{
    char large[FIBER_STACK_BYTES * 3 / 4];
    memset(large, *(char *)context, sizeof(large));
    for (size_t i = 0; i < sizeof(large); i += 512) {
        cr_assert_eq(large[i], *(char *)context);
    }
}

Test(fiber, the_stack_is_as_large_as_it_says_again_and_again)
{
    for (char i = 0; i < 20; i++) {
        cr_assert(fiber_start(ring, use_most_of_the_stack, &i));
    }
}

static void overflow(void *context)
{
    volatile char below[2 * FIBER_STACK_BYTES];
    /* From the top down, as a recursion would: the first thing met outside the stack is the guard page. */
    for (size_t i = sizeof(below); i-- > 0;) {
        below[i] = (char)(uintptr_t)context;
    }
}

Test(fiber, an_overflow_ends_the_process_at_the_guard_page)
{
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGBUS, SIG_DFL);
        if (freopen("/dev/null", "w", stderr) == NULL) {
            _exit(1);
        }
        struct ring_options options = {.cpu = -1, .receive_buffers = 64};
        struct ring *own = loop_create(&options);
        _exit(fiber_start(own, overflow, NULL) ? 0 : 1);
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status), "status %d", status);
    cr_assert_eq(WTERMSIG(status), SIGSEGV);
}

/* ---- the limit ---- */

Test(fibers_max, more_are_refused_and_nothing_is_run)
{
    struct ring_options options = {.cpu = -1, .receive_buffers = 64, .fibers_max = 3};
    ring = loop_create(&options);
    struct sleeper sleepers[4];
    for (int i = 0; i < 4; i++) {
        sleepers[i] = (struct sleeper){.name = (char)('0' + i), .deadline_ns = NANOS_NEVER};
        cr_assert_eq(fiber_start(ring, sleep_once, &sleepers[i]), i < 3);
    }
    cr_assert_str_eq(trace, "012");
    cr_assert_eq(ring_counters(ring)->fibers, 3);
    fiber_wake(sleepers[1].fiber);
    cr_assert(fiber_start(ring, sleep_once, &sleepers[3]), "one has ended: there is room");
    fiber_wake(sleepers[0].fiber);
    fiber_wake(sleepers[2].fiber);
    fiber_wake(sleepers[3].fiber);
    cr_assert_eq(ring_counters(ring)->fibers, 0);
    ring_destroy(ring);
}

/* ---- tasks ---- */

struct job {
    struct ring_task task;
    struct ring_task *defers;
    unsigned runs;
    char name;
};

static void on_run(struct ring_task *task)
{
    struct job *job = CONTAINER_OF(task, struct job, task);
    job->runs++;
    say(job->name);
    if (job->defers != NULL) {
        ring_defer(ring, job->defers);
        job->defers = NULL;
    }
}

Test(fiber, tasks_run_once_in_order_and_not_inside_defer)
{
    struct job a = {.name = 'a'};
    struct job b = {.name = 'b'};
    struct job c = {.name = 'c'};
    ring_task_init(&a.task, on_run);
    ring_task_init(&b.task, on_run);
    ring_task_init(&c.task, on_run);
    ring_defer(ring, &a.task);
    ring_defer(ring, &b.task);
    ring_defer(ring, &c.task);
    ring_defer(ring, &a.task);
    ring_task_cancel(&b.task);
    ring_task_cancel(&b.task);
    cr_assert_str_eq(trace, "");
    loop_for_ms(ring, 5);
    cr_assert_str_eq(trace, "ac");
}

Test(fiber, a_task_that_defers_itself_runs_once_a_turn_and_lets_the_others_run)
{
    struct job a = {.name = 'a'};
    struct job b = {.name = 'b'};
    ring_task_init(&a.task, on_run);
    ring_task_init(&b.task, on_run);
    a.defers = &a.task;
    b.defers = &a.task; /* is deferred already: changes nothing */
    ring_defer(ring, &a.task);
    ring_defer(ring, &b.task);
    loop_for_ms(ring, 5);
    cr_assert_str_eq(trace, "aba");
}
