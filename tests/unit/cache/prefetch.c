/* What is learned from sequences of requests, and what is not. */
#include "cache/prefetch.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { WINDOW_MS = 1000 };

/* Tables, a clock, and requests named by one letter or number. */
struct world {
    struct prefetch *prefetch;
    nanos now;
};

static struct world world_of(uint64_t memory_bytes, unsigned confidence_percent)
{
    const struct prefetch_options options = {
        .memory_bytes = memory_bytes,
        .confidence_percent = confidence_percent,
        .support_min = 3,
        .window_ns = WINDOW_MS * NANOS_PER_MS,
    };
    struct world world = {.prefetch = prefetch_create(&options), .now = NANOS_PER_S};
    cr_assert(world.prefetch != NULL);
    return world;
}

static struct world small_world(void)
{
    return world_of(PREFETCH_MEMORY_BYTES_MIN, 60);
}

static bool ask(struct world *world, uint64_t client, uint64_t request)
{
    char text[32];
    size_t bytes = (size_t)snprintf(text, sizeof(text), "/%llu", (unsigned long long)request);
    world->now += NANOS_PER_MS;
    return prefetch_learn(world->prefetch, client, request, (struct bytes){text, bytes}, world->now);
}

/* A client's requests, by letters, and then a long pause. */
static void walk(struct world *world, uint64_t client, const char *letters)
{
    for (const char *letter = letters; *letter != '\0'; letter++) {
        ask(world, client, (uint64_t)*letter);
    }
}

static void pause_long(struct world *world)
{
    world->now += 2 * WINDOW_MS * NANOS_PER_MS;
}

static void visit(struct world *world, const char *letters, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        walk(world, 7, letters);
        pause_long(world);
    }
}

static uint64_t guess(const struct world *world, uint64_t client)
{
    struct prefetch_guess found;
    if (!prefetch_predict(world->prefetch, client, &found)) {
        return 0;
    }
    char text[32];
    snprintf(text, sizeof(text), "/%llu", (unsigned long long)found.request);
    cr_expect(bytes_equal(found.target, bytes_from(text)), "the text is that of the request");
    return found.request;
}

Test(prefetch, a_sequence_of_two_is_guessed_after_it_came_three_times)
{
    struct world world = small_world();
    visit(&world, "ab", 2);
    walk(&world, 7, "a");
    cr_expect(guess(&world, 7) == 0, "twice is chance");
    pause_long(&world);
    visit(&world, "ab", 2);
    walk(&world, 8, "a");
    cr_expect(guess(&world, 8) == 'b', "for any client");
    cr_expect(guess(&world, 9) == 0, "who has asked for nothing, gets nothing");
    prefetch_destroy(world.prefetch);
}

Test(prefetch, a_sequence_of_three_tells_apart_what_one_of_two_cannot)
{
    struct world world = small_world();
    for (unsigned i = 0; i < 6; i++) {
        visit(&world, "xma", 1);
        visit(&world, "ymb", 1);
    }
    walk(&world, 1, "m");
    cr_expect(guess(&world, 1) == 0, "half of the time the one, half the other");
    walk(&world, 2, "xm");
    cr_expect(guess(&world, 2) == 'a');
    walk(&world, 3, "ym");
    cr_expect(guess(&world, 3) == 'b');
    prefetch_destroy(world.prefetch);
}

Test(prefetch, the_longer_context_is_not_overruled_by_the_shorter)
{
    struct world world = small_world();
    visit(&world, "ma", 20);
    for (unsigned i = 0; i < 2; i++) {
        visit(&world, "xmb", 1);
        visit(&world, "xmc", 1);
        visit(&world, "xmd", 1);
    }
    walk(&world, 1, "m");
    cr_expect(guess(&world, 1) == 'a');
    walk(&world, 2, "xm");
    cr_expect(guess(&world, 2) == 0, "after x nothing is likely, whatever holds otherwise");
    walk(&world, 3, "zm");
    cr_expect(guess(&world, 3) == 'a', "a longer context that is not known says nothing");
    prefetch_destroy(world.prefetch);
}

Test(prefetch, what_mostly_ends_a_visit_promises_nothing)
{
    struct world world = small_world();
    for (unsigned i = 0; i < 5; i++) {
        visit(&world, "ab", 1);
        visit(&world, "a", 2);
    }
    walk(&world, 1, "a");
    cr_expect(guess(&world, 1) == 0, "b always comes next, but only a third of the time does anything");
    prefetch_destroy(world.prefetch);
}

Test(prefetch, confidence_is_the_share_of_visits)
{
    for (unsigned confidence = 70; confidence <= 80; confidence += 10) {
        struct world world = world_of(PREFETCH_MEMORY_BYTES_MIN, confidence);
        visit(&world, "ab", 9);
        visit(&world, "ac", 3);
        walk(&world, 1, "a");
        cr_expect(guess(&world, 1) == (confidence == 70 ? 'b' : 0), "three quarters, asked for %u %%", confidence);
        prefetch_destroy(world.prefetch);
    }
}

Test(prefetch, requests_far_apart_are_no_sequence)
{
    struct world world = small_world();
    for (unsigned i = 0; i < 10; i++) {
        walk(&world, 7, "a");
        pause_long(&world);
        walk(&world, 7, "b");
        pause_long(&world);
    }
    walk(&world, 7, "a");
    cr_expect(guess(&world, 7) == 0);
    prefetch_destroy(world.prefetch);
}

Test(prefetch, clients_do_not_mix)
{
    struct world world = small_world();
    for (unsigned i = 0; i < 10; i++) {
        ask(&world, 1, 'a');
        ask(&world, 2, 'x');
        ask(&world, 1, 'b');
        ask(&world, 2, 'y');
        pause_long(&world);
    }
    ask(&world, 3, 'a');
    cr_expect(guess(&world, 3) == 'b');
    ask(&world, 3, 'x');
    cr_expect(guess(&world, 3) == 'y');
    prefetch_destroy(world.prefetch);
}

Test(prefetch, the_same_again_is_not_learned)
{
    struct world world = small_world();
    for (unsigned i = 0; i < 10; i++) {
        cr_expect(ask(&world, 7, 'a'));
        cr_expect(!ask(&world, 7, 'a'));
        cr_expect(!ask(&world, 7, 'a'));
        cr_expect(ask(&world, 7, 'b'));
        pause_long(&world);
    }
    ask(&world, 7, 'a');
    cr_expect(guess(&world, 7) == 'b');
    prefetch_destroy(world.prefetch);
}

Test(prefetch, the_old_fades)
{
    struct world world = small_world();
    visit(&world, "ab", 1000);
    visit(&world, "ac", 300);
    walk(&world, 1, "a");
    cr_expect(guess(&world, 1) == 'c', "what came a thousand times, long ago, has been halved away");
    prefetch_destroy(world.prefetch);
}

Test(prefetch, the_rare_does_not_wash_out_the_frequent)
{
    struct world world = small_world();
    uint64_t next = 1000;
    for (unsigned i = 0; i < 200; i++) {
        visit(&world, "ab", 1);
        for (unsigned j = 0; j < 100; j++) {
            ask(&world, 50 + j, next++);
            ask(&world, 50 + j, next++);
        }
    }
    walk(&world, 1, "a");
    cr_expect(guess(&world, 1) == 'b', "40,000 requests that never came again");
    prefetch_destroy(world.prefetch);
}

Test(prefetch, the_frequent_that_comes_no_more_makes_room)
{
    struct world world = small_world();
    /* More sequences than there is room for, each of them frequent in its time. */
    for (uint64_t first = 1000; first < 3000; first += 2) {
        for (unsigned i = 0; i < 40; i++) {
            ask(&world, 7, first);
            ask(&world, 7, first + 1);
            pause_long(&world);
        }
    }
    unsigned known = 0;
    for (uint64_t first = 2800; first < 3000; first += 2) {
        ask(&world, 8, first);
        known += guess(&world, 8) == first + 1;
        pause_long(&world);
    }
    cr_expect(known > 30, "of the last hundred, %u are known; there is room for 64 texts", known);
    prefetch_destroy(world.prefetch);
}

Test(prefetch, memory_is_bounded_whatever_comes)
{
    for (uint64_t bytes = PREFETCH_MEMORY_BYTES_MIN; bytes <= 1 << 22; bytes += bytes / 3) {
        struct world world = world_of(bytes, 60);
        uint64_t took = prefetch_memory_bytes(world.prefetch);
        cr_expect(took <= bytes && took > bytes / 3, "%llu of %llu", (unsigned long long)took,
                  (unsigned long long)bytes);
        uint64_t state = 1;
        for (unsigned i = 0; i < 20000; i++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407;
            ask(&world, state >> 40 & 1023, state >> 50 & 2047);
        }
        cr_expect(prefetch_memory_bytes(world.prefetch) == took);
        prefetch_destroy(world.prefetch);
    }
}

Test(prefetch, the_longest_text_is_kept_whole)
{
    struct world world = small_world();
    char text[PREFETCH_TARGET_BYTES_MAX];
    memset(text, 'x', sizeof(text));
    for (unsigned i = 0; i < 5; i++) {
        ask(&world, 7, 'a');
        prefetch_learn(world.prefetch, 7, 'b', (struct bytes){text, sizeof(text)}, world.now);
        pause_long(&world);
    }
    ask(&world, 7, 'a');
    struct prefetch_guess found;
    cr_assert(prefetch_predict(world.prefetch, 7, &found));
    cr_expect(bytes_equal(found.target, (struct bytes){text, sizeof(text)}));
    prefetch_destroy(world.prefetch);
}

Test(prefetch, of_two_texts_for_one_request_the_last_counts)
{
    struct world world = small_world();
    for (unsigned i = 0; i < 5; i++) {
        ask(&world, 7, 'a');
        prefetch_learn(world.prefetch, 7, 'b', i < 4 ? BYTES("/b?session=old") : BYTES("/b?new"), world.now);
        pause_long(&world);
    }
    ask(&world, 7, 'a');
    struct prefetch_guess found;
    cr_assert(prefetch_predict(world.prefetch, 7, &found));
    cr_expect(bytes_equal(found.target, BYTES("/b?new")));
    prefetch_destroy(world.prefetch);
}

Test(prefetch, names_of_zero_are_names_like_others)
{
    struct world world = small_world();
    for (unsigned i = 0; i < 5; i++) {
        prefetch_learn(world.prefetch, 0, 5, BYTES("/five"), world.now);
        prefetch_learn(world.prefetch, 0, 0, BYTES("/zero"), world.now);
        pause_long(&world);
    }
    prefetch_learn(world.prefetch, 0, 5, BYTES("/five"), world.now);
    struct prefetch_guess found;
    cr_assert(prefetch_predict(world.prefetch, 0, &found));
    cr_expect(bytes_equal(found.target, BYTES("/zero")));
    prefetch_destroy(world.prefetch);
}
