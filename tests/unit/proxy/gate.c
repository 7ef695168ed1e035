#include <stdio.h>

#include "gate_world.h"

static struct gate_world world;
static struct asker askers[16];

static struct gate *plain(void)
{
    return gates_plain(&world.gates[0], 0);
}

static const struct admission *admission(void)
{
    return plain()->owner->admission;
}

Test(gate, lets_as_many_through_as_the_limit_and_the_next_when_one_leaves)
{
    gate_world_start(&world, 1, 2);
    cr_expect_eq(ask(&askers[0], plain()), GATE_GRANTED);
    cr_expect_eq(ask(&askers[1], plain()), GATE_GRANTED);
    cr_expect_eq(ask(&askers[2], plain()), GATE_QUEUED);
    cr_expect_eq(ask(&askers[3], plain()), GATE_QUEUED);
    cr_expect_eq(gate_world_outstanding(&world), 2);
    leave(&askers[0]);
    cr_expect_eq(askers[2].decided, 0, "not from inside the call");
    gate_world_turn(&world, 0);
    cr_expect_eq(askers[2].decided, 1);
    cr_expect_eq(askers[2].pass.state, GATE_HELD);
    cr_expect_eq(askers[3].decided, 0);
    cr_expect_eq(gate_world_outstanding(&world), 2);
    leave(&askers[1]);
    leave(&askers[2]);
    gate_world_turn(&world, 0);
    cr_expect_eq(askers[3].pass.state, GATE_HELD);
    leave(&askers[3]);
    gate_world_stop(&world);
}

Test(gate, an_upstream_without_scheduling_has_none)
{
    gate_world_start(&world, 1, 2);
    world.options[0].is_enabled = false;
    cr_expect_null(gates_plain(&world.gates[0], 0));
    cr_expect_null(gates_model(&world.gates[0], 0, BYTES("m"), true));
    gate_world_stop(&world);
}

Test(gate, one_that_leaves_while_it_waits_is_never_let_through)
{
    gate_world_start(&world, 1, 1);
    cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
    cr_assert_eq(ask(&askers[1], plain()), GATE_QUEUED);
    cr_assert_eq(ask(&askers[2], plain()), GATE_QUEUED);
    leave(&askers[1]);
    leave(&askers[0]);
    gate_world_turn(&world, 0);
    cr_expect_eq(askers[1].decided, 0);
    cr_expect_eq(askers[2].decided, 1);
    leave(&askers[2]);
    gate_world_stop(&world);
}

Test(gate, one_that_leaves_between_its_grant_and_hearing_of_it_makes_room)
{
    gate_world_start(&world, 1, 1);
    cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
    cr_assert_eq(ask(&askers[1], plain()), GATE_QUEUED);
    cr_assert_eq(ask(&askers[2], plain()), GATE_QUEUED);
    leave(&askers[0]);
    cr_assert_eq(askers[1].pass.state, GATE_TO_BE_GRANTED);
    leave(&askers[1]);
    gate_world_turn(&world, 0);
    cr_expect_eq(askers[1].decided, 0);
    cr_expect_eq(askers[2].pass.state, GATE_HELD);
    leave(&askers[2]);
    gate_world_stop(&world);
}

Test(gate, one_that_leaves_between_being_shed_and_hearing_of_it_hears_nothing)
{
    gate_world_start(&world, 1, 1);
    cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
    for (unsigned i = 1; i < 9; i++) {
        cr_assert_eq(ask(&askers[i], plain()), GATE_QUEUED);
    }
    /* The queue is full: a better one has the worst put out. */
    gate_pass_init(&askers[9].pass, plain());
    askers[9].pass.on_decided = asker_on_decided;
    askers[9].pass.request.cost.prompt_tokens = 1;
    askers[9].pass.request.class = 0;
    cr_assert_eq(gate_enter(&askers[9].pass), GATE_QUEUED);
    unsigned shed = 0;
    for (unsigned i = 1; i < 9; i++) {
        shed += askers[i].pass.state == GATE_TO_BE_SHED;
    }
    cr_expect_eq(shed, 1);
    for (unsigned i = 1; i < 9; i++) {
        leave(&askers[i]);
    }
    gate_world_turn(&world, 0);
    for (unsigned i = 1; i < 9; i++) {
        cr_expect_eq(askers[i].decided, 0);
    }
    leave(&askers[9]);
    leave(&askers[0]);
    gate_world_stop(&world);
}

Test(gate, says_why_one_is_shed_at_once)
{
    gate_world_start(&world, 1, 1);
    cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
    for (unsigned i = 1; i < 9; i++) {
        cr_assert_eq(ask(&askers[i], plain()), GATE_QUEUED);
    }
    cr_expect_eq(ask(&askers[9], plain()), GATE_SHED);
    cr_expect_eq(askers[9].pass.shed, SCHED_SHED_QUEUE_FULL);
    cr_expect_eq(askers[9].decided, 0);
    for (unsigned i = 0; i < 10; i++) {
        leave(&askers[i]);
    }
    gate_world_stop(&world);
}

Test(gate, what_nobody_waits_for_goes_now_or_never)
{
    gate_world_start(&world, 1, 1);
    for (unsigned i = 0; i < 2; i++) {
        gate_pass_init(&askers[i].pass, plain());
        askers[i].pass.is_now_or_never = true;
        askers[i].pass.request.cost.prompt_tokens = 1;
        cr_expect_eq(gate_enter(&askers[i].pass), i == 0 ? GATE_GRANTED : GATE_SHED);
    }
    struct queue_figures figures;
    queue_figures(admission_queue(admission()), &figures);
    cr_expect_eq(figures.requests, 0);
    leave(&askers[0]);
    leave(&askers[1]);
    gate_world_stop(&world);
}

/* ---- models ---- */

Test(gate, each_model_has_its_own)
{
    gate_world_start(&world, 1, 1);
    struct gate *one = gates_model(&world.gates[0], 0, BYTES("one"), true);
    struct gate *other = gates_model(&world.gates[0], 0, BYTES("other"), true);
    cr_expect_neq(one, other);
    cr_expect_neq(one, gates_model(&world.gates[0], 1, BYTES("one"), true), "another upstream's");
    cr_expect_eq(one, gates_model(&world.gates[0], 0, BYTES("one"), true));
    cr_expect_eq(ask(&askers[0], one), GATE_GRANTED);
    cr_expect_eq(ask(&askers[1], other), GATE_GRANTED);
    cr_expect_eq(ask(&askers[2], one), GATE_QUEUED);
    for (unsigned i = 0; i < 3; i++) {
        leave(&askers[i]);
    }
    gate_world_stop(&world);
}

Test(gate, too_many_models_share_one_and_those_forgotten_make_room)
{
    gate_world_start(&world, 1, 1);
    char name[16];
    for (unsigned i = 0; i < GATE_MODELS_MAX; i++) {
        struct bytes model = {name, (size_t)snprintf(name, sizeof(name), "model-%u", i)};
        struct gate *gate = gates_model(&world.gates[0], 0, model, true);
        cr_assert_eq(gate->key.model.len, model.len);
        gate->used_ns = ring_now(world.rings[0]);
    }
    struct gate *nameless = gates_model(&world.gates[0], 0, BYTES_NONE, true);
    cr_expect_eq(gates_model(&world.gates[0], 0, BYTES("one-more"), true), nameless);
    cr_expect_eq(gates_model(&world.gates[0], 0, BYTES("yet-another"), true), nameless);
    cr_expect_neq(gates_model(&world.gates[0], 1, BYTES("one-more"), true), nameless,
                  "each upstream has its own bound");

    /* The one that was used longest ago goes, unless somebody is in it. */
    struct gate *first = gates_model(&world.gates[0], 0, BYTES("model-0"), true);
    cr_assert_eq(ask(&askers[0], first), GATE_GRANTED);
    for (struct list_node *node = world.gates[0].models.next; node != &world.gates[0].models; node = node->next) {
        CONTAINER_OF(node, struct gate, node)->used_ns = 0;
    }
    struct gate *second = gates_model(&world.gates[0], 0, BYTES("one-more"), true);
    cr_expect_neq(second, nameless);
    cr_expect_eq(gates_model(&world.gates[0], 0, BYTES("model-0"), true), first);
    leave(&askers[0]);
    gate_world_stop(&world);
}

Test(gate, a_name_that_is_too_long_has_none_of_its_own)
{
    gate_world_start(&world, 1, 1);
    char name[GATE_MODEL_BYTES_MAX + 1];
    memset(name, 'm', sizeof(name));
    cr_expect_eq(gates_model(&world.gates[0], 0, (struct bytes){name, sizeof(name)}, true),
                 gates_model(&world.gates[0], 0, BYTES_NONE, true));
    cr_expect_neq(gates_model(&world.gates[0], 0, (struct bytes){name, sizeof(name) - 1}, true),
                  gates_model(&world.gates[0], 0, BYTES_NONE, true));
    gate_world_stop(&world);
}

/* One request of a client for this name, that is answered so. Whether it shared its gate with strangers. */
static bool ask_for(struct bytes model, bool is_offered, unsigned status)
{
    struct asker *asker = &askers[0];
    memset(asker, 0, sizeof(*asker));
    gate_pass_init(&asker->pass, NULL);
    gate_pass_choose_model(&asker->pass, &world.gates[0], 0, model, is_offered);
    bool is_shared = gate_is_shared(asker->pass.gate);
    asker->pass.request.cost.prompt_tokens = 1;
    cr_assert_eq(gate_enter(&asker->pass), GATE_GRANTED);
    gate_on_answer(&asker->pass, status);
    leave(asker);
    return is_shared;
}

static unsigned count_gates(void)
{
    unsigned count = 0;
    for (struct list_node *node = world.gates[0].models.next; node != &world.gates[0].models; node = node->next) {
        count++;
    }
    return count;
}

Test(gate, made_up_names_have_none_of_their_own_but_a_few_until_their_first_answer)
{
    gate_world_start(&world, 1, 1);
    ask_for(BYTES("real"), false, 200);
    for (unsigned i = 0; i < 2 * GATE_MODELS_MAX; i++) {
        char name[24];
        struct bytes model = {name, (size_t)snprintf(name, sizeof(name), "made-up-%u", i)};
        bool is_tried = !ask_for(model, false, 404);
        cr_expect_eq(is_tried, i < GATE_TRIALS_MAX, "%s", name);
        cr_expect(ask_for(model, false, 404), "%s again", name);
        cr_expect_eq(count_gates(), 1, "what was tried is let go of");
    }
    cr_expect(!ask_for(BYTES("real"), false, 200));
    cr_expect(!ask_for(BYTES("offered"), true, 200), "the table is as empty as before");
    for (unsigned i = 0; i < GATE_TRIALS_MAX; i++) {
        world.gates[0].names[0]->trials[i].began_ns -= 60 * NANOS_PER_S;
    }
    cr_expect(!ask_for(BYTES("made-up-0"), false, 404), "a minute later it may be another's");
    gate_world_stop(&world);
}

Test(gate, a_name_has_its_own_once_it_was_answered)
{
    gate_world_start(&world, 1, 1);
    for (unsigned i = 0; i < GATE_TRIALS_MAX; i++) {
        const char name[] = {(char)('a' + i)};
        cr_expect(!ask_for((struct bytes){name, 1}, false, 404));
    }
    cr_expect(ask_for(BYTES("adapter"), false, 429));
    cr_expect(ask_for(BYTES("adapter"), false, 503));
    cr_expect(ask_for(BYTES("adapter"), false, 200), "nobody knew yet");
    cr_expect(!ask_for(BYTES("adapter"), false, 200));
    cr_expect(!ask_for(BYTES("adapter"), false, 404), "one that has been served stays one");
    cr_expect(!ask_for(BYTES("adapter"), false, 200));
    gate_world_stop(&world);
}

Test(gate, a_trial_ends_with_an_answer_that_says_something_of_the_name)
{
    gate_world_start(&world, 1, 1);
    for (unsigned i = 0; i < GATE_TRIALS_MAX - 1; i++) {
        const char name[] = {(char)('a' + i)};
        cr_expect(!ask_for((struct bytes){name, 1}, false, 404));
    }
    static const unsigned unsaid[] = {429, 408, 500, 503};
    for (unsigned i = 0; i < ARRAY_COUNT(unsaid); i++) {
        cr_expect(!ask_for(BYTES("x"), false, unsaid[i]), "it goes on after %u", unsaid[i]);
    }
    for (unsigned i = 0; i < 10; i++) {
        char name[24];
        struct bytes model = {name, (size_t)snprintf(name, sizeof(name), "served-%u", i)};
        cr_expect(ask_for(model, false, 404), "no trial is free");
    }
    cr_expect(!ask_for(BYTES("x"), false, 200));
    cr_expect(!ask_for(BYTES("y"), false, 200), "one who is proven leaves his place to the next");
    gate_world_stop(&world);
}

Test(gate, an_upstream_is_worth_being_asked_when_it_may_have_another_model)
{
    gate_world_start(&world, 1, 1);
    struct gate_pass pass;
    gate_pass_init(&pass, NULL);
    for (unsigned i = 0; i < GATE_NAMES_MANY; i++) {
        const char name[] = {(char)('a' + i)};
        gate_pass_choose_model(&pass, &world.gates[0], 0, (struct bytes){name, 1}, false);
        cr_expect(!gate_pass_is_doubtful(&pass), "most have a few");
        gate_on_answer(&pass, 200);
    }
    gate_pass_choose_model(&pass, &world.gates[0], 0, BYTES("other"), false);
    cr_expect(gate_pass_is_doubtful(&pass));
    gate_pass_choose_model(&pass, &world.gates[0], 0, BYTES("other"), true);
    cr_expect(!gate_pass_is_doubtful(&pass), "it has said so");
    gate_pass_choose_model(&pass, &world.gates[0], 0, BYTES_NONE, false);
    cr_expect(!gate_pass_is_doubtful(&pass));
    gate_pass_fini(&pass);
    gate_world_stop(&world);
}

Test(gate, names_that_were_served_long_ago_make_room_for_others)
{
    gate_world_start(&world, 1, 1);
    for (unsigned i = 0; i <= GATE_MODELS_MAX; i++) {
        char name[24];
        struct bytes model = {name, (size_t)snprintf(name, sizeof(name), "alias-%u", i)};
        ask_for(model, false, 200);
    }
    struct gate_names *names = world.gates[0].names[0];
    cr_assert_eq(names->count, GATE_MODELS_MAX);
    cr_expect(!ask_for(BYTES("alias-1"), false, 200));
    uint64_t first = names->proven[0].hash;
    ask_for(BYTES("alias-64"), false, 200);
    cr_expect_eq(names->proven[0].hash, first, "all others were served just now");
    names->proven[0].served_ns -= 61 * NANOS_PER_S;
    ask_for(BYTES("alias-64"), false, 200);
    cr_expect_neq(names->proven[0].hash, first);
    gate_world_stop(&world);
}

Test(gate, its_owner_and_its_limit_are_known_where_it_is_owned)
{
    gate_world_start(&world, 2, 3);
    unsigned owned[2] = {0};
    for (unsigned i = 0; i < 8; i++) {
        char name[16];
        struct bytes model = {name, (size_t)snprintf(name, sizeof(name), "model-%u", i)};
        unsigned owner = gates_owner_of(&world.gates[0], 0, model);
        cr_expect_eq(owner, gates_owner_of(&world.gates[1], 0, model));
        cr_expect_eq(gate_limit(gates_model(&world.gates[owner], 0, model, true)), 3);
        cr_expect_eq(gate_limit(gates_model(&world.gates[1 - owner], 0, model, true)), 0);
        owned[owner]++;
    }
    cr_expect(owned[0] > 0 && owned[1] > 0, "they are spread");
    cr_expect_eq(gate_limit(NULL), 0);
    gate_world_stop(&world);
}

/* ---- credit ---- */

Test(gate, requests_that_nobody_waits_beside_go_on_credit)
{
    gate_world_start(&world, 1, 12);
    unsigned on_credit = 0;
    for (unsigned i = 0; i < 12; i++) {
        cr_assert_eq(ask(&askers[i], plain()), GATE_GRANTED, "%u", i);
        on_credit += askers[i].pass.state == GATE_LENT;
    }
    cr_expect_geq(on_credit, 3);
    cr_expect_eq(gate_world_outstanding(&world), 12);
    cr_expect_eq(ask(&askers[12], plain()), GATE_QUEUED, "but never more than the limit");
    leave(&askers[0]);
    gate_world_turn(&world, 0);
    cr_expect_eq(askers[12].pass.state, GATE_HELD);
    for (unsigned i = 1; i < 13; i++) {
        leave(&askers[i]);
    }
    gate_world_stop(&world);
}

Test(gate, credit_is_taken_back_when_somebody_would_have_to_wait)
{
    gate_world_start(&world, 1, 8);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
        leave(&askers[0]);
    }
    cr_assert_gt(plain()->owner->lent, 0);
    /* Large requests do not go on credit: they get what is lent and lies idle. */
    struct gate *gate = plain();
    for (unsigned i = 0; i < 8; i++) {
        gate_pass_init(&askers[i].pass, NULL);
        askers[i].pass.on_decided = asker_on_decided;
        askers[i].pass.request.cost.prompt_tokens = 1;
        cr_expect_eq(gate_owner_enter(gate->owner, &askers[i].pass), GATE_GRANTED, "%u", i);
    }
    cr_expect_eq(gate->owner->lent, 0);
    for (unsigned i = 0; i < 8; i++) {
        gate_owner_leave(gate->owner, &askers[i].pass);
    }
    gate_world_stop(&world);
}

Test(gate, credit_that_nobody_uses_comes_back)
{
    gate_world_start(&world, 1, 8);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
        leave(&askers[0]);
    }
    cr_assert_gt(plain()->owner->lent, 0);
    loop_for_ms(world.rings[0], 2300);
    cr_expect_eq(plain()->owner->lent, 0);
    gate_world_stop(&world);
}

Test(gate, one_can_try_for_credit_before_anything_is_known_of_it)
{
    gate_world_start(&world, 1, 8);
    cr_expect(!gate_try(&askers[0].pass, NULL, 1));
    cr_expect(!gate_try(&askers[0].pass, plain(), 1), "there is none yet");
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
        leave(&askers[0]);
    }
    memset(&askers[1], 0xa5, sizeof(askers[1]));
    askers[1].pass.gate = NULL;
    askers[1].pass.seat = NULL;
    cr_expect(gate_try(&askers[1].pass, plain(), 1));
    cr_expect_eq(gate_world_outstanding(&world), 1);
    cr_expect_eq(askers[1].pass.request.class, 1);
    leave(&askers[1]);
    gate_world_stop(&world);
}

Test(gate, a_refusal_with_a_pause_ends_credit_at_once)
{
    gate_world_start(&world, 1, 8);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
        leave(&askers[0]);
    }
    cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
    cr_assert_eq(askers[0].pass.state, GATE_LENT);
    askers[0].pass.outcome.is_refused = true;
    askers[0].pass.outcome.retry_after_ns = 50 * NANOS_PER_MS;
    leave(&askers[0]);
    cr_expect_eq(plain()->owner->lent, 0);
    cr_expect_eq(ask(&askers[1], plain()), GATE_QUEUED);
    cr_expect(loop_until_count(world.rings[0], &askers[1].decided, 1));
    cr_expect_eq(askers[1].pass.state, GATE_HELD);
    leave(&askers[1]);
    gate_world_stop(&world);
}

Test(gate, every_request_on_credit_is_counted_though_not_every_one_is_told_of)
{
    gate_world_start(&world, 1, 8);
    for (unsigned i = 0; i < 500; i++) {
        cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
        leave(&askers[0]);
    }
    loop_for_ms(world.rings[0], 5);
    cr_assert_eq(ask(&askers[0], plain()), GATE_GRANTED);
    leave(&askers[0]);
    struct admission_figures figures;
    admission_figures(admission(), ring_now(world.rings[0]), &figures);
    cr_expect_eq(figures.counters.granted, 501);
    cr_expect_eq(figures.counters.released, 501);
    gate_world_stop(&world);
}
