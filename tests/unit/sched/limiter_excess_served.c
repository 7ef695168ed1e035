/* The limiter of excess time in an admission before services whose limits are known: it must find those there are, and
 * leave alone where there are none. Virtual time, seeded. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>

#include "base/check.h"
#include "limiter_run.h"
#include "sched/admission_internal.h"

enum { CLIENTS_MAX = 4096 };

/* A plain service of whole answers: so many servers (0: as many as there are requests), a queue before them. */
struct service {
    unsigned servers;
    double mean_s;
    double sigma; /* of the logarithm of the service time */
};

struct client {
    struct sched_request request;
    nanos ends_ns; /* NANOS_NEVER: it waits for a server */
    unsigned next_free;
};

struct run {
    struct service service;
    struct admission *admission;
    nanos now;
    uint64_t random;
    struct client clients[CLIENTS_MAX];
    unsigned free_first; /* a chain of those not in use, from 1 on; 0: none */
    unsigned order[CLIENTS_MAX];
    uint64_t order_head, order_tail; /* a ring of those that wait for a server */
    unsigned busy;
    unsigned running[CLIENTS_MAX];
    unsigned running_count;
    uint64_t served, shed;
    double limit_least, limit_sum;
    unsigned limit_count;
};

static double uniform(struct run *run)
{
    return ((double)(limiter_run_draw(&run->random) % (UINT64_C(1) << 40)) + 0.5) / (double)(UINT64_C(1) << 40);
}

static nanos draw_service(struct run *run)
{
    const struct service *service = &run->service;
    double normal = sqrt(-2 * log(uniform(run))) * cos(2 * 3.14159265358979 * uniform(run));
    double s = service->mean_s * exp(service->sigma * normal - service->sigma * service->sigma / 2);
    return (nanos)(s * 1e9) + 1;
}

static void begin_service(struct run *run, unsigned index)
{
    run->clients[index].ends_ns = run->now + draw_service(run);
    run->running[run->running_count++] = index;
    run->busy++;
}

/* The service has got it. */
static void send(struct run *run, struct client *client)
{
    unsigned index = (unsigned)(client - run->clients);
    if (run->service.servers == 0 || run->busy < run->service.servers) {
        begin_service(run, index);
    } else {
        run->order[run->order_tail++ % CLIENTS_MAX] = index;
    }
}

static void on_grant(void *context, struct sched_request *request)
{
    send(context, CONTAINER_OF(request, struct client, request));
}

static void give_back(struct run *run, struct client *client)
{
    client->next_free = run->free_first;
    run->free_first = (unsigned)(client - run->clients) + 1;
}

static void on_shed(void *context, struct sched_request *request, enum sched_shed shed, nanos retry_after_ns)
{
    struct run *run = context;
    (void)shed;
    (void)retry_after_ns;
    run->shed++;
    give_back(run, CONTAINER_OF(request, struct client, request));
}

static const struct admission_events events = {.on_grant = on_grant, .on_shed = on_shed};

static void begin(struct run *run, struct service service, double initial, uint64_t seed)
{
    const struct admission_options options = {
        .limiter = {.kind = LIMITER_EXCESS,
                    .initial = initial,
                    .min = 1,
                    .max = 1000,
                    .slo_first_ns = 3 * NANOS_PER_S,
                    .endpoints = 1,
                    .time_scale_milli = 1000},
        .queue = {.requests_max = 256,
                  .tenants_max = 16,
                  .tenant_share_percent = 100,
                  .small_tokens_max = 1024,
                  .input_weight = 1000,
                  .output_weight = 2000},
        .endpoint_count = 1,
        .is_plain = true,
    };
    *run = (struct run){.service = service, .now = NANOS_PER_S, .random = seed, .limit_least = INFINITY};
    run->admission = admission_create(&options, &events, run, run->now);
    cr_assert_not_null(run->admission);
    for (unsigned i = CLIENTS_MAX; i > 0; i--) {
        give_back(run, &run->clients[i - 1]);
    }
}

static void arrive(struct run *run)
{
    cr_assert_neq(run->free_first, 0);
    struct client *client = &run->clients[run->free_first - 1];
    run->free_first = client->next_free;
    *client = (struct client){.ends_ns = NANOS_NEVER};
    client->request = (struct sched_request){.class = SCHED_CLASS_DEFAULT,
                                             .tenant = 1,
                                             .arrived_ns = run->now,
                                             .deadline_ns = run->now + 10 * NANOS_PER_S,
                                             .cost = {.prompt_tokens = 1}};
    if (admission_submit(run->admission, run->now, &client->request)) {
        send(run, client);
    }
}

static void finish(struct run *run, unsigned at)
{
    struct client *client = &run->clients[run->running[at]];
    run->running[at] = run->running[--run->running_count];
    run->busy--;
    if (run->order_head < run->order_tail) {
        begin_service(run, run->order[run->order_head++ % CLIENTS_MAX]);
    }
    run->served++;
    admission_release(run->admission, run->now, &client->request, &(struct admission_outcome){.is_failed = false});
    give_back(run, client);
}

static unsigned first_to_end(const struct run *run)
{
    unsigned first = 0;
    for (unsigned i = 1; i < run->running_count; i++) {
        bool is_earlier = run->clients[run->running[i]].ends_ns < run->clients[run->running[first]].ends_ns;
        first = is_earlier ? i : first;
    }
    return first;
}

static void note_limit(struct run *run)
{
    double limit = run->admission->limiter.limit;
    run->limit_least = fmin(run->limit_least, limit);
    run->limit_sum += limit;
    run->limit_count++;
}

/* So many seconds of Poisson arrivals. Afterwards the figures are of them alone. */
static void go_on(struct run *run, double seconds, double per_s)
{
    nanos end = run->now + (nanos)(seconds * 1e9);
    nanos arrival = run->now;
    nanos look = run->now;
    run->served = run->shed = 0;
    run->limit_least = INFINITY;
    run->limit_sum = 0;
    run->limit_count = 0;
    while (run->now < end) {
        unsigned first = first_to_end(run);
        nanos ends = run->running_count > 0 ? run->clients[run->running[first]].ends_ns : NANOS_NEVER;
        nanos next = admission_next_ns(run->admission);
        next = next < run->now ? run->now : next;
        if (ends <= arrival && ends <= next && ends <= look) {
            run->now = ends;
            finish(run, first);
        } else if (next <= arrival && next <= look) {
            run->now = next;
            admission_advance(run->admission, run->now);
        } else if (look <= arrival) {
            run->now = look;
            look += 100 * NANOS_PER_MS;
            note_limit(run);
        } else {
            run->now = arrival;
            arrive(run);
            arrival += (nanos)(-log(uniform(run)) / per_s * 1e9) + 1;
        }
    }
}

static void end(struct run *run)
{
    while (run->running_count > 0) {
        unsigned first = first_to_end(run);
        run->now = run->clients[run->running[first]].ends_ns;
        finish(run, first);
    }
    cr_expect(admission_at_rest(run->admission));
    admission_destroy(run->admission);
}

static struct run run;

static double limit_mean(void)
{
    return run.limit_sum / run.limit_count;
}

/* ---- no limit to be found ---- */

/* Forty in flight on average, and each takes what it takes, however many there are. */
Test(limiter_excess_served, a_service_that_does_not_queue_is_not_strangled_by_its_own_variance, .timeout = 60)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        begin(&run, (struct service){.servers = 0, .mean_s = 2, .sigma = 1}, 64, seed);
        go_on(&run, 120, 20);
        go_on(&run, 600, 20);
        printf("inf seed %d: least %.1f mean %.1f end %.1f served %.3f shed %lu\n", (int)seed, run.limit_least,
               limit_mean(), run.admission->limiter.limit, (double)run.served / (600 * 20), run.shed);
        end(&run);
    }
}

Test(limiter_excess_served, inf_overload, .timeout = 60)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        begin(&run, (struct service){.servers = 0, .mean_s = 2, .sigma = 1}, 32, seed);
        go_on(&run, 120, 40);
        go_on(&run, 600, 40);
        printf("inf over seed %d: least %.1f mean %.1f end %.1f served %.3f shed %lu\n", (int)seed, run.limit_least,
               limit_mean(), run.admission->limiter.limit, (double)run.served / (600 * 40), run.shed);
        end(&run);
    }
}

Test(limiter_excess_served, kserver, .timeout = 60)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        begin(&run, (struct service){.servers = 16, .mean_s = 0.5, .sigma = 0.5}, 128, seed);
        go_on(&run, 120, 64);
        go_on(&run, 600, 64);
        printf("k seed %d: least %.1f mean %.1f end %.1f served %.3f of capacity\n", (int)seed, run.limit_least,
               limit_mean(), run.admission->limiter.limit, (double)run.served / (600 * 32));
        end(&run);
    }
    for (uint64_t seed = 1; seed <= 5; seed++) {
        begin(&run, (struct service){.servers = 16, .mean_s = 0.5, .sigma = 0.1}, 128, seed);
        go_on(&run, 120, 64);
        go_on(&run, 600, 64);
        printf("k low var seed %d: least %.1f mean %.1f end %.1f served %.3f of capacity\n", (int)seed, run.limit_least,
               limit_mean(), run.admission->limiter.limit, (double)run.served / (600 * 32));
        end(&run);
    }
}
