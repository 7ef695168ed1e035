/* Gates whose admission another worker has: worker 0 owns upstream 0, worker 1 asks. */
#include <stdio.h>

#include "gate_world.h"
#include "sched/endpoints.h"

static struct gate_world world;
static struct asker askers[16];
static struct asker others[16]; /* the owner's own */

static struct gate *here(void)
{
    return gates_plain(&world.gates[0], 0);
}

static struct gate *there(void)
{
    return gates_plain(&world.gates[1], 0);
}

static uint64_t wakes(unsigned worker)
{
    return counter_load(&ring_counters(world.rings[worker])->wakes);
}

Test(gate_link, asks_the_owner_and_is_told)
{
    gate_world_start(&world, 2, 1);
    cr_assert_eq(ask(&askers[0], there()), GATE_QUEUED);
    cr_assert_eq(ask(&askers[1], there()), GATE_QUEUED);
    gate_world_run(&world);
    cr_expect_eq(askers[0].pass.state, GATE_HELD);
    cr_expect_eq(askers[0].decided, 1);
    cr_expect_eq(askers[1].decided, 0);
    cr_expect_eq(gate_world_outstanding(&world), 1);
    cr_expect_eq(ask(&others[0], here()), GATE_QUEUED, "the limit is one for all");
    leave(&askers[0]);
    gate_world_run(&world);
    cr_expect_eq(askers[1].pass.state, GATE_HELD);
    leave(&askers[1]);
    gate_world_run(&world);
    cr_expect_eq(others[0].pass.state, GATE_HELD);
    leave(&others[0]);
    gate_world_stop(&world);
}

Test(gate_link, is_told_why_it_was_shed)
{
    gate_world_start(&world, 2, 1);
    for (unsigned i = 0; i < 10; i++) {
        cr_assert_eq(ask(&askers[i], there()), GATE_QUEUED);
    }
    gate_world_run(&world);
    unsigned shed = 0;
    for (unsigned i = 0; i < 10; i++) {
        shed += askers[i].pass.state == GATE_OUT && askers[i].pass.shed == SCHED_SHED_QUEUE_FULL;
    }
    cr_expect_eq(shed, 1);
    for (unsigned i = 0; i < 10; i++) {
        leave(&askers[i]);
    }
    gate_world_stop(&world);
}

/* A fetch may go at any moment of its asking. After `turns` turns of the two workers it does. */
static void leave_after(unsigned turns, bool is_blocked)
{
    gate_world_start(&world, 2, 1);
    if (is_blocked) {
        cr_assert_eq(ask(&others[0], here()), GATE_GRANTED);
    }
    gate_world_run(&world);
    cr_assert_eq(ask(&askers[0], there()), GATE_QUEUED);
    for (unsigned i = 0; i < turns; i++) {
        gate_world_turn(&world, i % 2);
    }
    leave(&askers[0]);
    if (is_blocked) {
        leave(&others[0]);
    }
    cr_assert_eq(ask(&askers[1], there()), GATE_QUEUED);
    gate_world_run(&world);
    cr_expect_eq(askers[1].pass.state, GATE_HELD, "%u", turns);
    leave(&askers[1]);
    gate_world_stop(&world);
}

Test(gate_link, one_that_leaves_at_any_moment_gives_its_grant_back)
{
    for (unsigned turns = 0; turns < 6; turns++) {
        leave_after(turns, false);
        leave_after(turns, true);
    }
}

/* The same for one that is shed: its answer and its leaving cross. */
Test(gate_link, one_that_leaves_while_it_is_being_shed_leaves_nothing_behind)
{
    for (unsigned turns = 0; turns < 6; turns++) {
        gate_world_start(&world, 2, 1);
        cr_assert_eq(ask(&others[0], here()), GATE_GRANTED);
        for (unsigned i = 1; i < 9; i++) {
            cr_assert_eq(ask(&others[i], here()), GATE_QUEUED);
        }
        cr_assert_eq(ask(&askers[0], there()), GATE_QUEUED);
        for (unsigned i = 0; i < turns; i++) {
            gate_world_turn(&world, i % 2);
        }
        leave(&askers[0]);
        for (unsigned i = 0; i < 9; i++) {
            leave(&others[i]);
        }
        gate_world_stop(&world);
    }
}

/* Several at once, until they need not ask any more. */
static void warm_up(void)
{
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 6; i++) {
            enum gate_answer answer = ask(&askers[i], there());
            cr_assert_neq(answer, GATE_SHED);
        }
        gate_world_run(&world);
        for (unsigned i = 0; i < 6; i++) {
            leave(&askers[i]);
        }
        gate_world_run(&world);
    }
}

Test(gate_link, goes_on_credit_without_a_message_while_nobody_waits)
{
    gate_world_start(&world, 2, 64);
    warm_up();
    uint64_t before = wakes(0) + wakes(1);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(ask(&askers[i], there()), GATE_GRANTED);
        cr_expect_eq(askers[i].pass.state, GATE_LENT);
    }
    for (unsigned i = 0; i < 3; i++) {
        leave(&askers[i]);
    }
    cr_expect_not(atomic_load(&there()->link->is_nudged));
    cr_expect_eq(wakes(0) + wakes(1), before);
    gate_world_stop(&world);
}

Test(gate_link, what_is_at_hand_elsewhere_is_taken_back_when_somebody_would_have_to_wait)
{
    gate_world_start(&world, 2, 16);
    warm_up();
    cr_assert_geq(lease_free(&there()->link->lease), 2);
    cr_assert_eq(ask(&askers[0], there()), GATE_GRANTED); /* on credit */
    for (unsigned i = 0; i < 15; i++) {
        cr_expect_eq(ask(&others[i], here()), GATE_GRANTED, "%u", i);
    }
    cr_expect_eq(ask(&others[15], here()), GATE_QUEUED, "one is in use over there");
    cr_expect_eq(lease_free(&there()->link->lease), 0);
    leave(&askers[0]);
    gate_world_run(&world);
    cr_expect_eq(others[15].pass.state, GATE_HELD, "its slot has come back");
    for (unsigned i = 0; i < 16; i++) {
        leave(&others[i]);
    }
    gate_world_stop(&world);
}

Test(gate_link, under_backlog_a_request_costs_one_message_there_one_back_and_one_to_release)
{
    gate_world_start(&world, 2, 1);
    cr_assert_eq(ask(&others[0], here()), GATE_GRANTED);
    for (unsigned i = 0; i < 8; i++) {
        cr_assert_eq(ask(&askers[i], there()), GATE_QUEUED);
    }
    cr_expect(atomic_load(&there()->link->is_nudged), "eight questions, one message");
    gate_world_run(&world);
    leave(&others[0]);
    for (unsigned i = 0; i < 8; i++) {
        gate_world_turn(&world, 0); /* grants */
        gate_world_turn(&world, 1); /* hears of it */
        cr_expect_eq(askers[i].pass.state, GATE_HELD, "%u", i);
        gate_on_first_token(&askers[i].pass, ring_now(world.rings[1]));
        gate_on_tokens(&askers[i].pass, 3);
        cr_expect_not(atomic_load(&there()->link->is_nudged), "what can wait costs no message");
        leave(&askers[i]);
        cr_expect(atomic_load(&there()->link->is_nudged));
    }
    gate_world_stop(&world);
}

Test(gate_link, events_that_find_no_room_are_told_later)
{
    gate_world_start(&world, 2, 1);
    cr_assert_eq(ask(&askers[0], there()), GATE_QUEUED);
    gate_world_run(&world);
    cr_assert_eq(askers[0].pass.state, GATE_HELD);
    struct gate_link *link = there()->link;
    atomic_store(&link->is_nudged, true); /* the owner hears nothing for now */
    unsigned told = 0;
    while (lease_push(&link->lease, &(struct lease_event){.kind = LEASE_TOKENS, .seat = askers[0].pass.seat})) {
        told++;
    }
    cr_assert_gt(told, 0);
    gate_on_first_token(&askers[0].pass, ring_now(world.rings[1]));
    leave(&askers[0]);
    cr_assert_eq(ask(&askers[1], there()), GATE_QUEUED);
    cr_assert_eq(ask(&askers[2], there()), GATE_QUEUED);
    leave(&askers[2]); /* was never even asked for */
    cr_expect_not(list_is_empty(&link->untold));
    atomic_store(&link->is_nudged, false);
    for (unsigned i = 0; i < 200 && askers[1].decided == 0; i++) {
        loop_for_ms(world.rings[1], 2);
        gate_world_turn(&world, 0);
        gate_link_look(link);
        gate_world_run(&world);
    }
    cr_expect_eq(askers[1].pass.state, GATE_HELD);
    leave(&askers[1]);
    gate_world_stop(&world);
}

Test(gate_link, models_that_are_forgotten_are_let_go_of_by_their_owner)
{
    gate_world_start(&world, 2, 4);
    char name[16];
    unsigned elsewhere = 0;
    for (unsigned i = 0; i < 3 * GATE_MODELS_MAX; i++) {
        struct bytes model = {name, (size_t)snprintf(name, sizeof(name), "model-%u", i)};
        struct gate *gate = gates_model(&world.gates[1], 0, model, true);
        enum gate_answer answer = ask(&askers[0], gate);
        elsewhere += gate->link != NULL;
        gate_world_run(&world);
        cr_expect(answer == GATE_GRANTED || askers[0].pass.state == GATE_HELD);
        leave(&askers[0]);
        gate_world_run(&world);
        gate->used_ns = 0; /* long ago */
    }
    cr_expect_gt(elsewhere, GATE_MODELS_MAX);
    unsigned owned = 0;
    for (unsigned w = 0; w < 2; w++) {
        for (struct list_node *node = world.gates[w].owners.next; node != &world.gates[w].owners; node = node->next) {
            owned++;
        }
    }
    cr_expect_leq(owned, GATE_MODELS_MAX);
    gate_world_stop(&world);
}

/* ---- several endpoints */

static void start_with_endpoints(uint32_t endpoint_limit)
{
    gate_world_start(&world, 2, 100);
    for (unsigned i = 0; i < 2; i++) {
        world.options[i].plain.endpoint_count = 2;
        world.options[i].plain.endpoint_limit = endpoint_limit;
    }
}

static uint32_t in_flight_at(unsigned endpoint)
{
    return admission_endpoints(here()->owner->admission)->all[endpoint].in_flight;
}

Test(gate_link, a_grant_names_an_endpoint_and_the_owner_hears_where_it_went_instead)
{
    start_with_endpoints(2);
    cr_assert_eq(ask(&askers[0], there()), GATE_QUEUED);
    gate_world_run(&world);
    unsigned named = gate_endpoint(&askers[0].pass);
    cr_assert_lt(named, 2);
    cr_expect_eq(in_flight_at(named), 1);
    gate_on_endpoint(&askers[0].pass, 1 - named);
    gate_world_run(&world);
    cr_expect_eq(in_flight_at(named), 0);
    cr_expect_eq(in_flight_at(1 - named), 1);
    cr_assert_eq(ask(&others[0], here()), GATE_GRANTED);
    cr_expect_eq(gate_endpoint(&others[0].pass), 1 - named, "the other is out of reach");
    leave(&askers[0]);
    leave(&others[0]);
    gate_world_run(&world);
    cr_expect_eq(in_flight_at(1 - named), 0);
    gate_world_stop(&world);
}

Test(gate_link, where_it_went_is_heard_with_its_end_if_not_before)
{
    start_with_endpoints(2);
    cr_assert_eq(ask(&askers[0], there()), GATE_QUEUED);
    gate_world_run(&world);
    unsigned named = gate_endpoint(&askers[0].pass);
    askers[0].pass.request.endpoint = (uint8_t)(1 - named); /* as if there had been no room to mention it */
    askers[0].pass.outcome.is_refused = true;
    leave(&askers[0]);
    gate_world_run(&world);
    const struct endpoints *endpoints = admission_endpoints(here()->owner->admission);
    cr_expect_eq(endpoints->all[1 - named].cuts, 1, "it is the one that has refused");
    cr_expect_eq(endpoints->all[named].cuts, 0);
    gate_world_stop(&world);
}

Test(gate_link, nothing_is_lent_where_endpoints_have_limits)
{
    start_with_endpoints(50);
    for (unsigned i = 0; i < 8; i++) {
        cr_assert_eq(ask(&askers[i], there()), GATE_QUEUED);
        gate_world_run(&world);
        cr_expect_eq(askers[i].pass.state, GATE_HELD);
    }
    cr_expect_eq(here()->owner->lent, 0);
    cr_expect_eq(in_flight_at(0) + in_flight_at(1), 8);
    for (unsigned i = 0; i < 8; i++) {
        leave(&askers[i]);
    }
    gate_world_stop(&world);
}

Test(gate_link, a_refusal_of_one_on_credit_ends_the_lending)
{
    start_with_endpoints(0);
    cr_assert_eq(ask(&askers[0], there()), GATE_QUEUED);
    gate_world_run(&world);
    cr_assert_eq(ask(&askers[1], there()), GATE_GRANTED, "on credit");
    gate_on_endpoint(&askers[1].pass, 1);
    cr_expect_gt(here()->owner->lent, 0);
    askers[1].pass.outcome.is_refused = true;
    leave(&askers[1]);
    gate_world_run(&world);
    cr_expect_eq(admission_endpoints(here()->owner->admission)->all[1].cuts, 1);
    cr_expect_eq(here()->owner->lent, 0);
    leave(&askers[0]);
    gate_world_stop(&world);
}
