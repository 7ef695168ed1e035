/* Whose matter a 429 is. */
#include <unistd.h>

#include "gate_world.h"

enum { ALICE = 11, BOB, CAROL, DAVE, ERIN };

static struct gate_world world;
static struct asker waiting;

static struct gate *model(void)
{
    return gates_model(&world.gates[0], 0, BYTES("m"), true);
}

/* A limiter that learns, so that refusals cut. */
static void begin(void)
{
    gate_world_start(&world, 1, 20);
    world.options[0].model.limiter.kind = LIMITER_EXCESS;
    world.options[0].model.limiter.max = 100;
    world.options[0].model.limiter.slo_first_ns = NANOS_PER_S;
    world.options[0].model.limiter.time_scale_milli = 1000;
}

/* A request of this account that cannot wait; whether it was let through, and then it is answered so. */
static bool ask_as(uint64_t account, unsigned status, nanos retry_after_ns)
{
    struct asker asker;
    memset(&asker, 0, sizeof(asker));
    struct gate_pass *pass = &asker.pass;
    gate_pass_init(pass, model());
    pass->account = account;
    pass->request.deadline_ns = ring_now(world.rings[0]) + NANOS_PER_S / 2;
    pass->request.cost.prompt_tokens = 1;
    bool may_go = gate_enter(pass) == GATE_GRANTED;
    if (may_go) {
        pass->outcome.retry_after_ns = retry_after_ns;
        gate_on_answer(pass, status);
        pass->outcome.is_refused = status == 429 || status == 503;
    } else {
        cr_expect_eq(pass->shed, SCHED_SHED_CLIENT_PAUSED);
        cr_expect(pass->retry_after_ns > 0 && pass->retry_after_ns <= 60 * NANOS_PER_S);
    }
    leave(&asker);
    return may_go;
}

static uint64_t cuts(void)
{
    struct admission_figures figures;
    admission_figures(model()->owner->admission, ring_now(world.rings[0]), &figures);
    return figures.cuts[LIMITER_CAUSE_REFUSED];
}

Test(gate_accounts, a_pause_that_one_is_asked_for_is_his_alone)
{
    begin();
    cr_expect(ask_as(BOB, 200, 0));
    cr_expect(ask_as(ALICE, 429, 30 * NANOS_PER_S));
    cr_expect(!ask_as(ALICE, 200, 0));
    cr_expect(ask_as(BOB, 200, 0));
    cr_expect(ask_as(0, 200, 0), "nor that of those without credentials");
    cr_expect_eq(cuts(), 0, "and nothing was learned of the backend");
    cr_expect_eq(gate_owner_turned_away(model()->owner), 1);
    gate_world_stop(&world);
}

Test(gate_accounts, who_comes_after_a_lone_one_is_not_held_up_by_his_pause)
{
    begin();
    cr_expect(ask_as(ALICE, 429, 30 * NANOS_PER_S));
    cr_expect_eq(cuts(), 1, "alone, nobody can tell");
    cr_expect(!ask_as(ALICE, 200, 0));
    cr_expect(ask_as(BOB, 200, 0));
    gate_world_stop(&world);
}

Test(gate_accounts, a_pause_that_many_are_asked_for_is_the_backends)
{
    begin();
    cr_expect(ask_as(ALICE, 200, 0));
    cr_expect(ask_as(BOB, 429, 30 * NANOS_PER_S));
    cr_expect(ask_as(CAROL, 429, 30 * NANOS_PER_S));
    cr_expect_eq(cuts(), 1, "one of two others had it, too");
    cr_expect(!ask_as(BOB, 200, 0));
    memset(&waiting, 0, sizeof(waiting));
    cr_expect_eq(ask(&waiting, model()), GATE_QUEUED, "the pause is everybody's");
    leave(&waiting);
    gate_world_stop(&world);
}

Test(gate_accounts, one_in_four_may_have_had_enough_by_himself)
{
    begin();
    cr_expect(ask_as(ALICE, 200, 0));
    cr_expect(ask_as(CAROL, 200, 0));
    cr_expect(ask_as(DAVE, 200, 0));
    cr_expect(ask_as(BOB, 429, NANOS_PER_S));
    cr_expect(ask_as(ERIN, 429, NANOS_PER_S));
    cr_expect_eq(cuts(), 0);
    cr_expect(ask_as(ALICE, 429, NANOS_PER_S));
    cr_expect_eq(cuts(), 1, "two of four are more");
    gate_world_stop(&world);
}

Test(gate_accounts, without_credentials_it_is_the_backends)
{
    begin();
    cr_expect(ask_as(BOB, 200, 0));
    cr_expect(ask_as(0, 429, 30 * NANOS_PER_S));
    cr_expect_eq(cuts(), 1);
    gate_world_stop(&world);
}

Test(gate_accounts, a_503_is_the_backends_whoever_gets_it)
{
    begin();
    cr_expect(ask_as(BOB, 200, 0));
    cr_expect(ask_as(ALICE, 503, 0));
    cr_expect_eq(cuts(), 1);
    cr_expect(ask_as(ALICE, 200, 0));
    gate_world_stop(&world);
}

Test(gate_accounts, who_is_in_the_queue_when_the_pause_comes_waits_for_its_end)
{
    begin();
    struct asker first;
    struct asker second;
    cr_expect(ask_as(BOB, 200, 0));
    world.options[0].model.limiter.max = 1;
    struct gate *gate = gates_model(&world.gates[0], 0, BYTES("narrow"), true);
    cr_assert_eq(ask(&first, gate), GATE_GRANTED);
    first.pass.account = ALICE;
    memset(&second, 0, sizeof(second));
    gate_pass_init(&second.pass, gate);
    second.pass.on_decided = asker_on_decided;
    second.pass.account = ALICE;
    second.pass.request.cost.prompt_tokens = 1;
    cr_assert_eq(gate_enter(&second.pass), GATE_QUEUED);
    first.pass.outcome.retry_after_ns = 30 * NANOS_PER_S;
    gate_on_answer(&first.pass, 429);
    leave(&first);
    gate_world_run(&world);
    cr_expect_eq(second.decided, 0);
    cr_expect_eq(second.pass.state, GATE_PAUSED, "it can wait");
    cr_expect_eq(gate_world_outstanding(&world), 0);
    leave(&second);
    gate_world_stop(&world);
}

/* Until nothing more can come of it. */
static void run_until_decided(const struct asker *asker)
{
    for (unsigned i = 0; i < 2000 && asker->decided == 0; i++) {
        gate_world_run(&world);
        usleep(1000);
    }
}

Test(gate_accounts, who_can_wait_waits_until_the_pause_is_over)
{
    begin();
    struct asker askers[3];
    cr_expect(ask_as(ALICE, 429, 30 * NANOS_PER_MS));
    for (unsigned i = 0; i < 3; i++) {
        memset(&askers[i], 0, sizeof(askers[i]));
        gate_pass_init(&askers[i].pass, model());
        askers[i].pass.on_decided = asker_on_decided;
        askers[i].pass.account = ALICE;
        askers[i].pass.request.cost.prompt_tokens = 1;
        cr_assert_eq(gate_enter(&askers[i].pass), GATE_QUEUED);
    }
    cr_expect_eq(counter_load(&world.gates[0].paused_count), 3);
    cr_expect(!gates_are_settled(&world.gates[0]));
    leave(&askers[1]);
    run_until_decided(&askers[0]);
    cr_expect_eq(counter_load(&world.gates[0].paused_count), 0);
    cr_expect(askers[0].pass.state == GATE_HELD || askers[0].pass.state == GATE_LENT);
    cr_expect_eq(askers[1].decided, 0);
    cr_expect_eq(askers[2].decided, 1);
    cr_expect_eq(gate_world_outstanding(&world), 2);
    leave(&askers[0]);
    leave(&askers[2]);
    gate_world_stop(&world);
}

/* One that waits, of Alice's. */
static void wait_as_alice(struct asker *asker, uint8_t class, nanos wait_ns)
{
    memset(asker, 0, sizeof(*asker));
    gate_pass_init(&asker->pass, model());
    asker->pass.on_decided = asker_on_decided;
    asker->pass.account = ALICE;
    asker->pass.request.class = class;
    asker->pass.request.deadline_ns = ring_now(world.rings[0]) + wait_ns;
    asker->pass.request.cost.prompt_tokens = 1;
    cr_assert_eq(gate_enter(&asker->pass), GATE_QUEUED);
}

Test(gate_accounts, who_can_no_longer_wait_when_the_pause_becomes_longer_is_told_of_it)
{
    begin();
    struct asker under_way;
    struct asker short_of_time;
    struct asker patient;
    cr_assert_eq(ask(&under_way, model()), GATE_GRANTED);
    under_way.pass.account = ALICE;
    cr_expect(ask_as(ALICE, 429, 30 * NANOS_PER_MS));
    wait_as_alice(&short_of_time, 2, 10 * NANOS_PER_S);
    wait_as_alice(&patient, 2, 100 * NANOS_PER_S);
    under_way.pass.outcome.retry_after_ns = 30 * NANOS_PER_S;
    gate_on_answer(&under_way.pass, 429);
    leave(&under_way);
    run_until_decided(&short_of_time);
    cr_expect_eq(short_of_time.decided, 1);
    cr_expect_eq(short_of_time.pass.state, GATE_OUT);
    cr_expect_eq(short_of_time.pass.shed, SCHED_SHED_CLIENT_PAUSED);
    cr_expect_gt(short_of_time.pass.retry_after_ns, 20 * NANOS_PER_S);
    cr_expect_eq(patient.pass.state, GATE_PAUSED);
    cr_expect_eq(counter_load(&world.gates[0].paused_count), 1);
    leave(&short_of_time);
    leave(&patient);
    gate_world_stop(&world);
}

Test(gate_accounts, when_the_pause_is_over_upper_classes_go_first)
{
    gate_world_start(&world, 1, 1);
    struct asker lower;
    struct asker upper;
    cr_expect(ask_as(ALICE, 429, 30 * NANOS_PER_MS));
    wait_as_alice(&lower, 3, 10 * NANOS_PER_S);
    wait_as_alice(&upper, 0, 10 * NANOS_PER_S);
    run_until_decided(&upper);
    cr_expect_eq(upper.decided, 1);
    cr_expect(upper.pass.state == GATE_HELD || upper.pass.state == GATE_LENT);
    cr_expect_eq(lower.pass.state, GATE_WAITING, "there is room for one");
    leave(&lower);
    leave(&upper);
    gate_world_stop(&world);
}

Test(gate_accounts, who_got_his_turn_in_the_pause_gets_another)
{
    gate_world_start(&world, 2, 1);
    struct bytes name = BYTES("m");
    unsigned owner = gates_owner_of(&world.gates[0], 0, name);
    struct asker first;
    struct asker second;
    for (unsigned here = 0; here < 2; here++) { /* at the owner, and elsewhere */
        struct gate *gate = gates_model(&world.gates[here == 0 ? owner : 1 - owner], 0, name, true);
        (void)ask(&first, gate);
        gate_world_run(&world);
        memset(&second, 0, sizeof(second));
        gate_pass_init(&second.pass, gate);
        second.pass.on_decided = asker_on_decided;
        second.pass.account = ALICE;
        second.pass.request.cost.prompt_tokens = 1;
        cr_assert_eq(gate_enter(&second.pass), GATE_QUEUED);
        gate_world_run(&world);
        first.pass.account = ALICE;
        first.pass.outcome.retry_after_ns = 30 * NANOS_PER_MS;
        gate_on_answer(&first.pass, 429);
        leave(&first);
        gate_world_run(&world);
        cr_expect_eq(second.pass.state, GATE_PAUSED);
        run_until_decided(&second);
        cr_expect_eq(second.decided, 1);
        cr_expect(second.pass.state == GATE_HELD || second.pass.state == GATE_LENT);
        leave(&second);
        gate_world_run(&world);
        cr_expect_eq(gate_world_outstanding(&world), 0);
    }
    gate_world_stop(&world);
}

Test(gate_accounts, no_more_wait_for_a_pause_than_the_queue_may_have)
{
    begin();
    struct asker askers[9]; /* requests_max is 8 */
    cr_expect(ask_as(ALICE, 429, 30 * NANOS_PER_S));
    for (unsigned i = 0; i < 9; i++) {
        memset(&askers[i], 0, sizeof(askers[i]));
        gate_pass_init(&askers[i].pass, model());
        askers[i].pass.account = ALICE;
        cr_expect_eq(gate_enter(&askers[i].pass), i < 8 ? GATE_QUEUED : GATE_SHED);
    }
    for (unsigned i = 0; i < 9; i++) {
        leave(&askers[i]);
    }
    cr_expect(ask_as(BOB, 200, 0));
    gate_world_stop(&world);
}

Test(gate_accounts, nobody_is_turned_away_where_it_only_observes)
{
    begin();
    world.options[0].model.observe_only = true;
    cr_expect(ask_as(ALICE, 429, 30 * NANOS_PER_S));
    cr_expect(ask_as(ALICE, 200, 0));
    gate_world_stop(&world);
}

Test(gate_accounts, a_pause_is_kept_however_many_others_come)
{
    begin();
    cr_expect(ask_as(ALICE, 429, 30 * NANOS_PER_S));
    for (uint64_t account = 100; account < 200; account++) {
        cr_expect(ask_as(account, 200, 0));
    }
    cr_expect(!ask_as(ALICE, 200, 0));
    gate_world_stop(&world);
}

Test(gate_accounts, of_another_worker_are_counted_at_the_owner)
{
    gate_world_start(&world, 2, 20);
    struct bytes name = BYTES("m");
    unsigned owner = gates_owner_of(&world.gates[0], 0, name);
    struct gate *gate = gates_model(&world.gates[1 - owner], 0, name, true);
    cr_assert_not_null(gate->link);
    struct asker asker;
    for (unsigned i = 0; i < 2; i++) {
        memset(&asker, 0, sizeof(asker));
        gate_pass_init(&asker.pass, gate);
        asker.pass.on_decided = asker_on_decided;
        asker.pass.account = ALICE;
        asker.pass.request.deadline_ns = ring_now(world.rings[0]) + NANOS_PER_S;
        asker.pass.request.cost.prompt_tokens = 1;
        enum gate_answer answer = gate_enter(&asker.pass);
        gate_world_run(&world);
        cr_assert_eq(answer, i == 0 ? GATE_QUEUED : GATE_SHED);
        asker.pass.outcome.retry_after_ns = 30 * NANOS_PER_S;
        if (i == 0) {
            gate_on_answer(&asker.pass, 429);
        }
        leave(&asker);
    }
    gate_world_run(&world);
    cr_expect_eq(gate_owner_turned_away(gate->link->owner), 1);
    gate_world_stop(&world);
}
